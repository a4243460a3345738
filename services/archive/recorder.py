"""Reads `video` and drives its lanes: catalog look-ups, holes looked for again, storing, committing.

Nothing is committed before the object is stored and its row written. What the process loses, Kafka has:
after any failure of scratch a lane is thrown away and read again from its low mark.
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Final

import structlog

from services.archive.alarms import SystemAlarms
from services.archive.catalog import Catalog
from services.archive.lane import Lane, read
from services.archive.metrics import ArchiveMetrics
from services.archive.open_tail import OpenTail
from services.archive.replay import EpochTrack, Verdict, resume_at
from services.archive.scratch import ScratchDirectory, ScratchFailed
from services.archive.seams import Seam, Seams
from services.archive.segmenter import SMALL_HOLE_US, Cut, EpochId
from services.archive.storer import BACK_OFF_S, Storer
from services.contracts.fragment import Fragment, VideoEnd
from services.contracts.gap import GapCause
from services.runtime.clock import Clock
from services.runtime.dead_letter import DeadLetters, TooManyDeadLetters
from services.runtime.errors import OffsetsLost, OwnershipLost, PoisonMessage, RetryLater
from services.runtime.kafka_port import Assigned, GroupConsumer, Place, Record

POLL_S: Final = 0.25
TICK_NS: Final = 1_000_000_000
FLUSH_S: Final = 15.0
RELIEF_SHARE: Final = 8
"""When scratch is full, open segments are closed until this part of it waits for the store."""
SCRATCH_PAUSE_NS: Final = 5_000_000_000
"""How long nothing is read after scratch took nothing: each try reads a lane's open segments again."""
CLOSED_BYTES_MAX: Final = 256 * 1024 * 1024
"""Closed segments of one partition that wait for the store; beyond it the partition is not read."""
YIELD_BYTES: Final = 2 * 1024 * 1024
REWIND_MARGIN_MS: Final = 5_000
REWIND_UNKNOWN_MS: Final = 120_000

log = structlog.get_logger()


class Recorder:
    """A `GroupListener` and the loop around its consumer."""

    def __init__(
        self,
        *,
        catalog: Catalog,
        storer: Storer,
        seams: Seams,
        scratch: ScratchDirectory,
        tail: OpenTail,
        free_bytes: Callable[[], int | None],
        reserve_bytes: int,
        alarms: SystemAlarms,
        dead_letters: DeadLetters,
        clock: Clock,
        metrics: ArchiveMetrics,
    ) -> None:
        self._catalog = catalog
        self._storer = storer
        self._seams = seams
        self._scratch = scratch
        self._tail = tail
        self._free_bytes = free_bytes
        self._reserve_bytes = reserve_bytes
        self._alarms = alarms
        self._dead_letters = dead_letters
        self._clock = clock
        self._metrics = metrics
        self._lanes: dict[Place, Lane] = {}
        self._unreadable: set[Place] = set()
        self._parked: dict[Place, Lane] = {}
        self._consumer: GroupConsumer | None = None
        self._ticked_ns = -TICK_NS
        self._below_reserve = False
        self._scratch_rests_until_ns = 0

    async def run(self, consumer: GroupConsumer, stopping: asyncio.Event, beat: Callable[[], None]) -> None:
        """Record until `stopping`; then store what is closed, commit and throw the rest away."""
        self._consumer = consumer
        try:
            while not stopping.is_set():
                beat()
                await self._step(consumer)
        finally:
            await self.revoked(frozenset(self._lanes))
            for lane in self._parked.values():
                lane.discard()
            self._parked.clear()
            await self._storer.stop()

    async def _step(self, consumer: GroupConsumer) -> None:
        try:
            records = await consumer.poll(timeout_s=POLL_S, hold=self._held())
        except OffsetsLost as lost:
            await self._lost(lost)
            return
        await self._take_all(records)
        if self._clock.monotonic_ns() - self._ticked_ns >= TICK_NS:
            self._ticked_ns = self._clock.monotonic_ns()
            await self._tick(consumer)

    # --- the group -----------------------------------------------------------------------------

    async def assigned(self, partitions: Sequence[Assigned]) -> Mapping[Place, int]:
        """Take partitions up: where they were left, or from the low mark, or from the beginning."""
        starts: dict[Place, int] = {}
        for one in partitions:
            starts[one.place] = await self._take_up(one)
        for place in tuple(self._parked):
            self._parked.pop(place).discard()
        return starts

    async def _take_up(self, one: Assigned) -> int:
        parked = self._parked.pop(one.place, None)
        if parked is not None and parked.committed == one.committed and parked.next_offset <= one.end:
            self._lanes[one.place] = parked
            return parked.next_offset
        if parked is not None:
            parked.discard()
        resume = resume_at(committed=one.committed, beginning=one.beginning, end=one.end)
        lane = Lane(one.place, resume.offset, self._scratch, self._tail)
        lane.committed = one.committed
        self._lanes[one.place] = lane
        if resume.went_back:
            lane.log_lost("kafka_log_regressed")
            await self._alarms.raise_("log_went_back", f"{one.place.topic}/{one.place.partition}")
        return resume.offset

    async def revoked(self, places: frozenset[Place]) -> None:
        """Store what is closed, commit, and park the rest in case the partition comes back."""
        lanes = [self._lanes[place] for place in places if place in self._lanes]
        await self._storer.drain(lanes, timeout_s=FLUSH_S)
        await self._storer.explain(self._seams.all())
        if self._consumer is not None:
            await self._commit(self._consumer)
        for lane in lanes:
            # A lost commit has dropped its lanes already.
            if self._lanes.pop(lane.place, None) is not None:
                self._parked[lane.place] = lane
        self._dead_letters.forget(places)
        self._unreadable -= places

    # --- records -------------------------------------------------------------------------------

    async def _take_all(self, records: Sequence[Record]) -> None:
        moved: set[Place] = set()
        taken_bytes = 0
        for record in records:
            lane = self._lanes.get(record.place)
            if lane is None or record.place in moved:
                continue
            if not await self._take(lane, record):
                moved.add(record.place)
            taken_bytes += len(record.value or b"")
            if taken_bytes >= YIELD_BYTES:
                taken_bytes = 0
                await asyncio.sleep(0)

    async def _take(self, lane: Lane, record: Record) -> bool:
        """Take one record; return False when the partition is now read from elsewhere."""
        try:
            if not await self._take_whole(lane, record):
                return False
        except ScratchFailed as error:
            await self._start_over(lane, error)
            return False
        except TooManyDeadLetters as error:
            # A dead letter has no pictures: read on, the footage would be lost, and here Kafka keeps it.
            self._unreadable.add(lane.place)
            await self._alarms.raise_("too_many_dead_letters", str(error))
            return False
        lane.next_offset = record.offset + 1
        return True

    async def _take_whole(self, lane: Lane, record: Record) -> bool:
        self._count_cuts(lane, lane.passed(record.timestamp_ms * 1000))
        try:
            facts = read(record)
            if isinstance(facts, VideoEnd):
                self._end_run(lane, facts)
                goes_on = True
            else:
                goes_on = await self._take_fragment(lane, record, facts)
        except PoisonMessage as poison:
            await self._bury(record, poison.reason)
            return True
        self._dead_letters.handled(record.place)
        return goes_on

    async def _take_fragment(self, lane: Lane, record: Record, fragment: Fragment) -> bool:
        await self._learn(lane, fragment)
        if lane.discarded:
            return False  # the partition went away while the catalog was asked
        verdict, track = lane.judge(fragment)
        if verdict in (Verdict.DUPLICATE, Verdict.LOOK_AGAIN):
            self._metrics.fragments.labels(verdict=verdict.value).inc()
        if verdict is Verdict.DUPLICATE:
            return True
        if verdict is Verdict.LOOK_AGAIN:
            track.looked_again = True
            if await self._rewind(lane, record, fragment, track):
                return False
            verdict, _ = lane.judge(fragment)
        checked = lane.gather(record, fragment)
        if checked is not None:
            self._metrics.fragments.labels(verdict=verdict.value).inc()
            self._note_seam(lane, fragment, track, hole=verdict is Verdict.HOLE)
            self._count_cuts(lane, lane.take(checked))
        return True

    async def _learn(self, lane: Lane, fragment: Fragment) -> None:
        """Look up what is stored of a stream and epoch that this lane has not met yet."""
        stream, epoch = lane.missing(fragment)
        if stream:
            known = await self._storer.call(partial(self._catalog.stream_known, fragment.camera_id, fragment.stream))
            lane.learn_stream(fragment.camera_id, fragment.stream, known)
        if epoch:
            at = EpochId(fragment.camera_id, fragment.stream, fragment.epoch)
            lane.learn_epoch(at, await self._storer.call(partial(self._catalog.epoch_known, at)))

    async def _rewind(self, lane: Lane, record: Record, fragment: Fragment, track: EpochTrack) -> bool:
        """Look for a hole in the log once more, from before it; return whether there is anything to read."""
        if track.end_us is None:
            from_ms = fragment.start_us // 1000 - REWIND_UNKNOWN_MS
        else:
            from_ms = track.end_us // 1000 - REWIND_MARGIN_MS
        consumer = self._consumer
        if consumer is None:
            return False
        try:
            offset = await consumer.offset_for_time(lane.place, max(0, from_ms))
            if offset is None or offset >= record.offset:
                return False
            await consumer.seek(lane.place, offset)
        except (RetryLater, OwnershipLost):
            log.warning("recorder.rewind_failed", camera_id=fragment.camera_id)
            return False
        log.info("recorder.looked_again", camera_id=fragment.camera_id, epoch=fragment.epoch, seq=fragment.seq)
        lane.next_offset = offset
        return True

    def _note_seam(self, lane: Lane, fragment: Fragment, track: EpochTrack, *, hole: bool) -> None:
        """Note a hole in seq, before a new epoch, or in time alone: of that ingest tells, unless it died first."""
        highest = track.seen.highest
        begins = highest is None
        from_us = lane.end_before(fragment) if begins else track.end_us
        if from_us is None or from_us >= fragment.start_us:
            return
        if not begins and not hole and fragment.start_us - from_us <= SMALL_HOLE_US:
            return
        cause: GapCause = track.hole_cause if hole else "ingest_restart"
        if begins and not hole:
            cause = lane.lost_once(fragment.camera_id, fragment.stream) or cause
        evidence: dict[str, int | str] = {"epoch": fragment.epoch, "seq": fragment.seq}
        if highest is not None:
            evidence["seq_before"] = highest
        self._seams.add(
            Seam(
                camera_id=fragment.camera_id,
                stream=fragment.stream,
                from_us=from_us,
                to_us=fragment.start_us,
                cause=cause,
                detail="restart" if cause == "ingest_restart" else "seq",
                evidence=evidence,
            )
        )

    def _end_run(self, lane: Lane, end: VideoEnd) -> None:
        """Close the run; fragments that its end tells of and that never came are a hole."""
        track = lane.track_of(end)
        if track is not None and track.end_us is not None and end.seq > (track.seen.highest or 0):
            self._seams.add(
                Seam(
                    camera_id=end.camera_id,
                    stream=end.stream,
                    from_us=track.end_us,
                    to_us=end.end_us,
                    cause=track.hole_cause,
                    detail="seq",
                    evidence={"epoch": end.epoch, "seq_last": end.seq},
                )
            )
        self._count_cuts(lane, lane.ended(end))

    def _count_cuts(self, lane: Lane, cuts: tuple[Cut, ...]) -> None:
        for cut in cuts:
            self._metrics.cuts.labels(reason=cut.reason.value).inc()
        if cuts:
            self._storer.wake(lane)

    async def _bury(self, record: Record, reason: str) -> None:
        """Send a dead letter; a record is never passed over without one.

        Raises:
            TooManyDeadLetters: so many records cannot be read that the fault is not theirs.
        """
        for pause_s in (*BACK_OFF_S, None):
            try:
                await self._dead_letters.put(record, reason)
            except RetryLater:
                if pause_s is None:
                    raise
                await self._clock.sleep(pause_s)
            else:
                return

    async def _lost(self, lost: OffsetsLost) -> None:
        """Go on from the beginning of a log that no longer holds what was next."""
        lane = self._lanes.get(Place(lost.topic, lost.partition))
        count = lost.beginning - lost.wanted
        cause = "kafka_retention_loss" if count > 0 else "kafka_log_regressed"
        await self._alarms.raise_(cause, f"{lost.topic}/{lost.partition}")
        log.error("recorder.offsets_lost", partition=lost.partition, records=count, cause=cause)
        if lane is not None:
            lane.log_lost("kafka_retention_loss" if count > 0 else "kafka_log_regressed")
            lane.next_offset = lost.beginning

    async def _start_over(self, lane: Lane, error: ScratchFailed) -> None:
        """Throw the lane away and read it again from its low mark, after a rest."""
        place, low = lane.place, lane.low()
        log.error("recorder.scratch_failed", partition=place.partition, reason=str(error), low=low)
        lane.discard()
        again = Lane(place, low, self._scratch, self._tail, lost_cause=lane.lost_cause)
        again.committed = lane.committed
        self._lanes[place] = again
        self._scratch_rests_until_ns = self._clock.monotonic_ns() + SCRATCH_PAUSE_NS
        await self._alarms.raise_("scratch_failed", f"{place.topic}/{place.partition}")
        if self._consumer is None:
            return
        try:
            await self._consumer.seek(place, low)
        except OwnershipLost:
            self._drop((place,))

    async def _relieve(self) -> None:
        """Let the store have open segments when scratch is full of them: else nothing would ever leave."""
        lanes = tuple(self._lanes.values())
        if not any(lane.closed or lane.open_bytes() for lane in lanes):
            return
        await self._alarms.raise_("scratch_full", "archive")
        wanted = self._scratch.capacity_bytes // RELIEF_SHARE
        while sum(lane.closed_bytes() for lane in lanes) < wanted:
            lane = max(lanes, key=Lane.open_bytes)
            if not lane.open_bytes():
                return
            try:
                self._count_cuts(lane, lane.relieve())
            except ScratchFailed as error:
                await self._start_over(lane, error)
                return

    def _drop(self, places: Iterable[Place]) -> None:
        """Forget partitions that another process owns now."""
        for place in places:
            lane = self._lanes.pop(place, None)
            if lane is not None:
                lane.discard()

    # --- once a second -------------------------------------------------------------------------

    async def _tick(self, consumer: GroupConsumer) -> None:
        await self._commit(consumer)
        await self._storer.explain(self._seams.due())
        free = self._free_bytes()
        below = free is not None and free < self._reserve_bytes
        if below and not self._below_reserve:
            await self._alarms.raise_("disk_reserve", "archive")
        self._below_reserve = below
        self._storer.check()
        if self._scratch.full:
            await self._relieve()
        for lane in self._lanes.values():
            self._storer.wake(lane)
        self._measure(consumer)

    def _measure(self, consumer: GroupConsumer) -> None:
        lanes = self._lanes.values()
        self._metrics.scratch_bytes.set(self._scratch.used_bytes)
        self._metrics.open_segments.set(len(self._tail))
        self._metrics.held.set(len(self._held()))
        self._metrics.chunks_held_bytes.set(sum(lane.chunks.held_bytes for lane in lanes))
        for given_up in (lane.chunks.given_up for lane in lanes):
            for why, count in given_up.items():
                self._metrics.chunks_given_up.labels(why=why.value).inc(count)
            given_up.clear()
        self._metrics.pending_bytes.set(sum(lane.closed_bytes() for lane in lanes))
        now_us = self._clock.now_us()
        oldest = min((held.segment.end_us for lane in lanes for held in lane.closed), default=now_us)
        self._metrics.oldest_pending_seconds.set(max(0, now_us - oldest) / 1e6)
        lags = {lane: max(0, (consumer.end(lane.place) or 0) - lane.next_offset) for lane in lanes}
        self._metrics.lag_records.set(sum(lags.values()))
        ages_us = (now_us - lane.recorded_us for lane, lag in lags.items() if lag and lane.recorded_us)
        self._metrics.lag_seconds.set(max(0, max(ages_us, default=0)) / 1e6)

    async def _commit(self, consumer: GroupConsumer) -> None:
        lanes = dict(self._lanes)
        moved = {place: low for place, lane in lanes.items() if (low := lane.low()) != lane.committed}
        if not moved:
            return
        try:
            await consumer.commit(moved)
        except RetryLater as error:
            # The adapter counts these and joins anew after three in a row (kafka.md 3.1).
            self._metrics.commits.labels(result="failed").inc()
            log.warning("recorder.commit_failed", reason=str(error))
        except OwnershipLost as error:
            self._metrics.commits.labels(result="lost").inc()
            log.warning("recorder.ownership_lost", partitions=[place.partition for place in moved], reason=str(error))
            self._drop(moved)
        else:
            self._metrics.commits.labels(result="done").inc()
            for place, low in moved.items():
                lanes[place].committed = low

    def _held(self) -> frozenset[Place]:
        """Return the partitions not to be read now: they stay in Kafka."""
        rests = self._clock.monotonic_ns() < self._scratch_rests_until_ns
        if rests or self._below_reserve or self._scratch.full:
            return frozenset(self._lanes)
        full = {place for place, lane in self._lanes.items() if lane.closed_bytes() > CLOSED_BYTES_MAX}
        return frozenset(full | self._unreadable & self._lanes.keys())

    def status(self) -> dict[str, object]:
        """Return what /statusz shows."""
        return {
            "partitions": {
                str(place.partition): {"next": lane.next_offset, "low": lane.low(), "closed": len(lane.closed)}
                for place, lane in tuple(self._lanes.items())
            },
            "open_segments": len(self._tail),
            "scratch_bytes": self._scratch.used_bytes,
            "below_disk_reserve": self._below_reserve,
            "unreadable": sorted(place.partition for place in self._unreadable),
            "holes_to_explain": len(self._seams),
        }
