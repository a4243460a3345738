"""States and gaps are written in order and kept while Kafka is away; a gap outlives a state."""

import asyncio
from collections.abc import Callable
from typing import Any

from services.contracts.envelope import Envelope
from services.contracts.gap import Gap
from services.contracts.stream import StreamState
from services.ingest.streams_log import StreamsLog
from services.runtime.clock import FakeClock, settle
from services.runtime.errors import SendUnknown


def state(number: int) -> StreamState:
    return StreamState(
        camera_id="cam-1", stream="main", state="recording", since_us=number, detail="", codec=None, epoch=None
    )


def gap(number: int) -> Gap:
    return Gap(
        gap_id=f"gap-{number}", camera_id="cam-1", stream="main", from_us=number, to_us=None,
        cause="device_offline", detail="stall", evidence={}, side="device", writer="ingest-0", recorded_at_us=number,
    )  # fmt: skip


def ids(kafka: Any) -> list[str]:
    return [Envelope.from_headers(record.headers).id for record in kafka.sent]


async def test_records_are_sent_in_order_and_repeated_until_kafka_has_them(
    scripted_kafka: Callable[[], Any], clock: FakeClock
) -> None:
    kafka = scripted_kafka()
    kafka.failing = [SendUnknown("no answer"), SendUnknown("no answer")]
    log = StreamsLog(kafka, clock=clock)
    log.write(state(1))
    log.write(gap(2))
    task = asyncio.create_task(log.run())
    await settle()
    await clock.advance(10)
    await asyncio.wait_for(log.flushed(), 1)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)

    assert ids(kafka) == ["cam-1/main/1/recording", "gap-2/opened"]


async def test_beyond_the_bound_states_are_given_up_before_gaps(
    scripted_kafka: Callable[[], Any], clock: FakeClock
) -> None:
    kafka = scripted_kafka()
    log = StreamsLog(kafka, clock=clock, capacity_bytes=1_000)
    log.write(gap(0))
    for number in range(1, 20):
        log.write(state(number))
    log.write(gap(20))
    task = asyncio.create_task(log.run())
    await settle(100)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)

    assert ids(kafka)[0] == "gap-0/opened"
    assert ids(kafka)[-1] == "gap-20/opened"
    assert log.statistics()["waiting"] == 0
