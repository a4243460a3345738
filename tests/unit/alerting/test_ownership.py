"""A partition over rebalances, lost answers, and more work than there is room for."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from services.alerting.settings import AlertingSettings
from services.alerting.timers import TOMBSTONE_US
from services.contracts.alert import PartitionFence
from services.contracts.topics import ALERTS
from services.runtime.clock import settle
from services.runtime.errors import SendUnknown
from services.runtime.kafka_port import Outgoing, Placed, Producer, ProducerProfile, Record
from services.runtime.memory_kafka import MemoryKafka
from tests.unit.alerting.alarms import alarm, command, device
from tests.unit.alerting.world import PARTITIONS, World

DAY_US = 24 * 3_600_000_000


def fences(world: World) -> int:
    return sum(isinstance(body, PartitionFence) for _, body in world.decoded("alerts"))


async def rebalance(world: World) -> None:
    """Let another member join the group and leave it before it is given anything to do."""
    idle = _Idle()
    async with world.kafka.group("alerting", ("alarms.dlq",), None, idle):  # type: ignore[arg-type]
        await settle(50)
    await settle(50)


class _Idle:
    async def revoked(self, places: frozenset[Any]) -> None:
        del places

    async def assigned(self, partitions: Any) -> dict[Any, int]:
        return {one.place: one.end for one in partitions}


async def test_partitions_that_come_back_keep_their_state_and_need_no_new_claim(world: World) -> None:
    async with world.running():
        world.press("p-1")
        alert = await world.alert(lambda one: not one.isa.active)
        await world.clock.advance(1)
        epochs = {key: one["epoch"] for key, one in world.context.report()["alerting"]["partitions"].items()}
        await rebalance(world)
        again = world.context.report()["alerting"]["partitions"]
        assert {key: one["epoch"] for key, one in again.items()} == epochs
        assert all(one["serving"] for one in again.values())
        assert fences(world) == PARTITIONS
        world.say(command(alert))
        await world.alert(lambda one: one.isa.state == "ACKED")


async def test_what_happened_during_a_rebalance_is_not_lost(world: World) -> None:
    async with world.running():
        world.press("p-1")
        alert = await world.alert()
        idle = _Idle()
        async with world.kafka.group("alerting", ("alarms.dlq",), None, idle):  # type: ignore[arg-type]
            world.say(command(alert))
            world.press("p-2", body=alarm(at_us=world.clock.now_us(), device=device(device_id="bell-2")))
            await world.clock.advance(2)
        await world.until(lambda: len(world.newest()) == 2)
        await world.until(lambda: world.newest()[alert.alert_id].isa.state == "ACKED")
        await world.until(lambda: all(not one.isa.active for one in world.newest().values()))


async def test_a_partition_whose_offsets_another_member_moved_is_claimed_and_restored_anew(world: World) -> None:
    async with world.running():
        world.press("p-1")
        await world.alert(lambda one: not one.isa.active)
        await world.clock.advance(1)
        for place in world.kafka.committed("alerting"):
            world.kafka.offsets("alerting")[place] = 0
        await rebalance(world)
        await world.until(lambda: fences(world) > PARTITIONS)
        await world.until(lambda: world.metrics.alarms.labels("bell", "seen_before")._value.get() == 1)
    assert len(world.newest()) == 1


# Lost answers


class Unanswered:
    """A Kafka that stores records of one topic and loses its answers, so many times each."""

    def __init__(self, kafka: MemoryKafka, topic: str, times: int) -> None:
        self._kafka = kafka
        self.topic = topic
        self.times = times
        self.lost: dict[Any, int] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._kafka, name)

    @asynccontextmanager
    async def producer(self, profile: ProducerProfile) -> AsyncIterator[Producer]:
        async with self._kafka.producer(profile) as producer:
            yield _Unanswered(producer, self)


class _Unanswered:
    def __init__(self, producer: Producer, kafka: Unanswered) -> None:
        self._producer = producer
        self._kafka = kafka

    def __getattr__(self, name: str) -> Any:
        return getattr(self._producer, name)

    async def send(self, record: Outgoing) -> Placed:
        placed = await self._producer.send(record)
        name = dict(record.headers)["ce_id"]
        if record.topic == self._kafka.topic and self._kafka.lost.get(name, 0) < self._kafka.times:
            self._kafka.lost[name] = self._kafka.lost.get(name, 0) + 1
            raise SendUnknown("no answer")
        return placed

    def partition_for(self, topic: str, key: str) -> int:
        return self._producer.partition_for(topic, key)

    def statistics(self) -> Any:
        return self._producer.statistics()


@pytest.mark.parametrize("topic", ["alert-events", "alerts"])
async def test_a_record_without_an_answer_is_sent_again_under_the_same_id(world: World, topic: str) -> None:
    kafka = Unanswered(world.kafka, topic, times=2)
    task = world.start(kafka)
    await world.until(lambda: world.context.readiness()[0], step_s=0.1)
    world.press("p-1")
    await world.until(lambda: world.history() == ["created UNACK", "cleared RTN_UNACK"], step_s=0.1)
    await world.until(lambda: world.metrics.resends._value.get() == 2 * len(kafka.lost) > 0, step_s=0.1)
    await world.until(lambda: world.context.report()["alerting"]["lanes"]["busy"] == 0, step_s=0.1)
    assert set(kafka.lost.values()) == {2}
    assert [one.version for one in world.alerts()] == ([1, 1, 1, 2, 2, 2] if topic == "alerts" else [1, 2])
    world.context.stopping.set()
    await world.until(task.done, step_s=0.1)
    task.result()


async def test_the_second_change_of_an_alert_waits_until_the_first_has_its_answer(world: World) -> None:
    """An acknowledgement behind a press whose state finds no answer: the order in the log is that of the versions."""
    kafka = Unanswered(world.kafka, "alerts", times=3)
    task = world.start(kafka)
    await world.until(lambda: world.context.readiness()[0], step_s=0.1)
    world.press("p-1")
    alert = await world.alert()
    world.say(command(alert))
    await world.until(lambda: world.alerts()[-1].isa.acked, step_s=0.1)
    versions = [one.version for one in world.alerts()]
    assert versions == sorted(versions)
    world.context.stopping.set()
    await world.until(task.done, step_s=0.1)
    task.result()


# More than there is room for


async def test_no_more_is_read_than_there_is_room_for_and_nothing_is_lost() -> None:
    """Kafka takes presses and not our records: reading stops at the bound; then all come through, in order."""
    world = World(settings=AlertingSettings(lane_capacity_bytes=65_536))
    await world.create()
    kafka = Unanswered(world.kafka, "alert-events", times=0)
    task = world.start(kafka)
    await world.until(lambda: world.context.readiness()[0])
    kafka.times = 1_000_000
    for number in range(600):
        body = alarm(at_us=world.clock.now_us(), device=device(device_id=f"bell-{number}"), value={"text": "x" * 1000})
        world.press(f"p-{number}", body=body, source=f"bell-{number}")
        if number % 50 == 49:
            await world.clock.advance(0.5)
    lanes = world.context.report()["alerting"]["lanes"]
    # What one poll brings may come on top of the bound.
    assert lanes["full"]
    assert lanes["bytes"] < 65_536 + 1024 * 1024
    committed = sum(world.kafka.committed("alerting").values())
    assert committed == 0
    kafka.times = 0
    await world.until(lambda: len(world.newest()) == 600, step_s=0.5)
    first_of = [one.device.device_id for one in world.alerts() if one.version == 1]
    assert first_of == [f"bell-{number}" for number in range(600)]
    await world.until(lambda: sum(world.kafka.committed("alerting").values()) == 600, step_s=0.5)
    world.context.stopping.set()
    await world.until(task.done, step_s=0.5)
    task.result()


# The end of an alert


async def closed(world: World) -> str:
    world.press("p-1")
    alert = await world.alert(lambda one: not one.isa.active)
    world.say(command(alert))
    acked = await world.alert(lambda one: one.isa.acked)
    world.say(command(acked, "dispose"))
    await world.alert(lambda one: one.isa.state == "NORMAL")
    return alert.alert_id


async def test_an_alert_is_a_tombstone_seven_days_after_it_was_closed_and_its_press_stays_known_until_then(
    world: World,
) -> None:
    def buried() -> list[Record]:
        return [one for one in world.kafka.records(ALERTS.name) if one.key == alert_id and one.value is None]

    async with world.running():
        alert_id = await closed(world)
        world.clock.step_wall(2 * DAY_US)
        await world.clock.advance(6)
        world.press("p-1")
        await world.until(lambda: world.metrics.alarms.labels("bell", "seen_before")._value.get() == 1)
        assert not buried()
        world.clock.step_wall(TOMBSTONE_US - 2 * DAY_US)
        await world.until(buried, step_s=1)
        partitions = world.context.report()["alerting"]["partitions"].values()
        assert sum(one["alerts"] + one["remembered"] for one in partitions) == 0
    async with world.running():
        partitions = world.context.report()["alerting"]["partitions"].values()
        assert sum(one["alerts"] + one["remembered"] for one in partitions) == 0


async def test_an_acknowledgement_that_times_out_does_so_once_also_over_a_restart(world: World) -> None:
    async with world.running():
        world.press("p-1")
        alert = await world.alert(lambda one: not one.isa.active)
        world.say(command(alert))
        await world.alert(lambda one: one.isa.acked)
    await world.clock.advance(400)
    async with world.running():
        await world.alert(lambda one: one.isa.state == "RTN_UNACK" and one.version == 4)
        await world.clock.advance(600)
    assert world.history() == ["created UNACK", "cleared RTN_UNACK", "acked ACKED", "unacked RTN_UNACK"]
