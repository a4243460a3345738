"""What memory_kafka adds for tests; what it shares with a broker is in tests/conformance."""

import asyncio
from collections.abc import Mapping, Sequence

import pytest

from services.runtime.clock import FakeClock, settle
from services.runtime.errors import OffsetsLost, RetryLater, SendUnknown
from services.runtime.kafka_port import Assigned, GroupProfile, Outgoing, Place, ProducerProfile, TopicSpec
from services.runtime.memory_kafka import MemoryKafka

PLACE = Place("t", 0)


class Listener:
    def __init__(self) -> None:
        self.seen: list[Assigned] = []

    async def revoked(self, places: frozenset[Place]) -> None:
        pass

    async def assigned(self, partitions: Sequence[Assigned]) -> Mapping[Place, int]:
        self.seen = list(partitions)
        return {one.place: one.beginning if one.committed is None else one.committed for one in partitions}


@pytest.fixture
async def kafka() -> MemoryKafka:
    kafka = MemoryKafka(clock=FakeClock())
    await kafka.create_topics([TopicSpec(name="t", partitions=1, settings={})])
    return kafka


def outgoing(value: bytes) -> Outgoing:
    return Outgoing(topic="t", key="k", value=value, headers=(), timestamp_ms=0)


async def test_a_reader_wakes_at_once_when_a_record_comes(kafka: MemoryKafka) -> None:
    async with kafka.reader({PLACE: 0}) as reader, kafka.producer(ProducerProfile.RECORDS) as producer:
        polling = asyncio.create_task(reader.poll(timeout_s=3600))
        await settle()
        await producer.send(outgoing(b"1"))
        await settle()
        assert [record.value for record in polling.result()] == [b"1"]


async def test_an_empty_poll_ends_when_the_clock_says_so(kafka: MemoryKafka) -> None:
    clock = kafka.clock
    assert isinstance(clock, FakeClock)
    async with kafka.reader({PLACE: 0}) as reader:
        polling = asyncio.create_task(reader.poll(timeout_s=1))
        await settle()
        await clock.advance(1)
        assert polling.result() == []


async def test_after_a_power_cut_the_offsets_are_used_again_and_a_reader_beyond_is_told(kafka: MemoryKafka) -> None:
    async with kafka.producer(ProducerProfile.RECORDS) as producer, kafka.reader({PLACE: 0}) as reader:
        for value in (b"1", b"2", b"3"):
            await producer.send(outgoing(value))
        await reader.poll(timeout_s=0)
        kafka.truncate(PLACE, 1)
        assert (await producer.send(outgoing(b"4"))).offset == 1
        with pytest.raises(OffsetsLost):
            await reader.poll(timeout_s=0)
        assert [record.value for record in await reader.poll(timeout_s=0)] == [b"1", b"4"]


async def test_after_a_power_cut_a_member_is_told_committed_above_end(kafka: MemoryKafka) -> None:
    async with kafka.producer(ProducerProfile.RECORDS) as producer:
        for value in (b"1", b"2", b"3"):
            await producer.send(outgoing(value))
    async with kafka.group("g", ["t"], GroupProfile.ARCHIVE_VIDEO, Listener()) as consumer:
        await settle()
        await consumer.commit({PLACE: 3})
    kafka.truncate(PLACE, 1)
    listener = Listener()
    async with kafka.group("g", ["t"], GroupProfile.ARCHIVE_VIDEO, listener):
        await settle()
    assert listener.seen == [Assigned(place=PLACE, committed=3, beginning=0, end=1)]


async def test_what_retention_took_is_told_as_lost(kafka: MemoryKafka) -> None:
    async with kafka.producer(ProducerProfile.RECORDS) as producer, kafka.reader({PLACE: 0}) as reader:
        for value in (b"1", b"2", b"3"):
            await producer.send(outgoing(value))
        kafka.drop_before(PLACE, 2)
        with pytest.raises(OffsetsLost) as lost:
            await reader.poll(timeout_s=0)
        assert (lost.value.wanted, lost.value.beginning) == (0, 2)
        assert [record.value for record in await reader.poll(timeout_s=0)] == [b"3"]


async def test_while_the_cluster_is_away_nothing_is_stored_read_or_committed(kafka: MemoryKafka) -> None:
    async with (
        kafka.producer(ProducerProfile.RECORDS) as producer,
        kafka.reader({PLACE: 0}, offsets_group="g") as reader,
    ):
        await producer.send(outgoing(b"1"))
        kafka.away = True
        with pytest.raises(SendUnknown):
            await producer.send(outgoing(b"2"))
        assert await reader.poll(timeout_s=0) == []
        with pytest.raises(RetryLater):
            await reader.commit({PLACE: 1})
        kafka.away = False
        assert [record.value for record in await reader.poll(timeout_s=0)] == [b"1"]


async def test_a_lost_acknowledgement_leaves_the_record_in_the_log(kafka: MemoryKafka) -> None:
    async with kafka.producer(ProducerProfile.RECORDS) as producer:
        kafka.lose_next_acknowledgement()
        with pytest.raises(SendUnknown):
            await producer.send(outgoing(b"1"))
        await producer.send(outgoing(b"1"))
    assert [record.offset for record in kafka.records("t")] == [0, 1]
    assert kafka.committed("nobody") == {}
