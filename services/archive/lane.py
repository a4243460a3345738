"""One partition of `video`: which fragments are new, which segment takes them, what waits for the store.

Scratch is written here, synchronously; no Kafka, no store, no catalog. `low` is the offset that may be
committed: nothing before it is still needed.
"""

import hashlib
import re
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from services.archive import boxes
from services.archive.catalog import EpochKnown, StreamKnown
from services.archive.chunks import Assembler, Why
from services.archive.open_tail import Held, OpenTail
from services.archive.replay import EpochTrack, SeqRanges, Verdict
from services.archive.scratch import ScratchDirectory
from services.archive.segmenter import Cut, EpochId, Segmenter, SegmentId
from services.contracts.errors import ContractError, MalformedMessage
from services.contracts.fragment import Fragment, VideoEnd, read_video_headers
from services.contracts.gap import GapCause
from services.contracts.units import StreamName, UtcMicroseconds
from services.runtime.errors import PoisonMessage
from services.runtime.kafka_port import Place, Record

_CAMERA_ID: Final = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
EPOCH_MAX: Final = 10**16
SEQ_MAX: Final = 10**10

Stream = tuple[str, StreamName]


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """A fragment whose bytes are those its headers tell of; `offset` is that of its first record."""

    fragment: Fragment
    value: memoryview
    boxes: boxes.FragmentBoxes
    offset: int


def read(record: Record) -> Fragment | VideoEnd:
    """Read what a record of `video` tells of.

    Raises:
        PoisonMessage: it can never be stored; says why, never the payload.
    """
    try:
        facts = read_video_headers(record.headers)
        if not _CAMERA_ID.fullmatch(facts.camera_id) or not facts.epoch < EPOCH_MAX or not facts.seq < SEQ_MAX:
            raise MalformedMessage("camera id, epoch or seq is out of bounds")
        if record.key != facts.camera_id:
            raise MalformedMessage("the key is not the camera id")
    except ContractError as error:
        raise PoisonMessage(str(error)) from error
    return facts


def _check(fragment: Fragment, value: memoryview, offset: int) -> Checked:
    if hashlib.sha256(value).hexdigest() != fragment.sha256:
        raise MalformedMessage("the bytes have another SHA-256 than ce_sha256")
    if hashlib.sha256(fragment.init).hexdigest() != fragment.init_sha256:
        raise MalformedMessage("the init has another SHA-256 than ce_initsha256")
    boxes.timescale(memoryview(fragment.init))
    return Checked(fragment=fragment, value=value, boxes=boxes.read_fragment(value), offset=offset)


def _epoch_of(facts: Fragment | VideoEnd) -> EpochId:
    return EpochId(facts.camera_id, facts.stream, facts.epoch)


@dataclass(slots=True, eq=False)
class Lane:
    """The state of one assigned partition."""

    place: Place
    next_offset: int
    scratch: ScratchDirectory
    tail: OpenTail
    lost_cause: GapCause | None = None
    chunks: Assembler = field(default_factory=Assembler)
    segmenter: Segmenter = field(default_factory=Segmenter)
    closed: deque[Held] = field(default_factory=deque)
    committed: int | None = None
    storing: Held | None = None
    """The segment that a thread is giving to the store now: its file is not ours to remove."""
    discarded: bool = False
    recorded_us: UtcMicroseconds = 0
    """The time of the record read last."""
    _tracks: dict[EpochId, EpochTrack] = field(default_factory=dict)
    _ends: dict[Stream, UtcMicroseconds | None] = field(default_factory=dict)
    _open: dict[SegmentId, Held] = field(default_factory=dict)
    _told: set[Stream] = field(default_factory=set)

    def low(self) -> int:
        """Return the offset up to which all is stored; after a rewind, what is read again is needed again."""
        held = (held.first_offset for held in (*self._open.values(), *self.closed))
        return min((self.next_offset, *self.chunks.first_offsets(), *held))

    def closed_bytes(self) -> int:
        return sum(held.file.size_bytes for held in self.closed)

    def missing(self, fragment: Fragment) -> tuple[bool, bool]:
        """Tell whether the stream and the epoch still have to be looked up in the catalog."""
        return (fragment.camera_id, fragment.stream) not in self._ends, _epoch_of(fragment) not in self._tracks

    def learn_stream(self, camera_id: str, stream: StreamName, known: StreamKnown) -> None:
        self._ends[camera_id, stream] = known.end_us
        if known.newest_epoch is not None:
            self.segmenter.learn_epoch(camera_id, stream, known.newest_epoch)

    def learn_epoch(self, at: EpochId, known: EpochKnown) -> None:
        track = EpochTrack(seen=SeqRanges(known.ranges), end_us=known.end_us)
        if self.lost_cause is not None and at[:2] not in self._told:
            track.hole_cause = self.lost_cause
        self._tracks[at] = track

    def judge(self, fragment: Fragment) -> tuple[Verdict, EpochTrack]:
        track = self._tracks[_epoch_of(fragment)]
        return track.judge(fragment.seq), track

    def end_before(self, fragment: Fragment) -> UtcMicroseconds | None:
        """Return where the stream's footage ended before this fragment, whatever the epoch."""
        return self._ends.get((fragment.camera_id, fragment.stream))

    def track_of(self, end: VideoEnd) -> EpochTrack | None:
        return self._tracks.get(_epoch_of(end))

    def lost_once(self, camera_id: str, stream: StreamName) -> GapCause | None:
        """Return why the log lost records, once for each stream: a later restart is a restart."""
        if self.lost_cause is None or (camera_id, stream) in self._told:
            return None
        self._told.add((camera_id, stream))
        return self.lost_cause

    def log_lost(self, cause: GapCause) -> None:
        """Note that records are gone: holes after this have that cause."""
        self.lost_cause = cause
        self._told.clear()
        for track in self._tracks.values():
            track.hole_cause = cause

    def passed(self, record_time_us: UtcMicroseconds) -> tuple[Cut, ...]:
        """Take the time of a record, whatever it holds, before the record itself."""
        self.recorded_us = record_time_us
        self.chunks.passed(record_time_us)
        return self._finish(self.segmenter.record_time(record_time_us))

    def ended(self, end: VideoEnd) -> tuple[Cut, ...]:
        self.chunks.ended(_epoch_of(end), end.seq)
        return self._finish(self.segmenter.run_ended(end))

    def gather(self, record: Record, fragment: Fragment) -> Checked | None:
        """Return a fragment with all its bytes; None while chunks of it are to come.

        Raises:
            PoisonMessage: it can never be stored; says why, never the payload.
        """
        try:
            whole = self.chunks.add(fragment, record.value or b"", record.offset)
            return None if whole is None else _check(fragment, memoryview(whole[0]), whole[1])
        except ContractError as error:
            self.chunks.give_up(_epoch_of(fragment), Why.REFUSED)
            raise PoisonMessage(str(error)) from error

    def take(self, checked: Checked) -> tuple[Cut, ...]:
        """Store a new fragment in scratch.

        Raises:
            ScratchFailed: this lane is then to be discarded; so do `passed`, `ended` and `relieve`.
        """
        fragment = checked.fragment
        step = self.segmenter.fragment(
            fragment,
            size_bytes=len(checked.value),
            frames=checked.boxes.samples,
            init_bytes=len(fragment.init),
            recorded_us=self.recorded_us,
        )
        cuts = self._finish(step.cuts)
        if step.opened:
            file = self.scratch.create(fragment.init)
            self._open[step.segment.id] = Held(segment=step.segment, file=file, first_offset=checked.offset)
        held = self._open[step.segment.id]
        held.first_offset = min(held.first_offset, checked.offset)
        held.file.add(checked.value, checked.boxes, start_us=fragment.start_us, key=fragment.keyframe)
        self.tail.show(held)
        self._tracks[_epoch_of(fragment)].take(fragment.seq, fragment.end_us)
        self.chunks.taken(_epoch_of(fragment))
        stream = (fragment.camera_id, fragment.stream)
        self._ends[stream] = max(self._ends.get(stream) or 0, fragment.end_us)
        return cuts

    def open_bytes(self) -> int:
        """Return the bytes of the largest open segment."""
        return max((held.file.size_bytes for held in self._open.values()), default=0)

    def relieve(self) -> tuple[Cut, ...]:
        """Close the largest open segment, so that the store can take it and scratch has room again."""
        return self._finish(self.segmenter.relieve())

    def drop(self, held: Held) -> None:
        """Drop a closed segment: the store and the catalog have it, or nobody wants it any more."""
        self.storing = None
        if held in self.closed:
            self.closed.remove(held)
        self.tail.hide(held)
        self.scratch.forget(held.file)

    def discard(self) -> None:
        """End this lane and throw its work away, but for the segment that is being stored; Kafka has it all."""
        self.discarded = True
        for held in (*self._open.values(), *self.closed):
            self.tail.hide(held)
            if held is not self.storing:
                self.scratch.forget(held.file)
        self._open.clear()
        self.closed.clear()

    def _finish(self, cuts: Iterable[Cut]) -> tuple[Cut, ...]:
        finished = tuple(cuts)
        for cut in finished:
            held = self._open.pop(cut.segment.id)
            self.closed.append(held)
            held.sha256 = held.file.finish()
        return finished
