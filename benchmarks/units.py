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


def unit_hashes(data: memoryview) -> Iterator[str]:
    """Yield the SHA-256 of each sample: every NAL unit behind its four-byte length.

    Raises:
        BadFragmentError: sizes and data do not agree.
    """
    sizes: list[int] = []
    for name, content in boxes(data):
        if name == b"moof":
            sizes = _sample_sizes(content)
        elif name == b"mdat":
            if sum(sizes) != len(content):
                raise BadFragmentError(f"{sum(sizes)} bytes of samples in {len(content)} bytes of data")
            place = 0
            for size in sizes:
                yield hashlib.sha256(content[place : place + size]).hexdigest()
                place += size


def _sample_sizes(moof: memoryview) -> list[int]:
    runs = [run for name, part in boxes(moof) if name == b"traf" for kind, run in boxes(part) if kind == b"trun"]
    if len(runs) != 1:
        raise BadFragmentError(f"{len(runs)} track runs")
    flags, count = struct.unpack_from(">II", runs[0])
    head = 8 + 4 * (bool(flags & 0x1) + bool(flags & 0x4))
    each = [flag for flag in (0x100, 0x200, 0x400, 0x800) if flags & flag]
    if 0x200 not in each or head + 4 * len(each) * count > len(runs[0]):
        raise BadFragmentError("a track run without sizes")
    column = each.index(0x200)
    words = struct.unpack_from(f">{len(each) * count}I", runs[0], head)
    return list(words[column :: len(each)])


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
    _rtp_end: int = 0
    _seen: dict[str, int] = field(default_factory=dict)

    def fragment(
        self,
        identity: tuple[int, int, int],
        *,
        rtp_90k: int,
        media_90k: int,
        start_us: int,
        end_us: int,
        found: Sequence[str],
    ) -> None:
        """Take one fragment: `identity` is its epoch, run and seq; a second copy of one counts as a repeat."""
        epoch, run, seq = identity
        if (epoch, seq) <= self._last:
            self.repeats += 1
            return
        self._last = (epoch, seq)
        if (epoch, run) != self._run:
            self._begin((epoch, run), start_us, found[0])
        else:
            missing = round((rtp_90k - self._rtp_end) / TICKS_PER_S * 1e6 / self.played.unit_us)
            self.lost += missing
            self._next += missing
        self._compare(found)
        self._rtp_end = rtp_90k + media_90k
        self.to_us = end_us

    def shortfall(self, from_us: int, to_us: int) -> int:
        """Return how many units are missing at the ends of a window: a camera that stopped has no hole."""
        if self.from_us is None:
            return round((to_us - from_us) / self.played.unit_us)
        outside_us = max(0, self.from_us - from_us) + max(0, to_us - self.to_us)
        return round(outside_us / self.played.unit_us)

    def _begin(self, run: tuple[int, int], start_us: int, first: str) -> None:
        """Begin a run. Its RTP time says nothing of the one before, so wall time counts what lies between."""
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
