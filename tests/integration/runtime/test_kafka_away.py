"""A broker that is killed under every kind of client: each call ends in time, and all go on after."""

import asyncio
import time
from collections.abc import Awaitable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from services.onebox.local_kafka import LocalKafka
from services.runtime.clock import SystemClock
from services.runtime.errors import RetryLater, SendUnknown
from services.runtime.kafka import AioKafka
from services.runtime.kafka_port import (
    Assigned,
    GroupProfile,
    Outgoing,
    Place,
    ProducerProfile,
    Record,
    Start,
    TopicSpec,
)

CLOCK = SystemClock()
PLACE = Place("t", 0)


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[LocalKafka]:
    try:
        with LocalKafka(tmp_path, now_us=CLOCK.now_us) as broker:
            yield broker
    except RetryLater as error:
        pytest.skip(f"a real broker: {error}")


class Listener:
    async def revoked(self, places: frozenset[Place]) -> None:
        pass

    async def assigned(self, partitions: Sequence[Assigned]) -> Mapping[Place, int]:
        return {one.place: one.beginning for one in partitions}


def outgoing(value: bytes) -> Outgoing:
    return Outgoing(topic="t", key="k", value=value, headers=(), timestamp_ms=CLOCK.now_us() // 1000)


async def ends_in(seconds: float, call: Awaitable[object], error: type[Exception]) -> None:
    begun = time.monotonic()
    with pytest.raises(error):
        await call
    assert time.monotonic() - begun < seconds


@pytest.mark.timeout(240)
async def test_every_call_ends_in_time_without_a_broker_and_goes_on_when_it_is_back(broker: LocalKafka) -> None:
    """The broker is killed and comes back; alarms wait in the sender's hands, and none is lost."""
    kafka = AioKafka(broker.bootstrap, clock=CLOCK, client_id="away")
    await kafka.create_topics([TopicSpec(name="t", partitions=1, settings={"flush.messages": "1"})])
    async with AsyncExitStack() as stack:
        small = await stack.enter_async_context(kafka.producer(ProducerProfile.RECORDS))
        video = await stack.enter_async_context(kafka.producer(ProducerProfile.VIDEO))
        reader = await stack.enter_async_context(kafka.reader({PLACE: Start.BEGINNING}, offsets_group="o"))
        group = await stack.enter_async_context(kafka.group("g", ["t"], GroupProfile.ALERTING, Listener()))
        await small.send(outgoing(b"before"))
        read: list[Record] = []
        polled: list[Record] = []
        async with asyncio.timeout(20):
            while not read or not polled:
                read += await reader.poll(timeout_s=0.1)
                polled += await group.poll(timeout_s=0.1)

        await asyncio.to_thread(broker.kill)
        await asyncio.gather(
            ends_in(22, small.send(outgoing(b"unknown")), SendUnknown),
            ends_in(22, video.send(outgoing(b"unknown")), SendUnknown),
            ends_in(6, reader.commit({PLACE: 1}), RetryLater),
            ends_in(6, group.commit({PLACE: 1}), RetryLater),
            ends_in(6, group.offset_for_time(PLACE, 0), RetryLater),
            ends_in(31, kafka.cluster_id(), RetryLater),
        )
        assert not await reader.poll(timeout_s=0.1)
        assert not await group.poll(timeout_s=0.1)

        await broker.start()
        async with asyncio.timeout(60):
            while True:
                try:
                    await small.send(outgoing(b"after"))
                    break
                except SendUnknown:
                    continue
            while not any(record.value == b"after" for record in read):
                read += await reader.poll(timeout_s=0.2)
            while not any(record.value == b"after" for record in polled):
                polled += await group.poll(timeout_s=0.2)
            await reader.commit({PLACE: 2})
            await group.commit({PLACE: 2})


@pytest.mark.timeout(120)
async def test_all_clients_close_in_time_without_a_broker(broker: LocalKafka) -> None:
    kafka = AioKafka(broker.bootstrap, clock=CLOCK, client_id="close")
    await kafka.create_topics([TopicSpec(name="t", partitions=1, settings={})])
    async with AsyncExitStack() as stack:
        small = await stack.enter_async_context(kafka.producer(ProducerProfile.RECORDS))
        await stack.enter_async_context(kafka.reader({PLACE: Start.BEGINNING}))
        await stack.enter_async_context(kafka.group("g", ["t"], GroupProfile.ALERTING, Listener()))
        await small.send(outgoing(b"before"))
        await asyncio.to_thread(broker.kill)
        sending = asyncio.create_task(small.send(outgoing(b"unknown")))
        await asyncio.wait((sending,), timeout=0.2)
        begun = time.monotonic()
    assert time.monotonic() - begun < 16
    with pytest.raises(SendUnknown):
        await sending


async def test_a_start_without_a_broker_says_try_later() -> None:
    kafka = AioKafka("127.0.0.1:9", clock=CLOCK, client_id="nobody")
    with pytest.raises(RetryLater):
        async with kafka.producer(ProducerProfile.RECORDS):
            pass
    with pytest.raises(RetryLater):
        async with kafka.reader():
            pass
    assert not await kafka.answers()
