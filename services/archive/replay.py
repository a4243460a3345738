"""Which fragment was seen before, and which hole is to be looked for again. No I/O.

By identity (camera, stream, epoch, seq) alone: Kafka offsets go back after a power cut, and then new
video would be taken for a replay (evidence.md 6).
"""

from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum

from services.contracts.gap import GapCause
from services.contracts.units import UtcMicroseconds

FIRST_SEQ_MAX = 1
"""An epoch begins with seq 0 or 1; a higher first one means that its beginning was not read."""


class Verdict(StrEnum):
    """What to do with a fragment."""

    NEW = "new"
    DUPLICATE = "duplicate"
    LOOK_AGAIN = "look_again"
    HOLE = "hole"


class SeqRanges:
    """A set of whole numbers as closed, disjoint ranges in order."""

    def __init__(self, ranges: Iterable[tuple[int, int]] = ()) -> None:
        self._starts: list[int] = []
        self._ends: list[int] = []
        for first, last in sorted(ranges):
            self.add(first, last)

    def __contains__(self, seq: int) -> bool:
        index = bisect_right(self._starts, seq) - 1
        return index >= 0 and seq <= self._ends[index]

    def add(self, first: int, last: int | None = None) -> None:
        """Add `[first, last]`, joining it with what it touches."""
        last = first if last is None else last
        low = bisect_right(self._starts, first)
        while low > 0 and self._ends[low - 1] >= first - 1:
            low -= 1
        high = low
        while high < len(self._starts) and self._starts[high] <= last + 1:
            high += 1
        if low < high:
            first, last = min(first, self._starts[low]), max(last, self._ends[high - 1])
        self._starts[low:high] = [first]
        self._ends[low:high] = [last]

    def ranges(self) -> tuple[tuple[int, int], ...]:
        return tuple(zip(self._starts, self._ends, strict=True))

    @property
    def highest(self) -> int | None:
        return self._ends[-1] if self._ends else None


@dataclass(slots=True, kw_only=True)
class EpochTrack:
    """What is known of one epoch of one camera stream, from the catalog and since.

    `fresh` until a fragment was taken after the assignment: only then can the log have lost what is
    missing before it. `end_us` is the end of the fragment with the highest seq.
    """

    seen: SeqRanges = field(default_factory=SeqRanges)
    end_us: UtcMicroseconds | None = None
    fresh: bool = True
    looked_again: bool = False
    hole_cause: GapCause = "chunk_lost"

    def judge(self, seq: int) -> Verdict:
        """Return what a fragment is. `LOOK_AGAIN` is said once: rewind, and judge again."""
        if seq in self.seen:
            return Verdict.DUPLICATE
        highest = self.seen.highest
        hole = seq > FIRST_SEQ_MAX if highest is None else seq > highest + 1
        if not hole:
            return Verdict.NEW
        if self.fresh and not self.looked_again:
            return Verdict.LOOK_AGAIN
        return Verdict.HOLE

    def take(self, seq: int, end_us: UtcMicroseconds) -> None:
        """Note a fragment as seen."""
        highest = self.seen.highest
        if highest is None or seq > highest:
            self.end_us = end_us
        self.seen.add(seq)
        self.fresh = False
        self.hole_cause = "chunk_lost"


@dataclass(frozen=True, slots=True, kw_only=True)
class Resume:
    """Where to read a partition from, and whether the log went back."""

    offset: int
    went_back: bool


def resume_at(*, committed: int | None, beginning: int, end: int) -> Resume:
    """Decide where to go on after an assignment.

    A committed offset beyond the end is one of a log that is gone: all is read again and dropped by
    identity. One before the beginning is left as it is; the consumer then says what was lost.
    """
    if committed is None:
        return Resume(offset=beginning, went_back=False)
    if committed > end:
        return Resume(offset=beginning, went_back=True)
    return Resume(offset=committed, went_back=False)
