"""An exact range as one MP4 file: remuxed, never re-encoded (evidence.md 11). The only importer of av.

The file begins with the key picture at or before the range; an edit list hides what stands before `from`
and ends the last picture at `to`. Coded bytes are those of the fragments, SEI included.
"""

import errno
import io
import itertools
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import av
from av.container import InputContainer, OutputContainer
from av.packet import Packet
from av.video.stream import VideoStream

from services.archive import boxes
from services.contracts.units import UtcMicroseconds
from services.runtime.errors import PoisonMessage, RetryLater

INDEX_BYTES: Final = 64 * 1024
READ_BYTES: Final = 1024 * 1024
_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT})
_TAGS: Final = {b"hvc1": "hvc1", b"hev1": "hev1", b"avc3": "avc3"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """Bytes of one object that hold whole GOPs: read by `read(offset, size)`."""

    read: Callable[[int, int], bytes]
    from_offset: int
    to_offset: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Cutting:
    """What to cut: one run under one init. `first_us`: wall time of the first picture in the pieces."""

    init: bytes
    pieces: Sequence[Piece]
    timescale: int
    from_us: UtcMicroseconds
    to_us: UtcMicroseconds
    first_us: UtcMicroseconds

    @property
    def size_bytes(self) -> int:
        """About what the file will have: whole GOPs, and their index of under a hundredth."""
        coded = len(self.init) + sum(piece.to_offset - piece.from_offset for piece in self.pieces)
        return coded + coded // 50 + INDEX_BYTES


@dataclass(frozen=True, slots=True, kw_only=True)
class Clip:
    """A file that was made, and the time whose pictures are really in it: a little more than was asked for."""

    from_us: UtcMicroseconds
    to_us: UtcMicroseconds
    size_bytes: int


class _Joined(io.RawIOBase):
    """Init and pieces one behind the other, read forward only: memory is one chunk."""

    def __init__(self, init: bytes, pieces: Sequence[Piece]) -> None:
        super().__init__()
        self._chunks = _chunks(init, pieces)
        self._left = memoryview(b"")

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        if not self._left:
            self._left = memoryview(next(self._chunks, b""))
        part = self._left[: size if size >= 0 else len(self._left)]
        self._left = self._left[len(part) :]
        return bytes(part)


def _chunks(init: bytes, pieces: Sequence[Piece]) -> Iterator[bytes]:
    yield init
    for piece in pieces:
        at = piece.from_offset
        while at < piece.to_offset:
            chunk = piece.read(at, min(READ_BYTES, piece.to_offset - at))
            if not chunk:
                raise PoisonMessage("an object is shorter than its row says")
            at += len(chunk)
            yield chunk


def cut(cutting: Cutting, target: Path) -> Clip:
    """Write the range to `target`; blocks, needs one chunk and the muxer's index (8 MB an hour).

    Raises:
        PoisonMessage: the footage cannot be read as what it claims to be.
        RetryLater: from the pieces' `read`; or the disk is full.
    """
    try:
        with av.open(_Joined(cutting.init, cutting.pieces), format="mp4", mode="r") as source:
            contained = _remux(source, cutting, target)
        _end_exactly(target, cutting.to_us - cutting.from_us)
    except (OSError, av.FFmpegError) as error:
        if error.errno in _FULL:
            raise RetryLater("the disk has no room for the clip") from error
        if isinstance(error, av.FFmpegError):
            raise PoisonMessage(f"the footage cannot be remuxed: {error.strerror}") from error
        raise
    return Clip(from_us=contained[0], to_us=contained[1], size_bytes=target.stat().st_size)


def _remux(source: InputContainer, cutting: Cutting, target: Path) -> tuple[UtcMicroseconds, UtcMicroseconds]:
    stream = source.streams.video[0]
    packets = (packet for packet in source.demux(stream) if packet.pts is not None and packet.dts is not None)
    opening = next(packets, None)
    if opening is None or opening.pts is None:
        raise PoisonMessage("there is no picture in the range")
    # The demuxer moves times by the reorder delay, so the range is placed by the first picture, not by tfdt.
    from_time = opening.pts + _ticks(cutting.from_us - cutting.first_us, cutting.timescale)
    end_time = from_time + _ticks(cutting.to_us - cutting.from_us, cutting.timescale)
    first, last = opening.pts, opening.pts
    with av.open(str(target), mode="w", format="mp4", options={"movflags": "+negative_cts_offsets"}) as output:
        copy = _same_stream(output, stream, cutting.init)
        for packet in _wanted(itertools.chain((opening,), packets), end_time):
            pts, dts = packet.pts or 0, packet.dts or 0
            first, last = min(first, pts), max(last, pts + (packet.duration or 0))
            packet.pts, packet.dts, packet.stream = pts - from_time, dts - from_time, copy
            output.mux_one(packet)
    return (
        cutting.from_us - _us(from_time - first, cutting.timescale),
        cutting.from_us + _us(last - from_time, cutting.timescale),
    )


def _wanted(packets: "Iterable[Packet[VideoStream]]", end_time: int) -> "Iterator[Packet[VideoStream]]":
    """Yield packets in decode order, up to the last one that is shown before the end.

    A picture shown after the end stays in the file where one shown before it refers to it.
    """
    held: list[Packet[VideoStream]] = []
    for packet in packets:
        if (packet.dts or 0) >= end_time:
            return
        held.append(packet)
        if (packet.pts or 0) < end_time:
            yield from held
            held = []


def _same_stream(output: OutputContainer, stream: VideoStream, init: bytes) -> Any:
    copy = output.add_stream_from_template(stream)
    copy.time_base = stream.time_base
    for tag, name in _TAGS.items():
        # The template forgets the sample entry, and with it where the parameter sets may stand.
        if tag in init:
            copy.codec_context.codec_tag = name
    return copy


def _end_exactly(target: Path, duration_us: int) -> None:
    """Let the edit list end at the microsecond that was asked for."""
    descriptor = os.open(target, os.O_RDWR)
    try:
        start, end = _moov(descriptor)
        moov = os.pread(descriptor, end - start, start)
        for patch in boxes.exact_duration(memoryview(moov), duration_us):
            os.pwrite(descriptor, patch.data, start + patch.offset)
    finally:
        os.close(descriptor)


def _moov(descriptor: int) -> tuple[int, int]:
    at, size = 0, os.fstat(descriptor).st_size
    while at < size:
        header = os.pread(descriptor, 16, at)
        length = int.from_bytes(header[:4])
        if length == 1:
            length = int.from_bytes(header[8:16])
        if header[4:8] == b"moov":
            return at, at + length
        at += length or size
    raise PoisonMessage("the muxer wrote no moov")


def _us(ticks: int, timescale: int) -> int:
    return ticks * 1_000_000 // timescale


def _ticks(duration_us: int, timescale: int) -> int:
    return round(duration_us * timescale / 1_000_000)
