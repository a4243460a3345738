"""Access units in fragmented MP4, and whether they are the source's, in order and without a hole. No I/O.

Independent of ingest's and archive's own box code on purpose: what is measured does not judge itself.
Source: ISO/IEC 14496-12 8.8.
"""

import hashlib
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

TICKS_PER_S: Final = 90_000
_BOX: Final = struct.Struct(">I4s")


class BadFragmentError(ValueError):
    """Not fragmented MP4 with one track run per fragment."""


def boxes(data: memoryview) -> Iterator[tuple[bytes, memoryview]]:
    """Yield the name and the content of each box, in order.

    Raises:
        BadFragmentError: a box ends behind the data.
    """
    place = 0
    while place < len(data):
        size, name = _BOX.unpack_from(data, place) if place + 8 <= len(data) else (0, b"")
        if size < 8 or place + size > len(data):
            raise BadFragmentError(f"a box of {size} bytes at {place} of {len(data)}")
        yield name, data[place + 8 : place + size]
        place += size


@dataclass(frozen=True, slots=True, kw_only=True)
class Cut:
    """One fragment: where it stands on its run's timeline, and the SHA-256 of each of its units."""

    at_90k: int
    media_90k: int
    hashes: Sequence[str]


def cuts(data: memoryview) -> Iterator[Cut]:
    """Yield the fragments of a file or of a record. A unit is hashed as it stands: NALs behind their lengths.

    Raises:
        BadFragmentError: sizes and data do not agree.
    """
    head: tuple[int, list[int], list[int]] = (0, [], [])
    for name, content in boxes(data):
        if name == b"moof":
            head = _head(content)
        elif name == b"mdat":
            at_90k, durations, sizes = head
            if sum(sizes) != len(content):
                raise BadFragmentError(f"{sum(sizes)} bytes of samples in {len(content)} bytes of data")
            yield Cut(at_90k=at_90k, media_90k=sum(durations), hashes=list(_hashes(content, sizes)))


def _hashes(content: memoryview, sizes: Sequence[int]) -> Iterator[str]:
    place = 0
    for size in sizes:
        yield hashlib.sha256(content[place : place + size]).hexdigest()
        place += size


def _head(moof: memoryview) -> tuple[int, list[int], list[int]]:
    """Return decode time, durations and sizes."""
    parts = [part for name, track in boxes(moof) if name == b"traf" for part in boxes(track)]
    runs = [content for name, content in parts if name == b"trun"]
    times = [content for name, content in parts if name == b"tfdt"]
    if len(runs) != 1 or len(times) != 1:
        raise BadFragmentError(f"{len(runs)} track runs and {len(times)} decode times")
    at_90k = int.from_bytes(times[0][4 : 12 if times[0][0] else 8], "big")
    return at_90k, _column(runs[0], 0x100), _column(runs[0], 0x200)


def _column(run: memoryview, wanted: int) -> list[int]:
    flags, count = struct.unpack_from(">II", run)
    head = 8 + 4 * (bool(flags & 0x1) + bool(flags & 0x4))
    each = [flag for flag in (0x100, 0x200, 0x400, 0x800) if flags & flag]
    if wanted not in each or head + 4 * len(each) * count > len(run):
        raise BadFragmentError(f"a track run without field {wanted:#x}")
    words = struct.unpack_from(f">{len(each) * count}I", run, head)
    return list(words[each.index(wanted) :: len(each)])


@dataclass(frozen=True, slots=True, kw_only=True)
class Played:
    """What every source plays in a loop: a hash per unit in decode order, and how long a unit lasts."""

    hashes: Sequence[str]
    unit_us: int


@dataclass(slots=True, kw_only=True)
class Follow:
    """One camera's units as they are found. `lost` and `wrong` are exact; feed fragments in order of seq."""

    played: Played
    units: int = 0
    lost: int = 0
    wrong: int = 0
    repeats: int = 0
    runs: int = 0
    from_us: int | None = None
    to_us: int = 0
    _last: tuple[int, int] = (-1, -1)
    _run: tuple[int, int] = (-1, -1)
    _next: int = 0
    _end_90k: int = 0
    _seen: dict[str, int] = field(default_factory=dict)

    def fragment(self, identity: tuple[int, int, int], cut: Cut, *, start_us: int, end_us: int) -> None:
        """Take one fragment: `identity` is its epoch, run and seq; a second copy of one counts as a repeat."""
        epoch, run, seq = identity
        if (epoch, seq) <= self._last:
            self.repeats += 1
            return
        self._last = (epoch, seq)
        if (epoch, run) != self._run:
            self._begin((epoch, run), start_us, cut.hashes[0])
        else:
            missing = round((cut.at_90k - self._end_90k) / TICKS_PER_S * 1e6 / self.played.unit_us)
            self.lost += missing
            self._next += missing
        self._compare(cut.hashes)
        self._end_90k = cut.at_90k + cut.media_90k
        self.to_us = end_us

    def shortfall(self, from_us: int, to_us: int) -> int:
        """Return how many units are missing at the ends of a window: a camera that stopped has no hole."""
        if self.from_us is None:
            return round((to_us - from_us) / self.played.unit_us)
        outside_us = max(0, self.from_us - from_us) + max(0, to_us - self.to_us)
        return round(outside_us / self.played.unit_us)

    def _begin(self, run: tuple[int, int], start_us: int, first: str) -> None:
        """Begin a run. Its media time says nothing of the one before: wall time counts what lies between."""
        if self.from_us is None:
            self.from_us = start_us
            self._seen = {unit: at for at, unit in enumerate(self.played.hashes)}
        else:
            self.lost += max(0, round((start_us - self.to_us) / self.played.unit_us))
        self.runs += 1
        self._run = run
        self._next = self._seen.get(first, 0)

    def _compare(self, found: Sequence[str]) -> None:
        hashes = self.played.hashes
        for unit in found:
            self.wrong += unit != hashes[self._next % len(hashes)]
            self._next += 1
        self.units += len(found)
