"""Fragments -> segments, cut by records alone (evidence.md 5). No I/O, no clock.

A cut depends on the fragments of one (camera, stream, epoch), on `video.end`, and on the record time
of the records that follow in the partition: never on arrival, wall clock or resume offset. So a
replay cuts at the same places. Duplicates are removed before this (replay.py).
"""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, NamedTuple

from services.archive.object_key import SegmentName
from services.contracts.epoch import RunId
from services.contracts.fragment import Fragment, SignatureState, VideoEnd
from services.contracts.units import StreamName, UtcMicroseconds

MINUTE_US: Final = 60_000_000
SEGMENT_BYTES_MAX: Final = 16 * 1024 * 1024
LONG_GOP_BYTES_MAX: Final = 32 * 1024 * 1024
LONG_GOP_90K_MAX: Final = 120 * 90_000
SILENCE_US: Final = 30_000_000
SMALL_HOLE_US: Final = 200_000
"""A hole in time up to this, or two picture intervals, is no gap (cameras.md 10)."""


class CutReason(StrEnum):
    """Why a segment was closed."""

    MINUTE = "minute"
    SIZE = "size"
    LONG_GOP = "long_gop"
    INIT = "init"
    RUN = "run"
    RETENTION_CLASS = "retention_class"
    SEQ_HOLE = "seq_hole"
    TIME_HOLE = "time_hole"
    RUN_ENDED = "run_ended"
    HIGHER_EPOCH = "higher_epoch"
    SILENCE = "silence"
    SCRATCH_FULL = "scratch_full"


class EpochId(NamedTuple):
    """One epoch of one camera stream: the space in which `seq` counts."""

    camera_id: str
    stream: StreamName
    epoch: int


class SegmentId(NamedTuple):
    """A segment from its first fragment on, while its last one is not known yet."""

    run: RunId
    seq0: int


@dataclass(slots=True, kw_only=True)
class Growing:
    """An open segment: sums over its fragments."""

    run: RunId
    seq0: int
    start_us: UtcMicroseconds
    init_sha256: str
    retention_class: str
    codec: str
    dependent: bool
    overlap: bool
    size_bytes: int
    recorded_us: UtcMicroseconds
    """The record time of its last fragment: when it was sent, after an outage long after it was filmed."""
    seq1: int = -1
    end_us: UtcMicroseconds = 0
    media_90k: int = 0
    fragments: int = 0
    frames: int = 0
    gop_bytes: int = 0
    clock_ok: bool = True
    signature: SignatureState = "absent"

    @property
    def id(self) -> SegmentId:
        return SegmentId(self.run, self.seq0)

    @property
    def name(self) -> SegmentName:
        """The final name; right once the segment is closed."""
        return SegmentName(
            run=self.run, seq0=self.seq0, seq1=self.seq1, start_us=self.start_us,
            dur_ms=(self.end_us - self.start_us) // 1000,
        )  # fmt: skip

    @property
    def quiet_from_us(self) -> UtcMicroseconds:
        """The record time after which it is silent: 30 s past its minute and past its last fragment's record."""
        return max((self.start_us // MINUTE_US + 1) * MINUTE_US, self.recorded_us) + SILENCE_US

    def small_hole_us(self) -> int:
        """Return the longest hole in time that is no gap."""
        return max(SMALL_HOLE_US, 2 * (self.end_us - self.start_us) // max(1, self.frames))

    def add(self, fragment: Fragment, size_bytes: int, frames: int, recorded_us: UtcMicroseconds) -> None:
        if fragment.keyframe:
            self.gop_bytes = 0
        self.gop_bytes += size_bytes
        self.size_bytes += size_bytes
        self.recorded_us = max(self.recorded_us, recorded_us)
        self.seq1 = fragment.seq
        self.end_us = fragment.end_us
        self.media_90k += fragment.media_90k
        self.fragments += 1
        self.frames += frames
        self.clock_ok = self.clock_ok and fragment.clock == "synced"
        if self.signature == "absent":
            self.signature = fragment.signed_sei


@dataclass(frozen=True, slots=True, kw_only=True)
class Cut:
    """A segment that is closed, and why."""

    segment: Growing
    reason: CutReason


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """What one fragment did: segments closed before it, then the one it belongs to."""

    cuts: tuple[Cut, ...]
    segment: Growing
    opened: bool


@dataclass(slots=True)
class Segmenter:
    """The open segments of one partition."""

    open: dict[EpochId, Growing] = field(default_factory=dict)
    _newest: dict[tuple[str, StreamName], int] = field(default_factory=dict)
    _quiet_from_us: UtcMicroseconds = 0

    def learn_epoch(self, camera_id: str, stream: StreamName, epoch: int) -> None:
        """Know an epoch that was read before: what is stored of it stands before what comes now."""
        self._newest[camera_id, stream] = max(epoch, self._newest.get((camera_id, stream), 0))

    def record_time(self, timestamp_us: UtcMicroseconds) -> tuple[Cut, ...]:
        """Close the silent: called with the time of every record of the partition, in order, duplicates too."""
        if not self.open or timestamp_us <= self._quiet_from_us:
            return ()
        silent = [at for at, segment in self.open.items() if timestamp_us > segment.quiet_from_us]
        cuts = tuple(self._close(at, CutReason.SILENCE) for at in silent)
        self._quiet_from_us = min((segment.quiet_from_us for segment in self.open.values()), default=0)
        return cuts

    def fragment(
        self, fragment: Fragment, *, size_bytes: int, frames: int, init_bytes: int, recorded_us: UtcMicroseconds
    ) -> Step:
        """Take the next fragment that is no duplicate; `recorded_us` is its record's time."""
        cuts = list(self._superseded(fragment))
        at = EpochId(fragment.camera_id, fragment.stream, fragment.epoch)
        segment = self.open.get(at)
        if segment is not None and (reason := cut_before(segment, fragment)) is not None:
            cuts.append(self._close(at, reason))
            segment = None
        opened = segment is None
        if segment is None:
            segment = self.open[at] = self._begin(fragment, init_bytes, recorded_us)
        segment.add(fragment, size_bytes, frames, recorded_us)
        if opened:
            self._quiet_from_us = min(segment.quiet_from_us, self._quiet_from_us or segment.quiet_from_us)
        return Step(cuts=tuple(cuts), segment=segment, opened=opened)

    def run_ended(self, end: VideoEnd) -> tuple[Cut, ...]:
        """Close the run's segment, if it is open."""
        at = EpochId(end.camera_id, end.stream, end.epoch)
        segment = self.open.get(at)
        if segment is None or segment.run != end.run_id:
            return ()
        return (self._close(at, CutReason.RUN_ENDED),)

    def relieve(self) -> tuple[Cut, ...]:
        """Close the largest open segment: scratch is full. The one cut that does not follow from the records."""
        largest = max(self.open, key=lambda at: self.open[at].size_bytes, default=None)
        return () if largest is None else (self._close(largest, CutReason.SCRATCH_FULL),)

    def _superseded(self, fragment: Fragment) -> tuple[Cut, ...]:
        """Close what lower epochs have open when a higher one first appears.

        A lower epoch's footage that comes after that is kept in segments of its own (`overlap`), which
        the higher epoch's later fragments leave alone: else each would close one.
        """
        stream = (fragment.camera_id, fragment.stream)
        known = self._newest.get(stream, 0)
        if fragment.epoch <= known:
            return ()
        self._newest[stream] = fragment.epoch
        lower = [at for at in self.open if at[:2] == stream and at.epoch < fragment.epoch]
        return tuple(self._close(at, CutReason.HIGHER_EPOCH) for at in lower)

    def _begin(self, fragment: Fragment, init_bytes: int, recorded_us: UtcMicroseconds) -> Growing:
        return Growing(
            run=fragment.run_id,
            seq0=fragment.seq,
            start_us=fragment.start_us,
            init_sha256=fragment.init_sha256,
            retention_class=fragment.retention_class,
            codec=fragment.codec,
            dependent=not fragment.keyframe,
            overlap=fragment.epoch < self._newest.get((fragment.camera_id, fragment.stream), 0),
            size_bytes=init_bytes,
            recorded_us=recorded_us,
        )

    def _close(self, at: EpochId, reason: CutReason) -> Cut:
        return Cut(segment=self.open.pop(at), reason=reason)


def cut_before(segment: Growing, fragment: Fragment) -> CutReason | None:
    """Return why `fragment` cannot go into `segment`, or None."""
    if fragment.run != segment.run.run:
        return CutReason.RUN
    if fragment.init_sha256 != segment.init_sha256:
        return CutReason.INIT
    if fragment.retention_class != segment.retention_class:
        return CutReason.RETENTION_CLASS
    if fragment.seq != segment.seq1 + 1:
        return CutReason.SEQ_HOLE
    if fragment.start_us - segment.end_us > segment.small_hole_us():
        # A row must not cover time without footage, so a hole in time ends it as a hole in seq does.
        return CutReason.TIME_HOLE
    if fragment.keyframe:
        return _cut_at_key_picture(segment, fragment)
    if segment.size_bytes >= LONG_GOP_BYTES_MAX or segment.media_90k >= LONG_GOP_90K_MAX:
        return CutReason.LONG_GOP
    return None


def _cut_at_key_picture(segment: Growing, fragment: Fragment) -> CutReason | None:
    if fragment.start_us // MINUTE_US != segment.start_us // MINUTE_US:
        return CutReason.MINUTE
    if segment.size_bytes + segment.gop_bytes > SEGMENT_BYTES_MAX:
        return CutReason.SIZE
    return None
