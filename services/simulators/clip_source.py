"""Where a simulated camera's pictures come from: a pattern encoded at start, or a given MP4 file.

A clip is a list of access units with their NAL units byte for byte, played in a loop on one
continuous timeline. Only simulators decode or encode.
"""

import hashlib
import itertools
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from pathlib import Path
from typing import Any, Final, Literal

import av

from services.simulators import night_alley

Codec = Literal["h264", "h265"]
TICKS_PER_S: Final = 90_000
PAYLOAD_BYTES_MAX: Final = 1_400
_PLAUSIBLE_STEP_S: Final = (0.002, 5.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Unit:
    """One access unit; `time_90k` is its presentation time since the clip's first unit."""

    nals: tuple[bytes, ...]
    key: bool
    time_90k: int

    @property
    def sha256(self) -> str:
        """Hash of the unit as an MP4 sample: every NAL behind its four-byte length."""
        whole = hashlib.sha256()
        for nal in self.nals:
            whole.update(len(nal).to_bytes(4, "big"))
            whole.update(nal)
        return whole.hexdigest()

    @property
    def nal_sha256(self) -> list[str]:
        """Hash of each NAL unit."""
        return [_sha(nal) for nal in self.nals]


@dataclass(frozen=True, kw_only=True)
class Clip:
    """Units in decode order. `parameter_sets` go into the description (`sprop`)."""

    codec: Codec
    units: tuple[Unit, ...]
    parameter_sets: tuple[bytes, ...]
    duration_90k: int

    @cached_property
    def packets(self) -> tuple[tuple[bytes, ...], ...]:
        """RTP payloads of each unit, made once for all cameras."""
        return tuple(tuple(_payloads(self.codec, unit.nals)) for unit in self.units)

    def write_hashes(self, file: Path) -> None:
        """Write what a checker compares with: a line per unit, in decode order."""
        rows = [{"sha256": u.sha256, "key": u.key, "nals": u.nal_sha256, "time_90k": u.time_90k} for u in self.units]
        sets = [_sha(nal) for nal in self.parameter_sets]
        file.write_text(json.dumps({"codec": self.codec, "parameter_sets": sets, "units": rows}, indent=1))


def pattern(
    codec: Codec = "h264",
    *,
    width: int = 640,
    height: int = 360,
    frame_rate: int = 25,
    gop: int = 25,
    bitrate_bps: int = 2_000_000,
    seconds: float = 2.0,
    b_frames: int = 0,
) -> Clip:
    """Encode an alley at night with the frame number burned in as black and white blocks."""
    stream: Any
    with av.open("/dev/null", "w", format="null") as sink:
        stream = sink.add_stream("libx264" if codec == "h264" else "libx265", rate=frame_rate)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.time_base = Fraction(1, frame_rate)
        stream.bit_rate = bitrate_bps
        stream.codec_context.gop_size = gop
        stream.options = _options(codec, gop, b_frames, bitrate_bps)
        count = max(gop, round(seconds * frame_rate) // gop * gop)
        packets = [p for n in range(count) for p in stream.encode(_picture(n, width, height))] + stream.encode(None)
    first = min(packet.pts for packet in packets)
    tick = TICKS_PER_S // frame_rate
    units = tuple(
        Unit(nals=tuple(_annexb(bytes(packet))), key=packet.is_keyframe, time_90k=(packet.pts - first) * tick)
        for packet in packets
    )
    sets = tuple(nal for nal in units[0].nals if _is_set(codec, nal))
    return Clip(codec=codec, units=units, parameter_sets=sets, duration_90k=count * tick)


def from_file(file: Path) -> Clip:
    """Take the first video track of an MP4 as it is; times that cannot be true become even."""
    with av.open(str(file)) as container:
        stream = container.streams.video[0]
        codec: Codec = "h264" if stream.codec_context.name == "h264" else "h265"
        packets = [packet for packet in container.demux(stream) if packet.size]
        extradata = bytes(stream.codec_context.extradata or b"")
        tick = Fraction(stream.time_base or Fraction(1, TICKS_PER_S)) * TICKS_PER_S
        rate = stream.average_rate
    data = [bytes(packet) for packet in packets]
    times = [round((packet.pts or 0) * tick) for packet in packets]
    step = round(TICKS_PER_S / rate) if rate and 1 <= rate <= 120 else TICKS_PER_S // 25
    if not _plausible(times):
        times = [index * step for index in range(len(times))]
    first = min(times)
    units = tuple(
        Unit(nals=tuple(_sized(raw)), key=packet.is_keyframe, time_90k=time - first)
        for raw, packet, time in zip(data, packets, times, strict=True)
    )
    return Clip(
        codec=codec,
        units=units,
        parameter_sets=tuple(_described_sets(codec, extradata)),
        duration_90k=max(times) - first + step,
    )


def _sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _plausible(times: list[int]) -> bool:
    ordered = sorted(times)
    steps = [after - before for before, after in itertools.pairwise(ordered)]
    least, most = (round(bound * TICKS_PER_S) for bound in _PLAUSIBLE_STEP_S)
    return all(least <= step <= most for step in steps)


def _options(codec: Codec, gop: int, b_frames: int, bitrate_bps: int) -> dict[str, str]:
    kilobits = bitrate_bps // 1000
    if codec == "h264":
        rate = f"vbv-maxrate={kilobits}:vbv-bufsize={kilobits}:nal-hrd=none"
        common = f"keyint={gop}:min-keyint={gop}:scenecut=0:bframes={b_frames}:sliced-threads=0:threads=1:{rate}"
        return {"preset": "ultrafast", "x264-params": common}
    common = f"keyint={gop}:min-keyint={gop}:scenecut=0:bframes={b_frames}:repeat-headers=1:pools=none:log-level=none"
    return {"preset": "ultrafast", "x265-params": f"{common}:frame-threads=1:open-gop=0"}


def _picture(number: int, width: int, height: int) -> av.VideoFrame:
    frame = av.VideoFrame.from_ndarray(night_alley.picture(number, width, height), format="yuv420p")
    frame.pts = number
    return frame


def _annexb(data: bytes) -> Iterator[bytes]:
    for piece in re.split(rb"\x00*\x00\x00\x01", data):
        if piece:
            yield piece


def _sized(data: bytes) -> Iterator[bytes]:
    place = 0
    while place + 4 <= len(data):
        size = int.from_bytes(data[place : place + 4], "big")
        yield data[place + 4 : place + 4 + size]
        place += 4 + size


def _is_set(codec: Codec, nal: bytes) -> bool:
    return nal[0] & 31 in (7, 8) if codec == "h264" else 32 <= (nal[0] >> 1) <= 34


def _described_sets(codec: Codec, extradata: bytes) -> Iterator[bytes]:
    if extradata[:1] != b"\x01":
        yield from (nal for nal in _annexb(extradata) if _is_set(codec, nal))
    elif codec == "h264":
        place = 5
        for mask in (31, 255):
            count = extradata[place] & mask
            place += 1
            for _ in range(count):
                size = int.from_bytes(extradata[place : place + 2], "big")
                yield extradata[place + 2 : place + 2 + size]
                place += 2 + size
    else:
        place = 23
        for _ in range(extradata[22]):
            count = int.from_bytes(extradata[place + 1 : place + 3], "big")
            place += 3
            for _ in range(count):
                size = int.from_bytes(extradata[place : place + 2], "big")
                nal = extradata[place + 2 : place + 2 + size]
                place += 2 + size
                if _is_set(codec, nal):
                    yield nal


def _payloads(codec: Codec, nals: tuple[bytes, ...]) -> Iterator[bytes]:
    """Single NAL packets and fragments (RFC 6184 5.8, RFC 7798 4.4.3)."""
    for nal in nals:
        if len(nal) <= PAYLOAD_BYTES_MAX:
            yield nal
            continue
        head = 1 if codec == "h264" else 2
        room = PAYLOAD_BYTES_MAX - head - 1
        pieces = [nal[place : place + room] for place in range(head, len(nal), room)]
        for index, piece in enumerate(pieces):
            flags = (0x80 if index == 0 else 0) | (0x40 if index == len(pieces) - 1 else 0)
            if codec == "h264":
                yield bytes(((nal[0] & 0xE0) | 28, flags | (nal[0] & 31))) + piece
            else:
                yield bytes(((nal[0] & 0x81) | 49 << 1, nal[1], flags | (nal[0] >> 1 & 63))) + piece
