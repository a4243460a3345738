"""Kafka away: at start, for a while, and while the service is told to stop."""

import asyncio

import pytest

from services.contracts.topics import ALERTS
from services.runtime.clock import settle
from services.runtime.errors import StoppedEarly
from services.runtime.kafka_port import Place
from tests.unit.alerting.alarms import command
from tests.unit.alerting.world import World


async def test_a_start_without_kafka_waits_and_says_so_and_goes_on_when_it_comes(world: World) -> None:
    world.kafka.away = True
    task = world.start()
    await world.clock.advance(300)
    assert not task.done()
    ready, reason = world.context.readiness()
    assert (ready, "Kafka" in reason) == (False, True)

    world.kafka.away = False
    await world.until(lambda: world.context.readiness()[0], step_s=0.5)
    world.press("p-1")
    assert (await world.alert()).isa.state == "UNACK"
    world.context.stopping.set()
    await world.until(task.done)
    task.result()


@pytest.mark.parametrize("turns", range(0, 60, 3))
async def test_kafka_going_away_at_any_moment_of_the_start_ends_nothing(world: World, turns: int) -> None:
    task = world.start()
    await settle(turns)
    world.kafka.away = True
    await world.clock.advance(30)
    world.kafka.away = False
    await world.until(lambda: task.done() or world.context.readiness()[0], step_s=0.5)
    assert not task.done()
    world.press("p-1")
    await world.alert()
    world.context.stopping.set()
    await world.until(task.done)
    task.result()


async def test_a_stop_while_it_waits_for_kafka_ends_it_at_once(world: World) -> None:
    world.kafka.away = True
    task = world.start()
    await world.clock.advance(20)
    world.context.stopping.set()
    await settle(20)
    assert task.done()
    with pytest.raises(StoppedEarly):
        task.result()


async def test_a_press_that_cannot_be_written_does_not_keep_a_stop_from_ending(world: World) -> None:
    """Kafka goes away with a press read and not written: the stop ends in time, the next start takes it."""
    task = world.start()
    await world.until(lambda: world.context.readiness()[0])
    world.press("p-1")
    world.kafka.lose_next_acknowledgement()
    await world.until(lambda: world.metrics.resends._value.get() == 1)
    world.kafka.away = True
    begun_ns = world.clock.monotonic_ns()
    world.context.stopping.set()
    await world.until(task.done, step_s=0.1)
    assert world.clock.monotonic_ns() - begun_ns < 15e9
    task.result()

    world.kafka.away = False
    async with world.running():
        await world.alert()
    assert world.history()[0] == "created UNACK"
    assert len(world.newest()) == 1


async def test_an_outage_of_ten_minutes_loses_nothing_and_the_state_is_kept(world: World) -> None:
    async with world.running():
        world.press("p-1")
        alert = await world.alert(lambda one: not one.isa.active)
        world.kafka.away = True
        world.say(command(alert, "ack"))
        await world.clock.advance(600)
        assert world.alerts()[-1] == alert
        world.kafka.away = False
        await world.alert(lambda one: one.isa.state == "ACKED")


async def test_an_alerts_log_that_went_back_is_read_anew_and_not_taken_for_lost_alarms(world: World) -> None:
    """A second member joins after the log of `alerts` was cut: the first goes on with what the log says."""
    async with world.running():
        world.press("p-1")
        alert = await world.alert(lambda one: not one.isa.active)
        place = next(one.place for one in world.kafka.records("alerts") if one.key == alert.alert_id)
        end = max(one.offset for one in world.kafka.records("alerts") if one.place == place)
        first, metrics = world.context, world.metrics
        await asyncio.sleep(0)
        world.kafka.truncate(Place(ALERTS.name, place.partition), end)
        second = world.start()
        await world.until(lambda: world.context.readiness()[0], step_s=0.2)
        world.context.stopping.set()
        await world.until(second.done, step_s=0.2)
        world.context = first
        await world.until(
            lambda: all(one["serving"] for one in first.report()["alerting"]["partitions"].values()), step_s=0.2
        )
        await world.alert(lambda one: one.version == 2)
    assert metrics.lost_offsets.labels("alerts")._value.get() == 0
