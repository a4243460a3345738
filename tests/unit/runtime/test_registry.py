"""The registry is followed by every service in one way."""

import asyncio

import pytest

from services.contracts import codec
from services.contracts.device import Device
from services.contracts.envelope import Envelope, rfc3339
from services.contracts.topics import DEVICES
from services.runtime.clock import FakeClock, settle
from services.runtime.kafka_port import Outgoing, ProducerProfile, TopicSpec
from services.runtime.memory_kafka import MemoryKafka
from services.runtime.metrics import REGISTRY
from services.runtime.registry import RecordTable, follow_registry


@pytest.fixture
async def kafka() -> MemoryKafka:
    kafka = MemoryKafka(clock=FakeClock())
    await kafka.create_topics([TopicSpec(name=DEVICES.name, partitions=2, settings={})])
    return kafka


def record(partition: int, revision: int | None) -> Outgoing:
    """Return camera `cam` at a revision in a partition; None removes it there."""
    device = Device(
        device_id="cam", kind="camera", site_id="s", jurisdiction="mapo", lon=0, lat=0, revision=revision or 1
    )
    envelope = Envelope(
        id=f"{partition}-{revision}",
        source="/cli",
        type=Device.TYPE,
        subject="cam",
        time=rfc3339(1),
        partitionkey="cam",
    )
    return Outgoing(
        topic=DEVICES.name, key="cam", partition=partition, timestamp_ms=1,
        value=None if revision is None else codec.encode(device),
        headers=() if revision is None else envelope.to_headers(),
    )  # fmt: skip


def counted(result: str) -> float:
    return REGISTRY.get_sample_value("safealley_registry_records_total", {"result": result}) or 0.0


class Told:
    """What a follower was told: the revision of `cam`, or None, and how many records had been read."""

    def __init__(self) -> None:
        self.standing: list[tuple[int | None, int]] = []

    async def standing_is(self, table: RecordTable) -> None:
        device = table.devices().get("cam")
        self.standing.append((device.revision if device else None, table.applied))


async def told_after(kafka: MemoryKafka, *steps: Outgoing | float) -> list[tuple[int | None, int]]:
    """Follow, then send records, or let seconds pass; return what was told."""
    clock, told = kafka.clock, Told()
    assert isinstance(clock, FakeClock)
    following = asyncio.create_task(follow_registry(kafka, "main", clock=clock, on_standing=told.standing_is))
    await settle()
    async with kafka.producer(ProducerProfile.RECORDS) as producer:
        for step in steps:
            if isinstance(step, Outgoing):
                await producer.send(step)
            else:
                await clock.advance(step)
            await settle()
    following.cancel()
    await asyncio.gather(following, return_exceptions=True)
    return told.standing


async def test_a_device_that_moves_is_there_all_the_time(kafka: MemoryKafka) -> None:
    told = await told_after(kafka, record(0, 1), record(1, 2), record(0, None), record(1, None))
    assert told == [(None, 0), (1, 1), (2, 2), (2, 3), (None, 4)]


async def test_a_topic_that_says_nothing_is_told_as_such(kafka: MemoryKafka) -> None:
    assert await told_after(kafka, 5.0) == [(None, 0)]


async def test_a_record_nobody_can_read_is_counted_and_changes_nothing(kafka: MemoryKafka) -> None:
    read, refused = counted("read"), counted("refused")
    broken = Outgoing(topic=DEVICES.name, key="cam", partition=0, value=b"{", headers=(), timestamp_ms=1)
    assert await told_after(kafka, record(0, 1), broken, 2.0) == [(None, 0), (1, 1)]
    assert (counted("read") - read, counted("refused") - refused) == (1, 1)


async def test_kafka_may_come_later() -> None:
    kafka = MemoryKafka(clock=FakeClock())
    told, clock = Told(), kafka.clock
    assert isinstance(clock, FakeClock)
    following = asyncio.create_task(follow_registry(kafka, "main", clock=clock, on_standing=told.standing_is))
    await clock.advance(3)
    assert told.standing == []
    await kafka.create_topics([TopicSpec(name=DEVICES.name, partitions=2, settings={})])
    await clock.advance(2)
    following.cancel()
    await asyncio.gather(following, return_exceptions=True)
    assert told.standing == [(None, 0)]
