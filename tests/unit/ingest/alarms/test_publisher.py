"""A press is acknowledged only when it can no longer be lost, and the order of the door is kept."""

import asyncio
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Executor, Future
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from services.ingest.alarms.publisher import ANSWER_S, AlarmPublisher
from services.ingest.alarms.spool import AlarmSpool, SpoolFull
from services.runtime.clock import FakeClock, settle
from services.runtime.errors import ClockAhead, SendUnknown
from services.runtime.kafka_port import Outgoing


class AtOnce(Executor):
    """Runs what it is given at once, so that a test needs no thread."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> "Future[Any]":
        done: Future[Any] = Future()
        try:
            done.set_result(fn(*args, **kwargs))
        except BaseException as error:  # noqa: BLE001 - handed to whoever awaits it
            done.set_exception(error)
        return done


def press(number: int) -> Outgoing:
    return Outgoing(
        topic="alarms", key="mapo-01", value=b"{}", headers=(("ce_id", b"%d" % number),), timestamp_ms=number
    )


@pytest.fixture
def kafka(scripted_kafka: Callable[[], Any]) -> Any:
    return scripted_kafka()


@asynccontextmanager
async def running(
    kafka: Any, path: Path, clock: FakeClock, *, capacity_bytes: int = 65_536
) -> AsyncIterator[AlarmPublisher]:
    spool = AlarmSpool.open(path, capacity_bytes=capacity_bytes)
    publisher = AlarmPublisher(kafka, spool, disk=AtOnce(), clock=clock)
    run = asyncio.create_task(publisher.run())
    await settle()
    try:
        yield publisher
    finally:
        run.cancel()
        await asyncio.gather(run, return_exceptions=True)
        spool.close()


async def test_an_answer_of_kafka_acknowledges(kafka: Any, tmp_path: Path, clock: FakeClock) -> None:
    async with running(kafka, tmp_path / "spool", clock) as publisher:
        assert await publisher.publish(press(1)) == "acked"
        assert kafka.sent == [press(1)]


async def test_silence_of_two_seconds_puts_the_press_on_the_disk(kafka: Any, tmp_path: Path, clock: FakeClock) -> None:
    kafka.silent = True
    async with running(kafka, tmp_path / "spool", clock) as publisher:
        kept = asyncio.create_task(publisher.publish(press(1)))
        await settle()
        await clock.advance(ANSWER_S - 0.001)
        assert not kept.done()
        await clock.advance(0.001)

        assert await kept == "spooled"
        assert publisher.statistics().waiting == 1


async def test_a_spooled_press_is_sent_when_kafka_is_back(kafka: Any, tmp_path: Path, clock: FakeClock) -> None:
    kafka.failing = [SendUnknown("no answer"), SendUnknown("no answer")]
    async with running(kafka, tmp_path / "spool", clock) as publisher:
        assert await publisher.publish(press(1)) == "spooled"
        await clock.advance(5)

        assert kafka.sent == [press(1)]
        assert publisher.statistics().waiting == 0


async def test_what_comes_later_waits_behind_what_is_spooled(kafka: Any, tmp_path: Path, clock: FakeClock) -> None:
    kafka.failing = [SendUnknown("no answer")] * 3
    async with running(kafka, tmp_path / "spool", clock) as publisher:
        for number in (1, 2, 3):
            assert await publisher.publish(press(number)) == "spooled"
        await clock.advance(30)
        assert await publisher.publish(press(4)) == "acked"

        assert kafka.sent == [press(number) for number in (1, 2, 3, 4)]


async def test_presses_are_taken_before_kafka_was_ever_reached(kafka: Any, tmp_path: Path, clock: FakeClock) -> None:
    kafka.reachable = False
    async with running(kafka, tmp_path / "spool", clock) as publisher:
        assert await publisher.publish(press(1)) == "spooled"
        kafka.reachable = True
        await clock.advance(10)

        assert kafka.sent == [press(1)]


async def test_a_start_sends_what_a_killed_process_left(kafka: Any, tmp_path: Path, clock: FakeClock) -> None:
    left = AlarmSpool.open(tmp_path / "spool", capacity_bytes=65_536)
    left.append(press(1))
    left.append(press(2))
    left.close()

    async with running(kafka, tmp_path / "spool", clock):
        await settle()

        assert kafka.sent == [press(1), press(2)]


async def test_a_clock_that_runs_ahead_keeps_the_press(kafka: Any, tmp_path: Path, clock: FakeClock) -> None:
    kafka.failing = [ClockAhead("time stamp refused")]
    async with running(kafka, tmp_path / "spool", clock) as publisher:
        assert await publisher.publish(press(1)) == "spooled"


async def test_without_kafka_and_without_room_nothing_is_acknowledged(
    kafka: Any, tmp_path: Path, clock: FakeClock
) -> None:
    kafka.reachable = False
    async with running(kafka, tmp_path / "spool", clock, capacity_bytes=32) as publisher:
        with pytest.raises(SpoolFull):
            await publisher.publish(press(1))

        assert publisher.statistics().waiting == 0
