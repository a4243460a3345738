"""Which alert partitions are ours: claim, fence, restore, serve; and where reading goes on.

The group is on `alarms` alone; who owns a partition of it owns the same one of `alerts`,
`alert-events` and `operator-commands`. Rebalances are eager, so a partition that comes back unclaimed
by others keeps its state.
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final, Protocol

import structlog

from services.alerting.changelog import Changelog, Fold, Partition, epoch_of
from services.alerting.lanes import Lanes, LowMarks
from services.alerting.metrics import AlertingMetrics
from services.alerting.state import PartitionState
from services.alerting.timers import AckLimits
from services.contracts.claim import Claim, alert_partition_key
from services.contracts.topics import ALARMS, ALERTS, OPERATOR_COMMANDS
from services.runtime.claims import ClaimsLog
from services.runtime.clock import Clock
from services.runtime.errors import OffsetsLost, OwnershipLost, RetryLater
from services.runtime.kafka_port import Assigned, Kafka, Place, Reader, Record, Start
from services.runtime.waits import together, within

log = structlog.get_logger()
DRAIN_S: Final = 5.0
RESTORE_S: Final = 60.0
POLL_S: Final = 0.2
LOST_MAX_NS: Final = 60_000_000_000


class Commits(Protocol):
    """Where alarms are committed: the group consumer."""

    async def commit(self, positions: Mapping[Place, int]) -> None: ...


class Ownership:
    """The partitions of this process. Life: listens to the group; `watch` reads `alerts` behind it.

    `on_lost_offsets(topic, partition, lost)` tells of alarms or commands that are gone from the log.
    """

    def __init__(
        self, *, name: str, kafka: Kafka, claims: ClaimsLog, changelog: Changelog, lanes: Lanes, marks: LowMarks,
        tail: Reader, commands: Reader, limits: AckLimits, clock: Clock, metrics: AlertingMetrics,
        on_lost_offsets: Callable[[str, int, int], None],
    ) -> None:  # fmt: skip
        self._name = name
        self._kafka = kafka
        self._claims = claims
        self._changelog = changelog
        self._lanes = lanes
        self._marks = marks
        self._tail = tail
        self._commands = commands
        self._limits = limits
        self._clock = clock
        self._metrics = metrics
        self._on_lost_offsets = on_lost_offsets
        self.on_ready: Callable[[], None] = lambda: None
        self._committed: dict[Place, int] = {}
        self.partitions: dict[int, Partition] = {}
        self.consumer: Commits | None = None
        claims.on_change(self._claimed)

    def serving(self, index: int) -> Partition | None:
        """Return a partition that is claimed, restored and still ours."""
        partition = self.partitions.get(index)
        return partition if partition is not None and partition.serving and not partition.lost else None

    def held(self) -> frozenset[Place]:
        """Return the partitions of `alarms` that must not be read on."""
        if self._lanes.full:
            return frozenset(Place(ALARMS.name, index) for index in self.partitions)
        return frozenset(Place(ALARMS.name, one.index) for one in self.partitions.values() if one.lost)

    # The group's listener

    async def revoked(self, places: frozenset[Place]) -> None:
        """Finish what is begun, commit, and keep the state: the partition may return at once."""
        indexes = {place.partition for place in places}
        for index in indexes & self.partitions.keys():
            self.partitions[index].serving = False
        try:
            await within(DRAIN_S, self._lanes.drained(indexes), clock=self._clock)
        except TimeoutError:
            log.warning("ownership.not_drained", partitions=sorted(indexes))
        await self.commit()
        self._marks.reset(Place(topic, index) for topic in (ALARMS.name, OPERATOR_COMMANDS.name) for index in indexes)

    async def assigned(self, partitions: Sequence[Assigned]) -> Mapping[Place, int]:
        """Claim, fence and restore what is new; return where to read each from.

        Raises:
            RetryLater: Kafka does not answer; the same call again.
        """
        began_ns = self._clock.monotonic_ns()
        indexes = {one.place.partition for one in partitions}
        for index in self.partitions.keys() - indexes:
            self._drop(index)
        kept = {one.place.partition for one in partitions if self._may_keep(one)}
        for index in self.partitions.keys() - kept:
            self._drop(index)
        await self._restore(kept, catch_up=True)
        fresh = indexes - self.partitions.keys()
        for partition in await together(*(self._claim(index) for index in sorted(fresh))):
            self.partitions[partition.index] = partition
        await self._restore(fresh, catch_up=False)
        await self._follow(indexes)
        for partition in self.partitions.values():
            partition.serving = not partition.lost
        self._metrics.restore_seconds.observe((self._clock.monotonic_ns() - began_ns) / 1e9)
        self._metrics.restored.set(sum(len(one.state) for one in self.partitions.values()))
        log.info("ownership.assigned", partitions=sorted(indexes), claimed=sorted(fresh), kept=sorted(kept))
        self.on_ready()
        return {one.place: self._start(one) for one in partitions}

    # Committing

    async def commit(self) -> None:
        """Commit what is done, alarms and commands. A missing answer is made up for by the next tick."""
        positions = {place: at for place, at in self._marks.positions().items() if self._committed.get(place) != at}
        alarms = {place: at for place, at in positions.items() if place.topic == ALARMS.name}
        commands = {place: at for place, at in positions.items() if place.topic == OPERATOR_COMMANDS.name}
        try:
            if alarms and self.consumer is not None:
                await self.consumer.commit(alarms)
                self._committed |= alarms
            if commands:
                await self._commands.commit(commands)
                self._committed |= commands
        except (RetryLater, OwnershipLost) as error:
            log.warning("ownership.not_committed", error=type(error).__name__)

    def require_all(self) -> None:
        """Raise OwnershipLost when a partition was taken over long ago and the group did not say so.

        The process then ends and joins the group anew: else nobody would read that partition.
        """
        for partition in self.partitions.values():
            if partition.lost and self._clock.monotonic_ns() - partition.lost_ns > LOST_MAX_NS:
                partition.require()

    # Former and later owners

    async def watch(self, record: Record) -> None:
        """Take a record of `alerts` as it stands in the log; ours pass, a former owner's is written over."""
        partition = self.partitions.get(record.partition)
        if partition is None or record.offset < partition.position:
            return
        partition.position = record.offset + 1
        epoch = epoch_of(record)
        if epoch > partition.claim.epoch:
            self._lose(partition, epoch)
        elif epoch < partition.claim.epoch and not partition.lost:
            log.warning("ownership.former_owner_wrote", partition=partition.index, epoch=epoch)
            self._write_again(partition, record.key or "")

    def _write_again(self, partition: Partition, key: str) -> None:
        alert = partition.state.get(key)
        root = key if alert is None else alert.root
        self._lanes.submit(partition.index, root, 0, lambda: self._changelog.write_again(partition, key))

    def _claimed(self, claim: Claim) -> None:
        for partition in self.partitions.values():
            if claim.key == partition.claim.key and self._claims.superseded(partition.claim):
                self._lose(partition, claim.epoch)

    def _lose(self, partition: Partition, epoch: int) -> None:
        if not partition.lost:
            partition.lost, partition.serving, partition.lost_ns = True, False, self._clock.monotonic_ns()
            self._metrics.superseded.inc()
            log.warning("ownership.superseded", partition=partition.index, epoch=epoch)

    def _drop(self, index: int) -> None:
        partition = self.partitions.pop(index)
        partition.lost, partition.serving = True, False
        self._marks.reset((Place(ALARMS.name, index), Place(OPERATOR_COMMANDS.name, index)))

    # Claim and restore

    def _may_keep(self, assigned: Assigned) -> bool:
        partition = self.partitions.get(assigned.place.partition)
        if partition is None or not partition.restored or partition.lost or self._claims.superseded(partition.claim):
            return False
        return assigned.committed == self._committed.get(assigned.place)

    async def _claim(self, index: int) -> Partition:
        claim = await self._claims.claim(alert_partition_key(index), owner=self._name, live_url=None)
        partition = Partition(index, claim, PartitionState(self._limits))
        placed = await self._changelog.fence(partition)
        partition.position = placed.offset + 1
        return partition

    async def _restore(self, indexes: Iterable[int], *, catch_up: bool) -> None:
        """Read `alerts`: a kept partition on from where it stood, a fresh one from its beginning to its fence."""
        chosen = {index: self.partitions[index] for index in indexes}
        if not chosen:
            return
        starts: dict[Place, int | Start] = {
            Place(ALERTS.name, index): one.position if catch_up else Start.BEGINNING for index, one in chosen.items()
        }
        folds = {index: Fold() for index in chosen}
        try:
            async with self._kafka.reader(starts) as reader:
                if catch_up:
                    await self._read(reader, self.watch)
                    return
                await self._read(reader, lambda record: _take(folds[record.partition], record))
        except OffsetsLost as error:
            # `alerts` went back: what is in memory is no longer what the log says. All is read anew.
            self.partitions[error.partition].restored = False
            raise RetryLater(str(error)) from error
        for index, fold in folds.items():
            self._fill(chosen[index], fold)

    async def _read(self, reader: Reader, take: Callable[[Record], object]) -> None:
        deadline_ns = self._clock.monotonic_ns() + round(RESTORE_S * 1e9)
        while not reader.caught_up():
            if self._clock.monotonic_ns() > deadline_ns:
                raise RetryLater(f"`alerts` was not read to its end in {RESTORE_S} s")
            for record in await reader.poll(timeout_s=POLL_S):
                taken = take(record)
                if asyncio.iscoroutine(taken):
                    await taken

    def _fill(self, partition: Partition, fold: Fold) -> None:
        for alert in fold.alerts():
            partition.state.put(alert)
        partition.restored = True
        self._metrics.unreadable.labels(ALERTS.name).inc(fold.unreadable)
        for key in fold.stale:
            self._write_again(partition, key)

    async def _follow(self, indexes: Iterable[int]) -> None:
        """Point the readers of `alerts` and `operator-commands` at our partitions."""
        alerts = {Place(ALERTS.name, index): self.partitions[index].position for index in indexes}
        await self._tail.assign(alerts)
        places = [Place(OPERATOR_COMMANDS.name, index) for index in indexes]
        committed = await self._commands.committed(places)
        starts: dict[Place, int | Start] = {}
        for place in places:
            at = committed[place]
            starts[place] = Start.BEGINNING if at is None else at
            if at is not None:
                self._committed[place] = at
        # Emptied first, so that a partition kept over the rebalance begins at its commit again.
        await self._commands.assign({})
        await self._commands.assign(starts)

    # Where to read `alarms` from

    def _start(self, assigned: Assigned) -> int:
        committed, index = assigned.committed, assigned.place.partition
        lost = _lost_offsets(assigned)
        if lost is None and committed is not None:
            self._committed[assigned.place] = committed
            return committed
        self._committed.pop(assigned.place, None)
        if lost is not None:
            self._on_lost_offsets(ALARMS.name, index, lost)
        return assigned.beginning


def _take(fold: Fold, record: Record) -> None:
    fold.take(record)


def _lost_offsets(assigned: Assigned) -> int | None:
    """Return how many alarms may be lost, or None when a replay from the beginning finds all of them."""
    committed = assigned.committed
    if committed is None:
        return assigned.beginning or None
    if committed < assigned.beginning:
        return assigned.beginning - committed
    return committed - assigned.end if committed > assigned.end else None
