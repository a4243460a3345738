"""A member's own work, on a consumer that does as told: sessions, holds, rebalances, being stuck."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest
from aiokafka import TopicPartition
from aiokafka.errors import CommitFailedError, InvalidSessionTimeoutError, KafkaError, OffsetOutOfRangeError

from services.runtime.clock import FakeClock, settle
from services.runtime.errors import OffsetsLost, OwnershipLost, RetryLater
from services.runtime.kafka.client_settings import GROUPS, GroupSettings
from services.runtime.kafka.group import TRY_AGAIN_S, AioGroup
from services.runtime.kafka.watchdog import ClientStuck
from services.runtime.kafka_port import Assigned, GroupProfile, Place

RAWS = [TopicPartition("t", 0), TopicPartition("t", 1)]
ZERO, ONE = Place("t", 0), Place("t", 1)


class Consumer:
    """The part of AIOKafkaConsumer that a member uses."""

    def __init__(self, refused: Callable[[], Exception | None]) -> None:
        self._refused = refused
        self.paused: set[TopicPartition] = set()
        self.at: dict[TopicPartition, int] = {}
        self.end = 0
        self.asked: list[tuple[TopicPartition, ...]] = []
        self.error: Exception | None = None
        self.commit_error: Exception | None = None
        self.beginning_error: Exception | None = None
        self.stopped = False

    def subscribe(self, topics: Sequence[str], *, listener: object) -> None:
        del topics, listener

    async def start(self) -> None:
        error = self._refused()
        if error is not None:
            raise error

    async def stop(self) -> None:
        self.stopped = True

    def pause(self, *raws: TopicPartition) -> None:
        self.paused |= set(raws)

    def resume(self, *raws: TopicPartition) -> None:
        self.paused -= set(raws)

    def seek(self, raw: TopicPartition, offset: int) -> None:
        self.at[raw] = offset

    async def position(self, raw: TopicPartition) -> int:
        return self.at[raw]

    def highwater(self, raw: TopicPartition) -> int:
        del raw
        return self.end

    def assignment(self) -> set[TopicPartition]:
        return set(RAWS)

    async def beginning_offsets(self, raws: Sequence[TopicPartition]) -> dict[TopicPartition, int]:
        if self.beginning_error is not None:
            error, self.beginning_error = self.beginning_error, None
            raise error
        return dict.fromkeys(raws, 5)

    async def end_offsets(self, raws: Sequence[TopicPartition]) -> dict[TopicPartition, int]:
        return dict.fromkeys(raws, 9)

    async def committed(self, raw: TopicPartition) -> int | None:
        return 7 if raw.partition == 0 else None

    async def commit(self, offsets: Mapping[TopicPartition, int]) -> None:
        del offsets
        if self.commit_error is not None:
            raise self.commit_error

    async def getmany(self, *raws: TopicPartition, timeout_ms: int) -> dict[TopicPartition, list[Any]]:
        del timeout_ms
        self.asked.append(raws)
        if self.error is not None:
            error, self.error = self.error, None
            raise error
        return {}


class Listener:
    def __init__(self) -> None:
        self.events: list[str] = []
        self.seen: list[Assigned] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.errors: list[Exception] = []

    async def revoked(self, places: frozenset[Place]) -> None:
        self.events.append(f"revoked {len(places)}")

    async def assigned(self, partitions: Sequence[Assigned]) -> Mapping[Place, int]:
        self.events.append(f"assigned {len(partitions)}")
        self.seen = list(partitions)
        await self.gate.wait()
        if self.errors:
            raise self.errors.pop(0)
        return {one.place: one.committed or one.beginning for one in partitions}


class Harness:
    """A member, its consumers one after the other, and its listener."""

    def __init__(self, profile: GroupProfile = GroupProfile.ALERTING) -> None:
        self.clock = FakeClock()
        self.listener = Listener()
        self.consumers: list[Consumer] = []
        self.settings: list[GroupSettings] = []
        self.refusals: list[Exception] = []
        self.there = True
        self.group = AioGroup(
            self._make, topics=["t"], settings=GROUPS[profile], listener=self.listener, clock=self.clock,
            name="group", answers=self._answers,
        )  # fmt: skip

    def _make(self, settings: GroupSettings, assignor: object) -> Any:
        del assignor
        self.settings.append(settings)
        self.consumers.append(Consumer(lambda: self.refusals.pop(0) if self.refusals else None))
        return self.consumers[-1]

    async def _answers(self) -> bool:
        return self.there

    @property
    def consumer(self) -> Consumer:
        return self.consumers[-1]

    async def opened(self) -> "Harness":
        await self.group.open()
        await self.group.on_partitions_revoked([])
        await self.group.on_partitions_assigned(RAWS)
        await settle()
        return self

    async def poll_for(self, seconds: int, hold: frozenset[Place] = frozenset()) -> None:
        for _ in range(seconds):
            await self.clock.advance(1)
            await self.group.poll(timeout_s=0, hold=hold)


async def test_partitions_are_paused_until_the_service_has_said_where_to_begin() -> None:
    harness = Harness()
    harness.listener.gate.clear()
    await harness.opened()
    assert harness.consumer.paused == set(RAWS)
    assert await harness.group.poll(timeout_s=0) == []
    harness.listener.gate.set()
    await settle()
    assert harness.consumer.paused == set()
    assert harness.consumer.at == {RAWS[0]: 7, RAWS[1]: 5}
    assert harness.listener.seen == [
        Assigned(place=ZERO, committed=7, beginning=5, end=9),
        Assigned(place=ONE, committed=None, beginning=5, end=9),
    ]


async def test_a_rebalance_meanwhile_cancels_it_and_revokes_nothing() -> None:
    harness = Harness()
    harness.listener.gate.clear()
    await harness.opened()
    await harness.group.on_partitions_revoked(RAWS)
    assert harness.group.assignment() == frozenset()
    await harness.group.on_partitions_assigned(RAWS[:1])
    harness.listener.gate.set()
    await settle()
    await harness.group.on_partitions_revoked(RAWS[:1])
    assert harness.listener.events == ["assigned 2", "assigned 1", "revoked 1"]


@pytest.mark.parametrize("error", [RetryLater("the log is away"), TimeoutError()], ids=["later", "not in time"])
async def test_a_service_that_could_not_take_up_its_partitions_is_asked_again(error: Exception) -> None:
    harness = Harness()
    harness.listener.errors = [error]
    await harness.opened()
    assert harness.consumer.paused == set(RAWS)
    await harness.clock.advance(1)
    assert harness.consumer.paused == set()


async def test_a_mistake_of_the_service_is_raised_by_poll() -> None:
    harness = Harness()
    harness.listener.errors = [KeyError("mistake")]
    await harness.opened()
    with pytest.raises(KeyError):
        await harness.group.poll(timeout_s=0)


async def test_a_broker_that_refuses_the_session_gets_the_longer_one() -> None:
    harness = Harness()
    harness.refusals = [InvalidSessionTimeoutError()]
    await harness.opened()
    assert [settings.session_ms for settings in harness.settings] == [3_000, 6_000]
    assert harness.consumers[0].stopped


async def test_what_is_held_is_not_asked_for_and_is_paused_after_five_seconds() -> None:
    harness = await Harness().opened()
    hold = frozenset((ZERO,))
    await harness.group.poll(timeout_s=0, hold=hold)
    assert harness.consumer.asked[-1] == (RAWS[1],)
    assert harness.consumer.paused == set()
    await harness.poll_for(5, hold)
    assert harness.consumer.paused == {RAWS[0]}
    await harness.group.poll(timeout_s=0)
    assert harness.consumer.paused == set()


async def test_when_all_is_held_all_is_paused_and_the_poll_goes_on() -> None:
    harness = await Harness().opened()
    await harness.group.poll(timeout_s=0, hold=frozenset((ZERO, ONE)))
    assert harness.consumer.paused == set(RAWS)
    assert not harness.consumer.asked[-1]
    await harness.group.poll(timeout_s=0, hold=frozenset((ONE,)))
    assert harness.consumer.paused == {RAWS[1]}
    assert harness.consumer.asked[-1] == (RAWS[0],)


async def test_an_error_of_the_fetch_replaces_the_consumer_and_tells_the_service() -> None:
    harness = await Harness().opened()
    harness.consumer.error = KafkaError("unexpected")
    await harness.group.poll(timeout_s=0)
    assert harness.listener.events[-1] == "revoked 2"
    assert harness.consumer.stopped
    await harness.group.poll(timeout_s=0)
    assert len(harness.consumers) == 2


async def test_lost_offsets_are_told_once_the_broker_says_where_the_log_begins() -> None:
    harness = await Harness().opened()
    harness.consumer.beginning_error = KafkaError("no answer")
    harness.consumer.error = OffsetOutOfRangeError({RAWS[0]: 2})
    polling = asyncio.create_task(harness.group.poll(timeout_s=0))
    await settle()
    await harness.clock.advance(TRY_AGAIN_S)
    assert await polling == []
    harness.consumer.error = OffsetOutOfRangeError({RAWS[0]: 2})
    with pytest.raises(OffsetsLost):
        await harness.group.poll(timeout_s=0)
    assert harness.consumer.at[RAWS[0]] == 5


async def test_a_commit_after_the_group_went_on_is_lost_ownership() -> None:
    harness = await Harness().opened()
    harness.consumer.commit_error = CommitFailedError()
    with pytest.raises(OwnershipLost):
        await harness.group.commit({ZERO: 1})


async def test_three_commits_without_an_answer_replace_the_consumer() -> None:
    harness = await Harness().opened()
    harness.consumer.commit_error = KafkaError("no answer")
    for _ in range(3):
        with pytest.raises(RetryLater):
            await harness.group.commit({ZERO: 1})
    await harness.group.poll(timeout_s=0)
    assert harness.consumers[0].stopped


async def test_no_move_for_thirty_seconds_with_records_waiting_is_stuck() -> None:
    harness = await Harness().opened()
    harness.consumer.end = 100
    await harness.poll_for(30)
    with pytest.raises(ClientStuck, match="has not moved"):
        await harness.poll_for(3)


async def test_ingest_replaces_a_stuck_client_and_goes_on_recording() -> None:
    harness = await Harness(GroupProfile.OWNERSHIP).opened()
    harness.consumer.end = 100
    await harness.poll_for(35)
    assert harness.consumers[0].stopped
    assert len(harness.consumers) == 2


async def test_what_is_held_back_or_read_to_the_end_is_not_stuck() -> None:
    harness = await Harness().opened()
    await harness.poll_for(60)
    harness.consumer.end = 100
    await harness.poll_for(60, frozenset((ZERO, ONE)))


async def test_an_absent_kafka_is_not_taken_for_a_stuck_client() -> None:
    harness = await Harness().opened()
    harness.consumer.end = 100
    harness.there = False
    await harness.poll_for(100)


async def test_four_minutes_without_an_assignment_are_stuck() -> None:
    harness = await Harness().opened()
    await harness.group.on_partitions_revoked(RAWS)
    await harness.poll_for(240)
    with pytest.raises(ClientStuck, match="no assignment"):
        await harness.poll_for(3)
