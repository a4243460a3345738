"""One suite for both adapters of the Kafka port: what holds on memory_kafka holds on a broker."""

import asyncio
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import pytest

from services.runtime.clock import SystemClock
from services.runtime.errors import ClockAhead, OffsetsLost, OwnershipLost, PoisonMessage, SettingsError
from services.runtime.kafka import AioKafka
from services.runtime.kafka_port import (
    Assigned,
    GroupConsumer,
    GroupProfile,
    Kafka,
    Outgoing,
    Place,
    ProducerProfile,
    Reader,
    Record,
    Start,
    TopicSpec,
)
from services.runtime.memory_kafka import MemoryKafka

PARTITIONS = 3
WAIT_S = 20.0
CLOCK = SystemClock()


@pytest.fixture(params=["memory", "broker"])
def kafka(request: pytest.FixtureRequest) -> Kafka:
    if request.param == "memory":
        return MemoryKafka(clock=CLOCK)
    return AioKafka(request.getfixturevalue("kafka_bootstrap"), clock=CLOCK, client_id="conformance")


@pytest.fixture
async def topic(kafka: Kafka) -> str:
    return await made(kafka)


async def made(kafka: Kafka, settings: Mapping[str, str] | None = None) -> str:
    name = f"conformance-{uuid.uuid4().hex[:12]}"
    await kafka.create_topics([TopicSpec(name=name, partitions=PARTITIONS, settings=settings or {})])
    return name


def outgoing(topic: str, key: str, value: bytes | memoryview | None = b"v", **more: object) -> Outgoing:
    settings: dict[str, object] = {"headers": (("ce_id", key.encode()),), "timestamp_ms": CLOCK.now_us() // 1000}
    return Outgoing(topic=topic, key=key, value=value, **(settings | more))  # type: ignore[arg-type]


async def read(source: Reader | GroupConsumer, count: int) -> list[Record]:
    """Return at least `count` records."""
    records: list[Record] = []
    async with asyncio.timeout(WAIT_S):
        while len(records) < count:
            records += await source.poll(timeout_s=0.2)
    return records


async def polled_until(consumer: GroupConsumer, condition: Callable[[], bool]) -> list[Record]:
    records: list[Record] = []
    async with asyncio.timeout(WAIT_S):
        while not condition():
            records += await consumer.poll(timeout_s=0.1)
    return records


@dataclass
class Listener:
    """Begins at what was committed, else at the beginning."""

    seen: list[Assigned] = field(default_factory=list)
    gone: list[frozenset[Place]] = field(default_factory=list)
    events: list[str] = field(default_factory=list)

    async def revoked(self, places: frozenset[Place]) -> None:
        self.gone.append(places)
        self.events.append("revoked")

    async def assigned(self, partitions: Sequence[Assigned]) -> Mapping[Place, int]:
        self.seen = list(partitions)
        self.events.append("assigned")
        return {one.place: one.beginning if one.committed is None else one.committed for one in partitions}


# Producers


@pytest.mark.parametrize("profile", list(ProducerProfile))
async def test_a_record_comes_back_as_it_was_sent(kafka: Kafka, topic: str, profile: ProducerProfile) -> None:
    record = outgoing(topic, "camera-1", b"\x00\xff" * 500, headers=(("a", b"1"), ("b", b"\x00"), ("a", b"2")))
    async with kafka.producer(profile) as producer, kafka.reader(await kafka.whole(topic)) as reader:
        placed = await producer.send(record)
        [back] = await read(reader, 1)
    assert (back.topic, back.partition, back.offset) == (topic, placed.partition, placed.offset)
    assert (back.key, back.value, back.headers, back.timestamp_ms) == (
        record.key, record.value, record.headers, record.timestamp_ms)  # fmt: skip


async def test_a_view_of_a_reused_buffer_is_copied_before_the_send_returns(kafka: Kafka, topic: str) -> None:
    buffer = bytearray(b"x" * 100_000)
    async with kafka.producer(ProducerProfile.VIDEO) as producer, kafka.reader(await kafka.whole(topic)) as reader:
        await producer.send(outgoing(topic, "c", memoryview(buffer)[10:]))
        buffer[:] = b"y" * len(buffer)
        buffer.extend(b"the builder must hold no view of it")
        [back] = await read(reader, 1)
    assert back.value == b"x" * 99_990


async def test_a_key_keeps_its_partition_in_both_profiles_and_in_partition_for(kafka: Kafka, topic: str) -> None:
    async with kafka.producer(ProducerProfile.RECORDS) as small, kafka.producer(ProducerProfile.VIDEO) as video:
        for key in ("site-1", "한글", "a", "alerts/7", ""):
            expected = small.partition_for(topic, key)
            assert (await small.send(outgoing(topic, key))).partition == expected
            assert (await video.send(outgoing(topic, key))).partition == expected


async def test_the_partition_can_be_chosen(kafka: Kafka, topic: str) -> None:
    async with kafka.producer(ProducerProfile.RECORDS) as producer:
        for partition in range(PARTITIONS):
            assert (await producer.send(outgoing(topic, "k", partition=partition))).partition == partition


async def test_a_partition_that_is_not_there_is_poison(kafka: Kafka, topic: str) -> None:
    async with kafka.producer(ProducerProfile.RECORDS) as producer:
        with pytest.raises(PoisonMessage):
            await producer.send(outgoing(topic, "k", partition=PARTITIONS))


@pytest.mark.parametrize("profile", list(ProducerProfile))
async def test_sends_that_overlap_keep_their_order_in_a_partition(
    kafka: Kafka, topic: str, profile: ProducerProfile
) -> None:  # fmt: skip
    async with kafka.producer(profile) as producer, kafka.reader(await kafka.whole(topic)) as reader:
        async with asyncio.TaskGroup() as group:
            for index in range(60):
                group.create_task(producer.send(outgoing(topic, "one", str(index).encode() + b" " * 20_000)))
        back = await read(reader, 60)
    assert [int(record.value or b"") for record in back] == list(range(60))


async def test_credit_is_free_again_when_all_is_acknowledged(kafka: Kafka, topic: str) -> None:
    async with kafka.producer(ProducerProfile.RECORDS) as producer:
        async with asyncio.TaskGroup() as group:
            for index in range(40):
                group.create_task(producer.send(outgoing(topic, str(index), b"z" * 100_000)))
        statistics = producer.statistics()
    assert (statistics["outstanding_bytes"], statistics["sent"], statistics["unknown"]) == (0, 40, 0)


@pytest.mark.parametrize(
    ("profile", "value_bytes", "header_bytes"),
    [
        pytest.param(ProducerProfile.VIDEO, 1024 * 1024 + 1, 0, id="video value above 1 MiB"),
        pytest.param(ProducerProfile.VIDEO, 10, 6 * 1024 + 1, id="video headers above 6 KiB"),
        pytest.param(ProducerProfile.RECORDS, 256 * 1024, 10, id="record above 256 KiB in all"),
    ],
)
async def test_a_record_above_our_limit_is_poison(
    kafka: Kafka, topic: str, profile: ProducerProfile, value_bytes: int, header_bytes: int
) -> None:  # fmt: skip
    async with kafka.producer(profile) as producer:
        with pytest.raises(PoisonMessage):
            await producer.send(outgoing(topic, "k", b"v" * value_bytes, headers=(("h", b"h" * header_bytes),)))


async def test_the_largest_fragment_is_taken(kafka: Kafka) -> None:
    topic = await made(kafka, {"max.message.bytes": str(2 * 1024 * 1024)})
    async with kafka.producer(ProducerProfile.VIDEO) as producer:
        await producer.send(outgoing(topic, "k", b"v" * 1024 * 1024, headers=(("init", b"h" * 6_000),)))


async def test_a_record_above_the_topics_own_limit_is_poison(kafka: Kafka) -> None:
    topic = await made(kafka, {"max.message.bytes": "1000"})
    for profile in ProducerProfile:
        async with kafka.producer(profile) as producer:
            with pytest.raises(PoisonMessage):
                await producer.send(outgoing(topic, "k", b"v" * 2000))


async def test_a_record_two_hours_ahead_is_refused_and_the_next_one_is_not(kafka: Kafka, topic: str) -> None:
    for profile in ProducerProfile:
        async with kafka.producer(profile) as producer:
            with pytest.raises(ClockAhead):
                await producer.send(outgoing(topic, "k", timestamp_ms=CLOCK.now_us() // 1000 + 7_200_000))
            await producer.send(outgoing(topic, "k"))


async def test_a_tombstone_is_a_record_without_a_value(kafka: Kafka, topic: str) -> None:
    async with kafka.producer(ProducerProfile.RECORDS) as producer, kafka.reader(await kafka.whole(topic)) as reader:
        await producer.send(outgoing(topic, "k", None))
        await producer.send(outgoing(topic, "k", b""))
        assert [record.value for record in await read(reader, 2)] == [None, b""]


# Readers


async def test_a_reader_from_the_beginning_catches_up(kafka: Kafka, topic: str) -> None:
    async with kafka.producer(ProducerProfile.RECORDS) as producer:
        for index in range(20):
            await producer.send(outgoing(topic, str(index)))
    async with kafka.reader(await kafka.whole(topic)) as reader:
        assert not reader.caught_up()
        assert len(await read(reader, 20)) == 20
        assert reader.caught_up()
        assert sum(reader.positions().values()) == 20


async def test_a_reader_of_an_empty_topic_has_caught_up(kafka: Kafka, topic: str) -> None:
    async with kafka.reader(await kafka.whole(topic)) as reader:
        assert reader.caught_up()
        assert not await reader.poll(timeout_s=0.0)


async def test_a_reader_from_the_end_sees_only_what_comes(kafka: Kafka, topic: str) -> None:
    async with kafka.producer(ProducerProfile.RECORDS) as producer:
        await producer.send(outgoing(topic, "before"))
        async with kafka.reader(await kafka.whole(topic, start=Start.END)) as reader:
            assert reader.caught_up()
            await producer.send(outgoing(topic, "after"))
            assert [record.key for record in await read(reader, 1)] == ["after"]


async def test_a_partition_kept_by_a_new_assignment_goes_on_where_it_stood(kafka: Kafka, topic: str) -> None:
    first, second = Place(topic, 0), Place(topic, 1)
    async with kafka.producer(ProducerProfile.RECORDS) as producer, kafka.reader({first: 0}) as reader:
        await producer.send(outgoing(topic, "a", partition=0))
        await producer.send(outgoing(topic, "b", partition=1))
        await read(reader, 1)
        await reader.assign({first: Start.BEGINNING, second: Start.BEGINNING})
        assert not reader.caught_up()
        assert [record.key for record in await read(reader, 1)] == ["b"]
        assert reader.positions() == {first: 1, second: 1}
        await reader.assign({second: 0})
        assert reader.positions() == {second: 1}


async def test_positions_are_kept_under_the_offsets_group(kafka: Kafka, topic: str) -> None:
    place, group = Place(topic, 0), f"offsets-{topic}"
    async with kafka.reader({place: 0}, offsets_group=group) as reader:
        assert await reader.committed([place]) == {place: None}
        await reader.commit({place: 7})
    async with kafka.reader(offsets_group=group) as reader:
        assert await reader.committed([place, Place(topic, 1)]) == {place: 7, Place(topic, 1): None}


async def test_a_position_the_log_does_not_hold_is_told_once_and_then_read_from_the_beginning(
    kafka: Kafka, topic: str
) -> None:  # fmt: skip
    place = Place(topic, 0)
    async with kafka.producer(ProducerProfile.RECORDS) as producer, kafka.reader({place: 500}) as reader:
        await producer.send(outgoing(topic, "a", partition=0))
        with pytest.raises(OffsetsLost) as lost:
            await read(reader, 1)
        assert (lost.value.topic, lost.value.partition, lost.value.wanted, lost.value.beginning) == (topic, 0, 500, 0)
        assert [record.key for record in await read(reader, 1)] == ["a"]


# Groups


async def test_a_member_gets_all_partitions_with_what_the_log_holds(kafka: Kafka, topic: str) -> None:
    listener = Listener()
    async with kafka.producer(ProducerProfile.RECORDS) as producer:
        await producer.send(outgoing(topic, "a", partition=1))
    async with kafka.group(f"g-{topic}", [topic], GroupProfile.ALERTING, listener) as consumer:
        [record] = await read(consumer, 1)
        assert (record.partition, record.key) == (1, "a")
        assert consumer.assignment() == {Place(topic, partition) for partition in range(PARTITIONS)}
        assert consumer.end(Place(topic, 1)) == 1
    assert sorted(listener.seen, key=lambda one: one.place) == [
        Assigned(place=Place(topic, partition), committed=None, beginning=0, end=int(partition == 1))
        for partition in range(PARTITIONS)
    ]


async def test_a_member_goes_on_from_what_was_committed(kafka: Kafka, topic: str) -> None:
    place = Place(topic, 0)
    async with kafka.producer(ProducerProfile.RECORDS) as producer:
        for key in "abc":
            await producer.send(outgoing(topic, key, partition=0))
    async with kafka.group(f"g-{topic}", [topic], GroupProfile.ARCHIVE_RECORDS, Listener()) as consumer:
        await read(consumer, 3)
        await consumer.commit({place: 2})
    listener = Listener()
    async with kafka.group(f"g-{topic}", [topic], GroupProfile.ARCHIVE_RECORDS, listener) as consumer:
        assert [record.key for record in await read(consumer, 1)] == ["c"]
    assert [one.committed for one in listener.seen if one.place == place] == [2]


async def test_what_is_on_hold_is_not_returned_and_comes_later_in_order(kafka: Kafka, topic: str) -> None:
    held, free = Place(topic, 0), Place(topic, 1)
    async with kafka.producer(ProducerProfile.RECORDS) as producer:
        for index in range(5):
            await producer.send(outgoing(topic, f"held-{index}", partition=0))
        await producer.send(outgoing(topic, "free", partition=1))
        async with kafka.group(f"g-{topic}", [topic], GroupProfile.ALERTING, Listener()) as consumer:
            records: list[Record] = []
            async with asyncio.timeout(WAIT_S):
                while not records:
                    records += await consumer.poll(timeout_s=0.2, hold=frozenset((held,)))
            assert [record.place for record in records] == [free]
            everything = frozenset(consumer.assignment())
            assert not await consumer.poll(timeout_s=0.2, hold=everything)
            assert [record.key for record in await read(consumer, 5)] == [f"held-{index}" for index in range(5)]


async def test_a_member_can_seek_back(kafka: Kafka, topic: str) -> None:
    async with kafka.producer(ProducerProfile.RECORDS) as producer:
        for key in "abc":
            await producer.send(outgoing(topic, key, partition=0))
    async with kafka.group(f"g-{topic}", [topic], GroupProfile.ALERTING, Listener()) as consumer:
        await read(consumer, 3)
        await consumer.seek(Place(topic, 0), 1)
        assert [record.key for record in await read(consumer, 2)] == ["b", "c"]


async def test_the_first_offset_at_a_time_is_found(kafka: Kafka, topic: str) -> None:
    place, now_ms = Place(topic, 0), CLOCK.now_us() // 1000
    async with kafka.producer(ProducerProfile.RECORDS) as producer:
        for seconds in range(5):
            await producer.send(outgoing(topic, "k", partition=0, timestamp_ms=now_ms + seconds * 1000))
    async with kafka.group(f"g-{topic}", [topic], GroupProfile.ALERTING, Listener()) as consumer:
        await read(consumer, 5)
        assert await consumer.offset_for_time(place, now_ms + 2500) == 3
        assert await consumer.offset_for_time(place, now_ms + 60_000) is None


async def test_an_offset_lost_in_a_group_is_told_and_read_from_the_beginning(kafka: Kafka, topic: str) -> None:
    async with kafka.producer(ProducerProfile.RECORDS) as producer:
        await producer.send(outgoing(topic, "a", partition=0))
    async with kafka.group(f"g-{topic}", [topic], GroupProfile.ARCHIVE_RECORDS, Listener()) as consumer:
        await read(consumer, 1)
        await consumer.seek(Place(topic, 0), 900)
        with pytest.raises(OffsetsLost) as lost:
            await read(consumer, 1)
        assert (lost.value.wanted, lost.value.beginning) == (900, 0)
        assert [record.key for record in await read(consumer, 1)] == ["a"]


async def test_a_second_member_takes_a_share_and_gives_it_back(kafka: Kafka, topic: str) -> None:
    everything = frozenset(Place(topic, partition) for partition in range(PARTITIONS))
    one, two = Listener(), Listener()
    async with kafka.group(f"g-{topic}", [topic], GroupProfile.ALERTING, one) as first:
        await polled_until(first, lambda: first.assignment() == everything and bool(one.seen))
        async with kafka.group(f"g-{topic}", [topic], GroupProfile.ALERTING, two) as second:
            await polled_until(first, lambda: "revoked" in one.events and len(first.assignment()) in (1, 2))
            await polled_until(second, lambda: bool(second.assignment()))
            assert first.assignment() | second.assignment() == everything
            assert not first.assignment() & second.assignment()
            foreign = next(iter(second.assignment()))
            with pytest.raises(OwnershipLost):
                await first.commit({foreign: 0})
        await polled_until(first, lambda: first.assignment() == everything)
    assert one.events[:3] == ["assigned", "revoked", "assigned"]


async def test_an_error_of_the_listener_reaches_the_one_who_polls(kafka: Kafka, topic: str) -> None:
    class Failing(Listener):
        async def assigned(self, partitions: Sequence[Assigned]) -> Mapping[Place, int]:
            raise KeyError(len(partitions))

    async with kafka.group(f"g-{topic}", [topic], GroupProfile.ALERTING, Failing()) as consumer:
        with pytest.raises(KeyError):
            await read(consumer, 1)


# Topics


async def test_creating_again_changes_nothing(kafka: Kafka, topic: str) -> None:
    await kafka.create_topics([TopicSpec(name=topic, partitions=PARTITIONS, settings={})])
    assert await kafka.partitions(topic) == PARTITIONS
    assert await kafka.whole(topic) == {Place(topic, index): Start.BEGINNING for index in range(PARTITIONS)}


async def test_a_topic_with_another_partition_count_is_a_settings_error(kafka: Kafka, topic: str) -> None:
    with pytest.raises(SettingsError, match="3 partitions, not 4"):
        await kafka.create_topics([TopicSpec(name=topic, partitions=4, settings={})])


async def test_a_topic_that_is_not_there_is_poison(kafka: Kafka) -> None:
    with pytest.raises(PoisonMessage):
        await kafka.partitions("nowhere")
    with pytest.raises(PoisonMessage):
        async with kafka.group("nowhere", ["nowhere"], GroupProfile.ALERTING, Listener()):
            pass


async def test_the_cluster_has_an_id(kafka: Kafka) -> None:
    assert await kafka.cluster_id() == await kafka.cluster_id()
