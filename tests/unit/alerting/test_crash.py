"""The process dies at any moment between two bells pressed, one acknowledged and both cleared; then it comes back."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest

from services.runtime.clock import settle
from services.runtime.kafka_port import GroupConsumer, Outgoing, Place, Placed, Producer, ProducerProfile, Reader
from services.runtime.memory_kafka import MemoryKafka
from tests.unit.alerting.alarms import alarm, command, device
from tests.unit.alerting.world import PARTITIONS, World

SENDS = 2 * 3 * PARTITIONS + 5
"""More than there are: claims and fences, two alerts created, acknowledged and cleared, each event and state."""


class Crash(Exception):
    """The process ends here."""


class Faulty:
    """A Kafka whose producer breaks off at its n-th call, before or after the record stands in the log."""

    def __init__(self, kafka: MemoryKafka, *, at: int, after: bool) -> None:
        self._kafka = kafka
        self.calls = 0
        self.at = at
        self.after = after

    def __getattr__(self, name: str) -> Any:
        return getattr(self._kafka, name)

    @asynccontextmanager
    async def producer(self, profile: ProducerProfile) -> AsyncIterator[Producer]:
        async with self._kafka.producer(profile) as producer:
            yield _FaultyProducer(producer, self)

    def count(self) -> bool:
        self.calls += 1
        return self.calls == self.at


class _FaultyProducer:
    def __init__(self, producer: Producer, faulty: Faulty) -> None:
        self._producer = producer
        self._faulty = faulty

    async def send(self, record: Outgoing) -> Placed:
        crashes = self._faulty.count()
        if crashes and not self._faulty.after:
            raise Crash
        placed = await self._producer.send(record)
        if crashes:
            raise Crash
        return placed

    def partition_for(self, topic: str, key: str) -> int:
        return self._producer.partition_for(topic, key)

    def statistics(self) -> Mapping[str, int]:
        return self._producer.statistics()


class Killable:
    """A Kafka that a killed process no longer reaches: whatever it still asks for is never answered."""

    def __init__(self, kafka: MemoryKafka) -> None:
        self._kafka = kafka
        self.killed = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._kafka, name)

    async def reached(self) -> None:
        if self.killed:
            await asyncio.Event().wait()

    @asynccontextmanager
    async def producer(self, profile: ProducerProfile) -> AsyncIterator[Producer]:
        async with self._kafka.producer(profile) as producer:
            yield _Killable(producer, self)

    @asynccontextmanager
    async def reader(self, starts: Any = None, **options: Any) -> AsyncIterator[Reader]:
        async with self._kafka.reader(starts, **options) as reader:
            yield _Killable(reader, self)

    @asynccontextmanager
    async def group(self, *given: Any) -> AsyncIterator[GroupConsumer]:
        async with self._kafka.group(*given) as group:
            yield _Killable(group, self)


class _Killable:
    def __init__(self, inner: Any, kafka: Killable) -> None:
        self._inner = inner
        self._kafka = kafka

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    async def send(self, record: Outgoing) -> Placed:
        await self._kafka.reached()
        placed: Placed = await self._inner.send(record)
        await self._kafka.reached()
        return placed

    async def commit(self, positions: Mapping[Place, int]) -> None:
        await self._kafka.reached()
        await self._inner.commit(positions)


async def story(world: World, task: "asyncio.Task[None]") -> None:
    """Press two bells and acknowledge one, as far as the process lives."""
    await world.until(lambda: world.context.readiness()[0] or task.done())
    world.press("p-1")
    other = alarm(at_us=world.clock.now_us(), device=device(device_id="bell-2"))
    world.press("p-2", body=other, source="bell-2")
    with suppress(AssertionError):
        await world.until(lambda: task.done() or len(world.newest()) == 2, steps=100)
    acked = next((one for one in world.newest().values() if one.device.device_id == "bell-1"), None)
    if acked is not None:
        world.say(command(acked, "ack"))
    with suppress(AssertionError):
        await world.until(task.done, steps=150)


async def comes_back_whole(world: World) -> None:
    """Start again: both presses are alerts, once each, and everything can be answered."""
    if not any(one.key == "mangwon" for one in world.kafka.records("alarms")):
        world.press("p-1")
        other = alarm(at_us=world.clock.now_us(), device=device(device_id="bell-2"))
        world.press("p-2", body=other, source="bell-2")
    async with world.running():
        await world.until(lambda: len(world.newest()) == 2)
        await world.clock.advance(1.5)
        await settle(100)
        first = next(one for one in world.newest().values() if one.device.device_id == "bell-1")
        if first.isa.state != "ACKED":
            world.say(command(first, "ack", command_id="c-again", idempotency_key="k-again"))
        await world.until(lambda: world.newest()[first.alert_id].isa.state == "ACKED")
        await world.until(lambda: all(not one.isa.active for one in world.newest().values()))
    for alert_id, alert in world.newest().items():
        written = {envelope.id: body for envelope, body in world.events() if body.alert_id == alert_id}
        accepted = [body.version for body in written.values() if body.change != "refused"]
        assert sorted(accepted) == list(range(1, alert.version + 1))
        assert [body.change for body in written.values()].count("created") == 1
    assert len(world.newest()) == 2


@pytest.mark.parametrize("after", [False, True], ids=["before the log has it", "after the log has it"])
@pytest.mark.parametrize("at", range(1, SENDS + 1))
async def test_a_crash_at_any_send_loses_no_alarm_and_makes_no_second_alert(world: World, at: int, after: bool) -> None:
    """The n-th send fails by a mistake of ours, and so ends the process; the last numbers are beyond the last send."""
    faulty = Faulty(world.kafka, at=at, after=after)
    task = world.start(faulty)
    await story(world, task)
    assert task.done() == (faulty.calls >= at)
    task.cancel()
    await world.until(task.done, step_s=0.5)
    await comes_back_whole(world)


@pytest.mark.parametrize("turns", [*range(80), *range(158, 176)])
async def test_a_kill_at_any_turn_of_the_loop_loses_no_alarm_and_makes_no_second_alert(
    world: World, turns: int
) -> None:
    """Both bells are pressed before it starts; it is killed so many turns of its event loop later."""
    kafka = Killable(world.kafka)
    world.press("p-1")
    other = alarm(at_us=world.clock.now_us(), device=device(device_id="bell-2"))
    world.press("p-2", body=other, source="bell-2")
    task = world.start(kafka)
    for turn in range(turns):
        await asyncio.sleep(0)
        if turn % 40 == 39:
            await world.clock.advance(0.3)
    kafka.killed = True
    task.cancel()
    await world.until(task.done, step_s=0.5)
    await comes_back_whole(world)


async def test_the_sends_of_the_story_are_all_among_those_that_crash(world: World) -> None:
    faulty = Faulty(world.kafka, at=-1, after=False)
    task = world.start(faulty)
    await story(world, task)
    world.context.stopping.set()
    await world.until(task.done, step_s=0.5)
    task.result()
    assert faulty.calls <= SENDS
