"""A small film as ingest would cut it: init and fragments of one second, from real encoders."""

import hashlib
import io
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import lru_cache
from typing import Any

import av
import numpy as np
from msgspec import structs

from services.archive import boxes
from services.contracts.epoch import RunId
from services.contracts.fragment import Chunk, Fragment, VideoEnd, read_video_headers
from services.contracts.topics import VIDEO
from services.runtime.kafka_port import Outgoing

FPS = 25
SECOND_US = 1_000_000
START_US = 1_777_640_000 * SECOND_US
EPOCH = START_US - 5 * SECOND_US


@dataclass(frozen=True)
class Film:
    """`fragments[i]` holds second i."""

    init: bytes
    fragments: tuple[bytes, ...]
    keys: tuple[bool, ...]

    @property
    def whole(self) -> bytes:
        return self.init + b"".join(self.fragments)


@lru_cache
def make_film(*, seconds: int = 8, gop_s: int = 2, codec: str = "libx264", b_frames: int = 0) -> Film:
    """Encode moving noise; key pictures every `gop_s`."""
    target = io.BytesIO()
    flags = "empty_moov+default_base_moof+negative_cts_offsets+frag_keyframe"
    options = {"movflags": flags, "frag_duration": "999000"}
    with av.open(target, mode="w", format="mp4", options=options) as output:
        stream: Any = output.add_stream(codec, rate=FPS)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        gop = f"keyint={FPS * gop_s}:min-keyint={FPS * gop_s}:scenecut=0:bframes={b_frames}:open-gop=0:log-level=0"
        stream.options = {f"{codec.removeprefix('lib')}-params": gop, "preset": "ultrafast"}
        random = np.random.default_rng(7)
        for index in range(seconds * FPS):
            picture = random.integers(0, 255, (48, 64, 3), dtype=np.uint8)
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = index, Fraction(1, FPS)
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    return _split(target.getvalue(), gop_s)


def _split(data: bytes, gop_s: int) -> Film:
    found = list(boxes.walk(memoryview(data)))
    begins = [box.start for box in found if box.kind == b"moof"]
    ends = [box.end for box in found if box.kind == b"mdat"]
    fragments = tuple(data[begin:end] for begin, end in zip(begins, ends, strict=True))
    return Film(
        init=data[: begins[0]],
        fragments=fragments,
        keys=tuple(index % gop_s == 0 for index in range(len(fragments))),
    )


def fragment_record(
    film: Film,
    index: int,
    *,
    camera_id: str = "cam-1",
    epoch: int = EPOCH,
    run: int = 0,
    seq: int | None = None,
    start_us: int | None = None,
    retention_class: str = "standard",
) -> Outgoing:
    """Return the record of second `index`; the film goes on from its beginning after its end."""
    value = film.fragments[index % len(film.fragments)]
    start_us = START_US + index * SECOND_US if start_us is None else start_us
    fragment = Fragment(
        camera_id=camera_id,
        stream="main",
        epoch=epoch,
        run=run,
        seq=index if seq is None else seq,
        start_us=start_us,
        wall_us=SECOND_US,
        media_90k=90_000,
        rtp_start_90k=index * 90_000,
        recv_first_us=start_us,
        recv_last_us=start_us + SECOND_US,
        clock_offset_us=None,
        camera_offset_ms=None,
        clock="synced",
        keyframe=film.keys[index % len(film.fragments)],
        broken_refs=False,
        codec="avc1.42c01e",
        retention_class=retention_class,
        init_sha256=hashlib.sha256(film.init).hexdigest(),
        sha256=hashlib.sha256(value).hexdigest(),
        signed_sei="absent",
        init=film.init,
    )
    return Outgoing(
        topic=VIDEO.name, key=camera_id, value=value, headers=fragment.to_headers(),
        timestamp_ms=(start_us + SECOND_US) // 1000,
    )  # fmt: skip


def chunk_records(record: Outgoing, count: int) -> tuple[Outgoing, ...]:
    """Cut a fragment's record into chunks; a reader does not depend on their size."""
    whole, value = read_video_headers(record.headers), bytes(record.value or b"")
    assert isinstance(whole, Fragment)
    size = -(-len(value) // count)
    return tuple(
        replace(
            record,
            value=value[at : at + size],
            headers=structs.replace(whole, chunk=Chunk(at_bytes=at, fragment_bytes=len(value))).to_headers(),
        )
        for at in range(0, len(value), size)
    )


def end_record(*, seq: int, end_us: int, camera_id: str = "cam-1", epoch: int = EPOCH, run: int = 0) -> Outgoing:
    """Return the record that ends a run."""
    end = VideoEnd(camera_id=camera_id, stream="main", epoch=epoch, run=run, seq=seq, end_us=end_us)
    return Outgoing(topic=VIDEO.name, key=camera_id, value=b"", headers=end.to_headers(), timestamp_ms=end_us // 1000)


def run_id(camera_id: str = "cam-1", epoch: int = EPOCH, run: int = 0) -> RunId:
    return RunId(camera_id, "main", epoch, run)


def coded_bytes(source: Any) -> list[bytes]:
    """Return the coded bytes of every picture, in decode order."""
    with av.open(source, mode="r") as container:
        return [bytes(packet) for packet in container.demux(container.streams.video[0]) if packet.size]


def shown_times(source: Any) -> list[float]:
    """Return the presentation times that a player shows, from 0."""
    with av.open(source, mode="r") as container:
        packets = [packet for packet in container.demux(container.streams.video[0]) if packet.size]
        times = sorted(float(packet.pts * packet.time_base) for packet in packets if packet.pts is not None)
    return [at for at in times if at >= 0]
