"""Chunks -> whole fragments, for one partition of `video`: bounded in bytes, by records alone. No I/O, no clock.

Ingest sends the chunks of a fragment in order and nothing else of their epoch between them. So each epoch
has at most one fragment that is not whole yet; what stands twice changes nothing, and another fragment that
begins, or the end of the run, gives it up. A fragment that was given up is a hole in `seq`, and becomes a
gap like any other that never came (recorder.py).
Source: kafka.md 7.3 and 8, docs/decisions/0004.
"""

from collections import Counter
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from msgspec.structs import replace

from services.archive.segmenter import EpochId
from services.contracts.errors import MalformedMessage
from services.contracts.fragment import Chunk, Fragment
from services.contracts.units import UtcMicroseconds

CAPACITY_BYTES: Final = 32 * 1024 * 1024
"""Of all fragments of a partition that are not whole, as long as they will be."""
PATIENCE_US: Final = 30_000_000
STEP_US_MAX: Final = 1_000_000
"""What one step between record times counts: after an outage of Kafka they jump, and the next chunk comes then."""


class Why(StrEnum):
    """Why a fragment that is not whole was given up."""

    OVERTAKEN = "overtaken"
    CHUNK_MISSING = "chunk_missing"
    REFUSED = "refused"
    SILENCE = "silence"
    FULL = "full"


@dataclass(slots=True, kw_only=True)
class _Growing:
    """A fragment as its first chunk told of it, and what has come of it."""

    fragment: Fragment
    fragment_bytes: int
    first_offset: int
    moved_us: int
    data: bytearray = field(default_factory=bytearray)


class Assembler:
    """The fragments of one partition that are not whole, the oldest first."""

    def __init__(self, *, capacity_bytes: int = CAPACITY_BYTES) -> None:
        self.given_up: Counter[Why] = Counter()
        self._capacity_bytes = capacity_bytes
        self._growing: dict[EpochId, _Growing] = {}
        self._newest_us: UtcMicroseconds = 0
        self._moved_us = 0

    @property
    def held_bytes(self) -> int:
        return sum(len(one.data) for one in self._growing.values())

    def first_offsets(self) -> tuple[int, ...]:
        """Return where each fragment begins that is not stored: nothing from there on may be committed."""
        return tuple(one.first_offset for one in self._growing.values())

    def passed(self, record_time_us: UtcMicroseconds) -> None:
        """Take the time of every record of the partition; give up what it has left behind."""
        if record_time_us > self._newest_us:
            self._moved_us += min(record_time_us - self._newest_us, STEP_US_MAX)
            self._newest_us = record_time_us
        for at, one in tuple(self._growing.items()):
            if self._moved_us - one.moved_us > PATIENCE_US:
                self.give_up(at, Why.SILENCE)

    def add(self, fragment: Fragment, value: bytes, offset: int) -> tuple[bytes | bytearray, int] | None:
        """Take a record; return its fragment's bytes and first offset, or None while some of it is to come.

        A fragment stays needed until it is `taken` or given up.

        Raises:
            MalformedMessage: the chunk is of another fragment than those before it, or too long.
        """
        at = EpochId(fragment.camera_id, fragment.stream, fragment.epoch)
        one = self._growing.get(at)
        if one is None or one.fragment.seq != fragment.seq:
            if fragment.chunk is not None and fragment.chunk.at_bytes > 0:
                return None  # its beginning was not read, or it is a late copy
            self.give_up(at, Why.OVERTAKEN)
            one = None
        if fragment.chunk is None:
            return value, offset
        if one is None:
            one = self._begin(at, fragment, fragment.chunk, offset)
        return self._grow(at, one, fragment, fragment.chunk, value)

    def ended(self, at: EpochId, seq: int) -> None:
        """Take the end of a run, whose last fragment was `seq`: what is not whole of it never will be."""
        one = self._growing.get(at)
        if one is not None and one.fragment.seq <= seq:
            self.give_up(at, Why.OVERTAKEN)

    def taken(self, at: EpochId) -> None:
        """Forget a fragment that is kept elsewhere now."""
        self._growing.pop(at, None)

    def give_up(self, at: EpochId, why: Why) -> None:
        """Forget the fragment of an epoch that is not whole, if there is one."""
        if self._growing.pop(at, None) is not None:
            self.given_up[why] += 1

    def _begin(self, at: EpochId, fragment: Fragment, chunk: Chunk, offset: int) -> _Growing:
        while self._growing and self._promised_bytes() + chunk.fragment_bytes > self._capacity_bytes:
            self.give_up(next(iter(self._growing)), Why.FULL)
        one = self._growing[at] = _Growing(
            fragment=fragment, fragment_bytes=chunk.fragment_bytes, first_offset=offset, moved_us=self._moved_us
        )
        return one

    def _promised_bytes(self) -> int:
        return sum(one.fragment_bytes for one in self._growing.values())

    def _grow(
        self, at: EpochId, one: _Growing, fragment: Fragment, chunk: Chunk, value: bytes
    ) -> tuple[bytearray, int] | None:
        if replace(fragment, chunk=replace(chunk, at_bytes=0)) != one.fragment:
            raise MalformedMessage("a chunk tells of another fragment than the chunks before it")
        if chunk.at_bytes > len(one.data):
            self.give_up(at, Why.CHUNK_MISSING)
            return None
        if chunk.at_bytes == len(one.data):
            if len(one.data) + len(value) > one.fragment_bytes:
                raise MalformedMessage("the chunks are longer than ce_fragmentlength")
            one.data += value
            one.moved_us = self._moved_us
        return (one.data, one.first_offset) if len(one.data) == one.fragment_bytes else None
