"""The whole of alerting on one screen.

alarms             -> correlator -> prioritiser -> lifecycle -> changelog -> alert-events, alerts, commit
operator-commands  -> commands   -> lifecycle -> changelog
due times          -> timers     -> lifecycle -> changelog
devices            -> evidence
claims, alerts     -> ownership
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from random import Random
from typing import Final

import structlog

from services.alerting import api
from services.alerting.changelog import Changelog, Partition
from services.alerting.desk import Desk
from services.alerting.evidence import Cameras, Reach
from services.alerting.lanes import Lanes, LowMarks
from services.alerting.metrics import AlertingMetrics
from services.alerting.ownership import Ownership
from services.alerting.registry import follow_cameras
from services.alerting.settings import AlertingSettings
from services.alerting.timers import AckLimits
from services.contracts.topics import ALARMS
from services.runtime.claims import ClaimsLog
from services.runtime.clock import Clock
from services.runtime.dead_letter import DeadLetters
from services.runtime.errors import OffsetsLost, PoisonMessage, RetryLater
from services.runtime.kafka_port import (
    GroupConsumer,
    GroupProfile,
    Kafka,
    Place,
    Placed,
    ProducerProfile,
    Reader,
    Record,
)
from services.runtime.metrics import REGISTRY, version
from services.runtime.retry import retried
from services.runtime.service import ServiceContext
from services.runtime.starting import opened, topic_there
from services.runtime.system_alarm import system_alarm
from services.runtime.waits import within

log = structlog.get_logger()
GROUP: Final = "alerting"
COMMANDS_GROUP: Final = "alerting.commands"
POLL_S: Final = 0.5
FULL_POLL_S: Final = 0.02
COMMIT_EVERY_S: Final = 0.25
AGAIN_S: Final = 1.0
LONGEST_SLEEP_S: Final = 5.0
_S_US: Final = 1_000_000


async def run(
    settings: AlertingSettings, kafka: Kafka, context: ServiceContext, metrics: AlertingMetrics | None = None
) -> None:
    """Decide until told to stop; then finish what is begun, commit and leave the group.

    Raises:
        StoppedEarly: told to stop while it still waited for Kafka.
    """
    clock = context.clock
    metrics = metrics or AlertingMetrics(REGISTRY)
    claims, cameras, marks = ClaimsLog(kafka, clock), Cameras(), LowMarks()
    await topic_there(context, kafka, ALARMS.name)
    async with (
        claims.open(),
        opened(context, partial(kafka.producer, ProducerProfile.RECORDS), what="producer") as producer,
        opened(context, kafka.reader, what="reader of alerts") as tail,
        opened(context, partial(kafka.reader, offsets_group=COMMANDS_GROUP), what="reader of commands") as commands,
        asyncio.TaskGroup() as tasks,
    ):
        changelog = Changelog(producer, clock, metrics)
        lanes = Lanes(tasks, capacity_bytes=settings.lane_capacity_bytes)
        random = Random()  # noqa: S311 - jitter is no secret
        telling: set[asyncio.Task[Placed]] = set()

        def lost(topic: str, partition: int, offsets: int) -> None:
            metrics.lost_offsets.labels(topic).inc(offsets)
            log.error("ownership.offsets_lost", topic=topic, partition=partition, offsets=offsets)
            value = {"token": f"{topic}/{partition}", "lost": offsets}
            alarm = system_alarm("alerting", "OffsetsLost", value, now_us=clock.now_us())
            tell = partial(retried, partial(producer.send, alarm), what="system alarm", clock=clock, random=random)
            told = tasks.create_task(tell())
            telling.add(told)
            told.add_done_callback(telling.discard)

        ownership = Ownership(
            name=settings.name, kafka=kafka, claims=claims, changelog=changelog, lanes=lanes, marks=marks, tail=tail,
            commands=commands, limits=_limits(settings), clock=clock, metrics=metrics, on_lost_offsets=lost,
        )  # fmt: skip
        desk = Desk(changelog=changelog, cameras=cameras, reach=_reach(settings), clock=clock, metrics=metrics)
        # A limit here would silence every bell behind the bad records (invariant 6; docs/decisions).
        letters = DeadLetters(producer, clock=clock, version=version(), limits=None)
        alerting = Alerting(
            ownership=ownership, desk=desk, lanes=lanes, marks=marks, letters=letters, context=context, lost=lost,
        )  # fmt: skip
        changelog.on_put = lambda _partition: alerting.look_at_timers()
        ownership.on_ready = alerting.serve
        context.status("alerting", partial(api.status, ownership, lanes, cameras))
        metrics.watch(
            alerts=lambda: sum(len(one.state) for one in ownership.partitions.values()),
            active=lambda: sum(one.state.active for one in ownership.partitions.values()),
            lane_bytes=lambda: lanes.held_bytes,
        )
        join = partial(kafka.group, GROUP, (ALARMS.name,), GroupProfile.ALERTING, ownership)
        async with opened(context, join, what="group") as alarms:
            ownership.consumer = alarms
            loops = [
                tasks.create_task(alerting.read_alarms(alarms), name="alarms"),
                tasks.create_task(alerting.read_commands(commands), name="commands"),
                tasks.create_task(alerting.read_own_alerts(tail), name="alerts"),
                tasks.create_task(alerting.keep_time(), name="timers"),
                tasks.create_task(alerting.commit(), name="commit"),
                tasks.create_task(follow_cameras(kafka, settings.pool, cameras, clock), name="devices"),
            ]
            await context.stopping.wait()
            context.ready(ready=False, reason="stopping")
            await ownership.revoked(alarms.assignment())
            # What could not be written in the drain's time is read again by the next owner.
            lanes.abandon()
            for task in (*loops, *telling):
                task.cancel()


class Alerting:
    """The loops of the service. Each reads one source and puts what it reads into the lane of its root."""

    def __init__(
        self, *, ownership: Ownership, desk: Desk, lanes: Lanes, marks: LowMarks, letters: DeadLetters,
        context: ServiceContext, lost: Callable[[str, int, int], None],
    ) -> None:  # fmt: skip
        self._ownership = ownership
        self._desk = desk
        self._lanes = lanes
        self._marks = marks
        self._letters = letters
        self._context = context
        self._clock: Clock = context.clock
        self._lost = lost
        self._random = Random()  # noqa: S311 - jitter is no secret
        self._timers_moved = asyncio.Event()
        self._sleeps_until_us = 0

    async def read_alarms(self, alarms: GroupConsumer) -> None:
        while True:
            self._context.beat("alarms")
            timeout_s = FULL_POLL_S if self._lanes.full else POLL_S
            records = await self._polled(alarms.poll(timeout_s=timeout_s, hold=self._ownership.held()))
            for record in records:
                self._submit(record, self._desk.alarm)

    async def read_commands(self, commands: Reader) -> None:
        while True:
            self._context.beat("commands")
            await self._lanes.room()
            records = await self._polled(commands.poll(timeout_s=POLL_S))
            positions = commands.positions()
            for record in records:
                # A reader that was moved back meanwhile brings this one again.
                if positions.get(record.place, 0) > record.offset:
                    self._submit(record, self._desk.said)

    async def read_own_alerts(self, tail: Reader) -> None:
        """Watch for what former owners write behind us, and for a later owner."""
        while True:
            self._context.beat("alerts")
            try:
                records = await tail.poll(timeout_s=POLL_S)
            except OffsetsLost as error:
                log.warning("ownership.alerts_went_back", partition=error.partition, wanted=error.wanted)
                continue
            except RetryLater as error:
                await self._try_later("alerts", error)
                continue
            for record in records:
                await self._ownership.watch(record)

    async def keep_time(self) -> None:
        """Put what is due into the lanes of its roots; sleep until the next due time of all partitions."""
        while True:
            self._context.beat("timers")
            self._timers_moved.clear()
            now_us = self._clock.now_us()
            for partition in self._serving():
                for overdue in partition.state.overdue(now_us):
                    self._lanes.submit(
                        partition.index, overdue.root, 0, partial(self._desk.fall_due, partition, overdue)
                    )
            self._sleeps_until_us = min(self._next_due_us(), now_us + round(LONGEST_SLEEP_S * _S_US))
            try:
                sleep_s = (self._sleeps_until_us - now_us) / _S_US
                await within(sleep_s, self._timers_moved.wait(), clock=self._clock)
            except TimeoutError:
                continue

    async def commit(self) -> None:
        while True:
            self._context.beat("commit")
            await self._clock.sleep(COMMIT_EVERY_S)
            self._ownership.require_all()
            await self._ownership.commit()

    def serve(self) -> None:
        """Say that all assigned partitions are restored; what fell due meanwhile is done now."""
        self._context.ready(ready=True)
        self._timers_moved.set()

    def look_at_timers(self) -> None:
        """Wake the timers when something falls due before they would."""
        if self._next_due_us() < self._sleeps_until_us:
            self._timers_moved.set()

    def _submit(self, record: Record, handle: Callable[[Partition, Record], Awaitable[None]]) -> None:
        partition = self._ownership.serving(record.partition)
        if partition is None:
            return
        self._marks.begin(record.place, record.offset)
        size_bytes = len(record.value or b"") + sum(len(value) for _, value in record.headers)
        job = partial(self._handle, partition, record, handle)
        self._lanes.submit(record.partition, record.key or "", size_bytes, job)

    async def _handle(
        self, partition: Partition, record: Record, handle: Callable[[Partition, Record], Awaitable[None]]
    ) -> None:
        partition.require()
        try:
            await handle(partition, record)
        except PoisonMessage as error:
            put = partial(self._letters.put, record, error.reason)
            await retried(put, what="dead letter", clock=self._clock, random=self._random)
        else:
            self._letters.handled(record.place)
        partition.require()
        self._marks.done(record.place, record.offset)

    async def _polled(self, poll: Awaitable[Sequence[Record]]) -> Sequence[Record]:
        """Return what was read; nothing where offsets are gone, or where Kafka could not say where to go on."""
        try:
            return await poll
        except OffsetsLost as error:
            self._offsets_lost(error)
        except RetryLater as error:
            await self._try_later("poll", error)
        return ()

    async def _try_later(self, what: str, error: RetryLater) -> None:
        log.warning("app.poll_failed", what=what, error=str(error))
        await self._clock.sleep(AGAIN_S)

    def _offsets_lost(self, error: OffsetsLost) -> None:
        self._marks.reset((Place(error.topic, error.partition),))
        self._lost(error.topic, error.partition, abs(error.beginning - error.wanted))

    def _serving(self) -> list[Partition]:
        return [one for one in self._ownership.partitions.values() if one.serving and not one.lost]

    def _next_due_us(self) -> int:
        due = [at for one in self._serving() if (at := one.state.next_due_us()) is not None]
        return min(due, default=self._clock.now_us() + round(LONGEST_SLEEP_S * _S_US))


def _limits(settings: AlertingSettings) -> AckLimits:
    limits = settings.ack_timeout
    return AckLimits(emergency_us=limits.emergency_s * _S_US, other_us=limits.other_s * _S_US)


def _reach(settings: AlertingSettings) -> Reach:
    given = settings.evidence
    return Reach(
        radius_m=given.radius_m, before_us=given.before_s * _S_US, after_us=given.after_s * _S_US,
        cameras_max=given.cameras_max,
    )  # fmt: skip
