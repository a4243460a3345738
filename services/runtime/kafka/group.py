"""A member of a consumer group: rebalances, back-pressure, commits, and what to do when stuck.

aiokafka sends no heartbeat while it runs `on_partitions_assigned`, so that the service's `assigned`
runs in a task of its own with the partitions paused; records come only after it has answered.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final

import structlog
from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, TopicPartition
from aiokafka.coordinator.assignors.sticky.sticky_assignor import StickyPartitionAssignor
from aiokafka.errors import (
    InvalidSessionTimeoutError,
    KafkaError,
    NoOffsetForPartitionError,
    OffsetOutOfRangeError,
)

from services.runtime.clock import Clock
from services.runtime.errors import OffsetsLost, OwnershipLost, RetryLater
from services.runtime.kafka import translate
from services.runtime.kafka.client_settings import GroupSettings
from services.runtime.kafka.watchdog import ClientStuck, Progress
from services.runtime.kafka_port import Assigned, GroupListener, Place, Record
from services.runtime.waits import cancelled

log = structlog.get_logger()
POLL_GRACE_S: Final = 0.5
"""How much longer than its own timeout `getmany` may take before it is left to run (a rebalance)."""
PAUSE_AFTER_NS: Final = 5_000_000_000
COMMIT_FAILURES_MAX: Final = 3
TRY_AGAIN_S: Final = 1.0

MakeConsumer = Callable[[GroupSettings, type[StickyPartitionAssignor]], AIOKafkaConsumer]


def sticky_assignor() -> type[StickyPartitionAssignor]:
    """Return a class for one consumer: aiokafka keeps the last assignment on the class (guard 20)."""
    return type("Sticky", (StickyPartitionAssignor,), {"member_assignment": None})


class AioGroup(ConsumerRebalanceListener):  # type: ignore[misc]  # aiokafka has no types
    """One membership. `poll` drives everything; nothing is committed by itself."""

    def __init__(
        self, make: MakeConsumer, *, topics: Sequence[str], settings: GroupSettings, listener: GroupListener,
        clock: Clock, name: str, answers: Callable[[], Awaitable[bool]],
    ) -> None:  # fmt: skip
        self._make = make
        self._topics = list(topics)
        self._settings = settings
        self._listener = listener
        self._clock = clock
        self._name = name
        self._client: Any = None
        self._assignor: Any = sticky_assignor()
        self._polled_ns = clock.monotonic_ns()
        self._owned: frozenset[Place] = frozenset()
        self._starting: asyncio.Task[None] | None = None
        self._joining: asyncio.Task[None] | None = None
        self._polling: asyncio.Task[Any] | None = None
        self._stash: dict[Place, list[Record]] = {}
        self._held_since_ns: dict[Place, int] = {}
        self._paused: set[Place] = set()
        self._failure: Exception | None = None
        self._commit_failures = 0
        self._progress = Progress(clock, answers)

    # Joining and leaving

    async def open(self) -> None:
        await self._join()

    async def close(self) -> None:
        """Leave the group. `revoked` is not called: the service has drained before it closes."""
        await self._stop_starting()
        joining, self._joining = self._joining, None
        if joining is not None:
            with suppress(RetryLater):
                await cancelled(joining)
        if self._client is not None:
            await translate.stop(self._client, self._name)
        if self._polling is not None:
            with suppress(KafkaError):
                await cancelled(self._polling)

    async def _join(self) -> None:
        self._assignor = sticky_assignor()
        client = self._client = self._make(self._settings, self._assignor)
        client.subscribe(self._topics, listener=self)
        try:
            await translate.start(client, self._name)
        except RetryLater as error:
            self._client = None
            fallback = self._settings.fallback()
            if fallback is None or not isinstance(error.__cause__, InvalidSessionTimeoutError):
                raise
            log.warning("kafka.session_refused", group=self._name, session_ms=self._settings.session_ms)
            self._settings = fallback
            await self._join()

    async def _rejoin(self, reason: str) -> None:
        log.warning("kafka.group_client_replaced", group=self._name, reason=reason)
        client, self._client = self._client, None
        await self.on_partitions_revoked([translate.to_raw(place) for place in self._owned])
        await translate.stop(client, self._name)
        self._polling = None
        self._commit_failures = 0

    # Rebalances, called by aiokafka

    async def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
        del revoked  # always all of them: rebalances are eager (guard 19)
        places, self._owned = self._owned, frozenset()
        self._progress.rebalancing()
        interrupted = await self._stop_starting()
        self._absorb()
        self._stash.clear()
        self._held_since_ns.clear()
        self._paused.clear()
        if not places or interrupted:
            return
        try:
            async with asyncio.timeout(self._settings.revoke_s):
                await self._listener.revoked(places)
        except (TimeoutError, OwnershipLost, RetryLater) as error:
            log.warning("kafka.revoked_unfinished", group=self._name, error=type(error).__name__)
        except Exception as error:  # noqa: BLE001 - aiokafka would swallow it; poll raises it
            self._failure = error

    async def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        raws = list(assigned)
        if raws:
            self._client.pause(*raws)
        for raw in raws:
            # A valid position keeps `getmany` from raising NoOffsetForPartitionError meanwhile.
            self._client.seek(raw, 0)
        self._owned = frozenset(translate.to_place(raw) for raw in raws)
        self._starting = asyncio.create_task(self._take_up(self._client, raws), name=f"{self._name}-assigned")

    async def _stop_starting(self) -> bool:
        """Return whether `assigned` was still running: the service never came to own these."""
        task, self._starting = self._starting, None
        if task is None or task.done():
            return False
        await cancelled(task)
        return True

    async def _take_up(self, client: Any, raws: Sequence[TopicPartition]) -> None:
        try:
            starts = await self._starts(client, raws)
            for raw in raws:
                client.seek(raw, starts[translate.to_place(raw)])
            if raws:
                client.resume(*raws)
            self._progress.assigned()
        except Exception as error:  # noqa: BLE001 - the next poll raises it
            self._failure = error

    async def _starts(self, client: Any, raws: Sequence[TopicPartition]) -> Mapping[Place, int]:
        while True:
            try:
                partitions = await self._looked_up(client, raws)
                async with asyncio.timeout(self._settings.assigned_s):
                    return await self._listener.assigned(partitions)
            except (RetryLater, TimeoutError) as error:
                # A broker away for longer than the deadline is no reason to end: the same question again.
                log.warning("kafka.assignment_waits", group=self._name, error=str(error) or type(error).__name__)
                await self._clock.sleep(TRY_AGAIN_S)

    async def _looked_up(self, client: Any, raws: Sequence[TopicPartition]) -> list[Assigned]:
        if not raws:
            return []
        beginnings = await translate.answered(client.beginning_offsets(raws), "beginning_offsets")
        ends = await translate.answered(client.end_offsets(raws), "end_offsets")
        return [
            Assigned(
                place=translate.to_place(raw),
                committed=await translate.answered(client.committed(raw), "committed"),
                beginning=beginnings[raw],
                end=ends[raw],
            )
            for raw in sorted(raws)
        ]

    # Reading

    async def poll(self, *, timeout_s: float, hold: frozenset[Place] = frozenset()) -> Sequence[Record]:
        self._raise_failure()
        self._forget_after_a_stop()
        if (self._client is None or self._joining is not None) and not await self._joined_again(timeout_s):
            return []
        ready = self._ready(hold)
        if not any(place not in hold for place in self._stash):
            await self._fetch(timeout_s, ready)
        self._raise_failure()
        await self._watch(hold)
        return self._unstashed(hold)

    def _forget_after_a_stop(self) -> None:
        """Claim nothing that may have been given away while this process stood still (guard 20)."""
        now_ns = self._clock.monotonic_ns()
        if now_ns - self._polled_ns > self._settings.session_ms * 1_000_000:
            self._assignor.member_assignment = None
        self._polled_ns = now_ns

    def _raise_failure(self) -> None:
        if self._failure is not None:
            failure, self._failure = self._failure, None
            raise failure

    async def _joined_again(self, timeout_s: float) -> bool:
        """Join beside the polls: with a broker away it takes up to 30 s, and who polls must show that it lives."""
        if self._joining is None:
            self._joining = asyncio.create_task(self._join(), name=f"{self._name}-join")
        await asyncio.wait((self._joining,), timeout=timeout_s)
        if not self._joining.done():
            return False
        joining, self._joining = self._joining, None
        try:
            joining.result()
        except RetryLater as error:
            log.warning("kafka.rejoin_failed", group=self._name, error=str(error))
            await self._clock.sleep(TRY_AGAIN_S)
            return False
        return True

    async def _fetch(self, timeout_s: float, ready: Sequence[TopicPartition]) -> None:
        """Let aiokafka fetch; its call is never cancelled, but left for the next poll (guard 10)."""
        if self._polling is None:
            call = self._client.getmany(*ready, timeout_ms=round(timeout_s * 1000))
            self._polling = asyncio.create_task(call, name=f"{self._name}-fetch")
        await asyncio.wait((self._polling,), timeout=timeout_s + POLL_GRACE_S)
        error = self._absorb()
        if isinstance(error, OffsetOutOfRangeError):
            await self._lost(error)
        elif error is not None and not isinstance(error, NoOffsetForPartitionError):
            await self._rejoin(type(error).__name__)

    def _absorb(self) -> KafkaError | None:
        """Take over what a finished fetch brought; return its error."""
        task = self._polling
        if task is None or not task.done():
            return None
        self._polling = None
        error = None if task.cancelled() else task.exception()
        if isinstance(error, KafkaError):
            return error
        if error is not None:
            raise error
        got = {} if task.cancelled() else task.result()
        for raw, batch in got.items():
            place = translate.to_place(raw)
            if place in self._owned:
                self._stash.setdefault(place, []).extend(translate.to_record(record) for record in batch)
        return None

    def _unstashed(self, hold: frozenset[Place]) -> list[Record]:
        records: list[Record] = []
        for place in [place for place in self._stash if place not in hold]:
            records += self._stash.pop(place)
        return records

    async def _lost(self, error: OffsetOutOfRangeError) -> None:
        for raw, wanted in error.args[0].items():
            place = translate.to_place(raw)
            if place not in self._owned:
                continue
            try:
                found = await translate.answered(self._client.beginning_offsets([raw]), "beginning_offsets")
            except RetryLater as unanswered:  # the next fetch is out of range again
                log.warning("kafka.beginning_unknown", group=self._name, error=str(unanswered))
                await self._clock.sleep(TRY_AGAIN_S)
                return
            await self.seek(place, found[raw])
            raise OffsetsLost(place.topic, place.partition, wanted, found[raw]) from error

    # Back-pressure (guards 11, 12)

    def _ready(self, hold: frozenset[Place]) -> list[TopicPartition]:
        """Return the partitions to fetch; empty means all, and then those on hold are paused."""
        if not hold and not self._held_since_ns:
            return []
        now_ns = self._clock.monotonic_ns()
        ready = [place for place in self._owned if place not in hold]
        for place in self._owned & hold:
            since_ns = self._held_since_ns.setdefault(place, now_ns)
            if not ready or now_ns - since_ns >= PAUSE_AFTER_NS:
                self._pause(place)
        for place in self._held_since_ns.keys() - hold:
            del self._held_since_ns[place]
            if place in self._paused:
                self._paused.discard(place)
                self._client.resume(translate.to_raw(place))
        return [translate.to_raw(place) for place in ready]

    def _pause(self, place: Place) -> None:
        if place not in self._paused:
            self._paused.add(place)
            self._client.pause(translate.to_raw(place))

    # The rest of the port

    async def commit(self, positions: Mapping[Place, int]) -> None:
        if self._client is None or self._joining is not None:
            raise RetryLater("commit: the client is being replaced")
        try:
            await translate.commit(self._client, positions)
        except RetryLater:
            self._commit_failures += 1
            raise
        self._commit_failures = 0

    async def seek(self, place: Place, offset: int) -> None:
        self._absorb()
        self._stash.pop(place, None)
        if place not in self._owned:
            raise OwnershipLost(f"seek: {place.topic}/{place.partition} is not ours")
        self._client.seek(translate.to_raw(place), offset)
        self._progress.moved(place)

    async def offset_for_time(self, place: Place, timestamp_ms: int) -> int | None:
        raw = translate.to_raw(place)
        found = await translate.answered(self._client.offsets_for_times({raw: timestamp_ms}), "offsets_for_times")
        return None if found[raw] is None else int(found[raw].offset)

    def assignment(self) -> frozenset[Place]:
        return self._owned

    def end(self, place: Place) -> int | None:
        if place not in self._owned or self._client is None:
            return None
        end: int | None = self._client.highwater(translate.to_raw(place))
        return end

    # Is it stuck?

    async def _watch(self, hold: frozenset[Place]) -> None:
        if self._client is None:
            return
        if self._commit_failures >= COMMIT_FAILURES_MAX:
            await self._rejoin("commits unanswered")
            return
        if self._starting is not None and not self._starting.done():
            return
        watched = [place for place in self._owned if place not in hold and place not in self._stash]
        try:
            await self._progress.check(self._client, watched)
        except ClientStuck as error:
            log.exception("kafka.client_stuck", group=self._name, reason=str(error), stacks=error.stacks)
            if self._settings.exits_when_stuck:
                raise
            await self._rejoin(str(error))
