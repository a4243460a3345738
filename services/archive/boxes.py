"""ISO BMFF boxes that archive reads or writes itself: facts of a fragment, `mfra`, the edit list. No I/O.

Coded bytes are never touched here; decoding and remuxing are clip.py's.
Source: ISO/IEC 14496-12:2022, section 8.
"""

import struct
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from services.contracts.errors import MalformedMessage

_TFRA_ENTRY: Final = struct.Struct(">QQBBB")
MFRO_BYTES: Final = 16


class Box(NamedTuple):
    """One box: `[start, end)` with its header, contents from `body`."""

    kind: bytes
    start: int
    body: int
    end: int


class FragmentBoxes(NamedTuple):
    """What a fragment's `moof` says: where it begins, its track, first decode and presentation time, pictures."""

    moof_offset: int
    track_id: int
    decode_time: int
    first_time: int
    samples: int


class KeyPlace(NamedTuple):
    """A fragment that begins with a key picture: media time and offset of its `moof` in the object."""

    time: int
    offset: int


def walk(data: memoryview, start: int = 0, end: int | None = None) -> Iterator[Box]:
    """Yield the boxes of a range.

    Raises:
        MalformedMessage: a box reaches beyond its parent.
    """
    limit = len(data) if end is None else end
    at = start
    while at < limit:
        if at + 8 > limit:
            raise MalformedMessage("a box header is cut")
        size, kind = struct.unpack_from(">I4s", data, at)
        body = at + 8
        if size == 1:
            if at + 16 > limit:
                raise MalformedMessage("a box header is cut")
            size, body = struct.unpack_from(">Q", data, body)[0], at + 16
        elif size == 0:
            size = limit - at
        if size < body - at or at + size > limit:
            raise MalformedMessage(f"box {kind!r} reaches beyond its parent")
        yield Box(kind, at, body, at + size)
        at += size


def find(data: memoryview, *path: bytes, within: Box | None = None) -> Box:
    """Return the first box on a path such as `moov`, `trak`, `mdia`.

    Raises:
        MalformedMessage: there is none.
    """
    box = within
    for kind in path:
        start, end = (0, len(data)) if box is None else (box.body, box.end)
        box = next((found for found in walk(data, start, end) if found.kind == kind), None)
        if box is None:
            raise MalformedMessage(f"box {kind!r} is missing")
    if box is None:
        raise MalformedMessage("an empty path of boxes")
    return box


def read_fragment(value: memoryview) -> FragmentBoxes:
    """Read a fragment, which holds one `moof` with one track and its `mdat`.

    Raises:
        MalformedMessage: not such a fragment.
    """
    kinds = [box.kind for box in walk(value)]
    if kinds.count(b"moof") != 1 or kinds[-1] != b"mdat":
        raise MalformedMessage("a fragment is one moof and its mdat")
    try:
        return _read_moof(value, find(value, b"moof"))
    except struct.error as error:
        raise MalformedMessage("a box of the moof is too short") from error


def first_fragment(head: memoryview) -> FragmentBoxes:
    """Read the first `moof` of an object's beginning, which may be cut anywhere behind it.

    Raises:
        MalformedMessage: the moof is not there as a whole.
    """
    try:
        return _read_moof(head, find(head, b"moof"))
    except struct.error as error:
        raise MalformedMessage("a box of the moof is too short") from error


def _read_moof(value: memoryview, moof: Box) -> FragmentBoxes:
    traf = find(value, b"traf", within=moof)
    (track_id,) = struct.unpack_from(">I", value, find(value, b"tfhd", within=traf).body + 4)
    tfdt = find(value, b"tfdt", within=traf)
    (decode_time,) = struct.unpack_from(">Q" if value[tfdt.body] else ">I", value, tfdt.body + 4)
    runs = [box for box in walk(value, traf.body, traf.end) if box.kind == b"trun"]
    if not runs:
        raise MalformedMessage("box b'trun' is missing")
    samples = sum(struct.unpack_from(">I", value, box.body + 4)[0] for box in runs)
    first_time = max(0, decode_time + _first_composition_offset(value, runs[0]))
    return FragmentBoxes(moof.start, track_id, decode_time, first_time, samples)


def _first_composition_offset(value: memoryview, trun: Box) -> int:
    version_flags, samples = struct.unpack_from(">II", value, trun.body)
    if not version_flags & 0x800 or not samples:
        return 0
    at = trun.body + 8 + 4 * sum(bool(version_flags & flag) for flag in (0x1, 0x4, 0x100, 0x200, 0x400))
    offset: int = struct.unpack_from(">i", value, at)[0]
    return offset


def timescale(init: memoryview) -> int:
    """Return the ticks per second of the only track.

    Raises:
        MalformedMessage: not an init segment.
    """
    mdhd = find(init, b"moov", b"trak", b"mdia", b"mdhd")
    at = mdhd.body + (20 if init[mdhd.body] else 12)
    if at + 4 > mdhd.end:
        raise MalformedMessage("box b'mdhd' is too short")
    ticks: int = struct.unpack_from(">I", init, at)[0]
    if not ticks:
        raise MalformedMessage("a timescale of 0")
    return ticks


def mfra(track_id: int, keys: Sequence[KeyPlace]) -> bytes:
    """Return the trailing random-access box: one 64-bit entry for each key picture at a fragment's start."""
    entries = b"".join(_TFRA_ENTRY.pack(key.time, key.offset, 1, 1, 1) for key in keys)
    tfra = struct.pack(">I4sIIII", 24 + len(entries), b"tfra", 1 << 24, track_id, 0, len(keys)) + entries
    size = 8 + len(tfra) + MFRO_BYTES
    return struct.pack(">I4s", size, b"mfra") + tfra + struct.pack(">I4sII", MFRO_BYTES, b"mfro", 0, size)


def mfra_bytes(tail: memoryview) -> int:
    """Return the size of the `mfra` that an object's last 16 bytes tell of.

    Raises:
        MalformedMessage: the object does not end with an `mfro`.
    """
    if len(tail) != MFRO_BYTES or bytes(tail[4:8]) != b"mfro":
        raise MalformedMessage("the object does not end with an mfro")
    size: int = struct.unpack_from(">I", tail, 12)[0]
    return size


def read_mfra(data: memoryview) -> tuple[KeyPlace, ...]:
    """Read what `mfra` wrote.

    Raises:
        MalformedMessage: not our `mfra`.
    """
    tfra = find(data, b"mfra", b"tfra")
    if tfra.end - tfra.body < 16:
        raise MalformedMessage("box b'tfra' is too short")
    (count,) = struct.unpack_from(">I", data, tfra.body + 12)
    if data[tfra.body] != 1 or tfra.body + 16 + count * _TFRA_ENTRY.size > tfra.end:
        raise MalformedMessage("box b'tfra' is not as archive writes it")
    entries = (_TFRA_ENTRY.unpack_from(data, tfra.body + 16 + index * _TFRA_ENTRY.size) for index in range(count))
    return tuple(KeyPlace(entry[0], entry[1]) for entry in entries)


class Patch(NamedTuple):
    """Bytes to write over those at an offset."""

    offset: int
    data: bytes


def exact_duration(moov: memoryview, duration_us: int) -> tuple[Patch, ...]:
    """Return the patches that make a file of one track last exactly `duration_us`.

    The muxer counts whole pictures; the movie, track and edit durations are set to what was asked for,
    so that the last picture is shown only until the end of the range.

    Raises:
        MalformedMessage: the movie has no edit list to end.
    """
    mvhd = find(moov, b"moov", b"mvhd")
    long_mvhd = bool(moov[mvhd.body])
    (ticks,) = struct.unpack_from(">I", moov, mvhd.body + (20 if long_mvhd else 12))
    duration = round(duration_us * ticks / 1_000_000)
    trak = find(moov, b"moov", b"trak")
    tkhd = find(moov, b"tkhd", within=trak)
    elst = find(moov, b"edts", b"elst", within=trak)
    long_elst = bool(moov[elst.body])
    (edits,) = struct.unpack_from(">I", moov, elst.body + 4)
    entry_bytes = 20 if long_elst else 12
    last = elst.body + 8 + (edits - 1) * entry_bytes
    before = sum(
        struct.unpack_from(">Q" if long_elst else ">I", moov, elst.body + 8 + index * entry_bytes)[0]
        for index in range(edits - 1)
    )
    return (
        _patch(mvhd.body + (24 if long_mvhd else 16), duration, long_mvhd),
        _patch(tkhd.body + (28 if moov[tkhd.body] else 20), duration, bool(moov[tkhd.body])),
        _patch(last, duration - before, long_elst),
    )


def _patch(offset: int, number: int, is_long: bool) -> Patch:
    return Patch(offset, struct.pack(">Q" if is_long else ">I", number))
