"""The gateway as a process: when it opens its doors, what Kafka may do to it, how it stops."""

from pathlib import Path

import pytest

from services.contracts.alert import Alert
from services.contracts.envelope import Envelope
from services.runtime.errors import RetryLater, StoppedEarly
from services.runtime.kafka_port import Outgoing
from tests.integration.gateway.rig import FaultyKafka, Rig, frames, until


async def turns(rig: Rig, seconds: float) -> None:
    """Let time pass for the gateway."""
    for _ in range(20):
        await rig.clock.advance(seconds / 20)


async def test_the_doors_open_and_readiness_is_said_only_after_alerts_was_read_to_its_end(rig: Rig) -> None:
    for number in range(300):
        rig.alert(f"a-{number}")
    kafka = FaultyKafka(rig.kafka, "alerts")
    kafka.open.clear()
    task = rig.start(kafka)
    await until(lambda: kafka.opened)
    await turns(rig, 5)
    assert (rig.context.readiness()[0], rig.ports) == (False, [])
    kafka.open.set()
    await until(lambda: rig.context.readiness()[0])
    assert rig.context.report()["alerts"]["held"] == 300
    rig.context.stopping.set()
    await until(task.done)
    task.result()


async def test_a_start_without_kafka_waits_says_so_and_goes_on_when_it_comes(rig: Rig) -> None:
    rig.alert("a-1")
    rig.kafka.away = True
    task = rig.start()
    await turns(rig, 300)
    assert not task.done()
    assert "Kafka" in rig.context.readiness()[1]
    rig.kafka.away = False
    await turns(rig, 10)
    await until(lambda: rig.context.readiness()[0])
    rig.context.stopping.set()
    await until(task.done)
    task.result()


async def test_a_stop_while_it_waits_for_kafka_ends_it_at_once(rig: Rig) -> None:
    rig.kafka.away = True
    task = rig.start()
    await turns(rig, 20)
    rig.context.stopping.set()
    await until(task.done)
    with pytest.raises(StoppedEarly):
        task.result()


@pytest.mark.parametrize("times", [1, 5])
async def test_a_reader_that_fails_is_opened_again_where_it_stood_and_no_event_is_lost(rig: Rig, times: int) -> None:
    rig.alert("a-1")
    kafka = FaultyKafka(rig.kafka, "alerts")
    async with rig.running(kafka):
        console = await rig.console()
        await frames(console, "snapshot_end")
        kafka.errors += [RetryLater("no broker says where to go on")] * times
        await turns(rig, 0.6)
        assert len(kafka.errors) == times - 1
        rig.alert("a-2")
        for _ in range(times):
            await turns(rig, 6)
        (event,) = await frames(console, "event")
        assert [item["alert_id"] for item in event["items"]] == ["a-2"]
        assert not kafka.errors
        assert sum(kafka.opened[-1].values()) == 1


async def test_a_city_that_cannot_be_read_keeps_no_alert_from_a_console(tmp_path: Path) -> None:
    rig = await Rig(directory=tmp_path).create(without="devices.main")
    async with rig.running():
        console = await rig.console()
        await frames(console, "snapshot_end")
        rig.alert("a-1")
        assert (await frames(console, "event"))[0]["items"][0]["alert_id"] == "a-1"


async def test_a_record_that_is_not_what_alerts_carries_is_counted_and_holds_up_nothing(rig: Rig) -> None:
    async with rig.running():
        console = await rig.console()
        await frames(console, "snapshot_end")
        for value in (b"{", b'{"alert_id":1}'):
            headers = Envelope(id="x", source="/x", type=Alert.TYPE).to_headers()
            rig.kafka.append(Outgoing(topic="alerts", key="x", value=value, headers=headers, timestamp_ms=0))
        rig.alert("a-1")
        assert (await frames(console, "event"))[0]["items"][0]["alert_id"] == "a-1"
        refused = rig.registry.get_sample_value("safealley_gateway_view_records_refused_total", {"topic": "alerts"})
        assert refused == 2


async def test_a_stop_tells_consoles_and_windows_to_come_back_and_ends(rig: Rig) -> None:
    async with rig.running():
        console, window = await rig.console(), await rig.live()
        await frames(console, "snapshot_end")
        rig.context.stopping.set()
        bye = (await frames(console, "bye"))[-1]
        assert (bye["reason"], bye["retry_ms"] >= 500) == ("restart", True)
        await console.receive()
        assert console.close_code == 1012
        assert await window.next() == {"closed": 1012}


async def test_looks_that_kafka_does_not_take_do_not_keep_a_stop_from_ending(rig: Rig) -> None:
    rig.camera()
    async with rig.running():
        window = await rig.live()
        rig.kafka.away = True
        await window.sub(1, "no-such-camera")
        assert (await window.next())["code"] == "unknown_camera"
        rig.context.stopping.set()
        await window.next()
    given_up = "safealley_gateway_access_log_given_up_total"
    assert rig.registry.get_sample_value(given_up, {"result": "denied"}) == 1
