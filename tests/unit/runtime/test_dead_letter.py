import pytest

from services.runtime.clock import FakeClock
from services.runtime.dead_letter import DeadLetters, Limits, TooManyDeadLetters, letter
from services.runtime.errors import RetryLater
from services.runtime.kafka_port import Place, ProducerProfile, Record, TopicSpec
from services.runtime.memory_kafka import MemoryKafka


def record(topic: str = "alarms", offset: int = 7, value: bytes | None = b"v") -> Record:
    return Record(topic=topic, partition=3, offset=offset, timestamp_ms=1, key="site-1", value=value,
                  headers=(("ce_id", b"alarm-1"), ("init", b"pictures")))  # fmt: skip


def test_a_letter_names_where_the_record_stood_and_why() -> None:
    made = letter(record(), "not JSON", version="1.2", now_ms=99)
    headers = dict(made.headers)
    assert (made.topic, made.key, made.value, made.timestamp_ms) == ("alarms.dlq", "site-1", b"v", 99)
    assert (headers["dlq_topic"], headers["dlq_partition"], headers["dlq_offset"]) == (b"alarms", b"3", b"7")
    assert (headers["dlq_reason"], headers["dlq_version"], headers["dlq_value_bytes"]) == (b"not JSON", b"1.2", b"1")
    assert headers["ce_id"] == b"alarm-1"


def test_of_video_only_the_first_kib_is_kept_and_no_init() -> None:
    made = letter(record("video", value=b"p" * 100_000), "bad moof", version="1", now_ms=0)
    assert len(made.value or b"") == 1024
    assert "init" not in dict(made.headers)


def test_a_tombstone_makes_an_empty_letter() -> None:
    assert letter(record(value=None), "no body", version="1", now_ms=0).value is None


@pytest.fixture
async def kafka() -> MemoryKafka:
    kafka = MemoryKafka(clock=FakeClock())
    await kafka.create_topics([TopicSpec(name="alarms.dlq", partitions=6, settings={})])
    return kafka


async def test_the_limit_in_a_row_stops_it(kafka: MemoryKafka) -> None:
    async with kafka.producer(ProducerProfile.RECORDS) as producer:
        letters = DeadLetters(producer, clock=kafka.clock, version="1")
        for offset in range(20):
            await letters.put(record(offset=offset), "bad")
        with pytest.raises(TooManyDeadLetters, match="20 dead letters in a row"):
            await letters.put(record(offset=20), "bad")
        letters.handled(Place("alarms", 3))
        await letters.put(record(offset=21), "bad")
    assert len(kafka.records("alarms.dlq")) == 21


async def test_without_limits_however_many_come_nothing_behind_them_waits(kafka: MemoryKafka) -> None:
    async with kafka.producer(ProducerProfile.RECORDS) as producer:
        letters = DeadLetters(producer, clock=kafka.clock, version="1", limits=None)
        for offset in range(50):
            await letters.put(record(offset=offset), "bad")
    assert len(kafka.records("alarms.dlq")) == 50


async def test_the_limit_of_the_window_stops_it_too(kafka: MemoryKafka) -> None:
    async with kafka.producer(ProducerProfile.RECORDS) as producer:
        limits = Limits(run_max=2, window=100, ratio_max=0.03)
        letters = DeadLetters(producer, clock=kafka.clock, version="1", limits=limits)
        for offset in range(3):
            await letters.put(record(offset=offset), "bad")
            letters.handled(Place("alarms", 3))
        with pytest.raises(TooManyDeadLetters, match="in the last 100"):
            await letters.put(record(offset=9), "bad")
        for _ in range(100):
            letters.handled(Place("alarms", 3))
        await letters.put(record(offset=10), "bad")


async def test_partitions_are_counted_apart_and_forgotten_when_revoked(kafka: MemoryKafka) -> None:
    async with kafka.producer(ProducerProfile.RECORDS) as producer:
        letters = DeadLetters(producer, clock=kafka.clock, version="1", limits=Limits(run_max=1, ratio_max=1))
        await letters.put(record(), "bad")
        letters.forget(frozenset((Place("alarms", 3),)))
        await letters.put(record(), "bad")


async def test_a_letter_that_is_not_acknowledged_does_not_let_the_caller_commit(kafka: MemoryKafka) -> None:
    async with kafka.producer(ProducerProfile.RECORDS) as producer:
        letters = DeadLetters(producer, clock=kafka.clock, version="1")
        kafka.away = True
        with pytest.raises(RetryLater):
            await letters.put(record(), "bad")
