"""The broker of one box, for real: formatted, started, killed, cut off, started again."""

import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from services.onebox.local_kafka import LocalKafka
from services.onebox.settings import cache_directory
from services.runtime.clock import SystemClock
from services.runtime.errors import RetryLater, SettingsError

RECORDS = 50


@pytest.fixture
async def kafka(tmp_path: Path) -> AsyncIterator[LocalKafka]:
    async with LocalKafka(tmp_path / "kafka", now_us=SystemClock().now_us) as broker:
        yield broker


async def produce(bootstrap: str) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    await admin.create_topics([NewTopic("alarms", 1, 1, topic_configs={"flush.messages": "1"})])
    await admin.close()
    async with AIOKafkaProducer(bootstrap_servers=bootstrap, acks="all") as producer:
        for number in range(RECORDS):
            await producer.send_and_wait("alarms", str(number).encode(), partition=0)


async def count(bootstrap: str) -> int:
    async with AIOKafkaConsumer(bootstrap_servers=bootstrap) as consumer:
        ends: dict[TopicPartition, int] = await consumer.end_offsets([TopicPartition("alarms", 0)])
        return ends[TopicPartition("alarms", 0)]


async def test_a_killed_broker_comes_back_with_all_it_acknowledged_at_the_same_address(kafka: LocalKafka) -> None:
    await produce(kafka.bootstrap)
    address = kafka.bootstrap
    kafka.kill()
    await kafka.start()
    assert kafka.bootstrap == address
    assert await count(kafka.bootstrap) == RECORDS


async def test_a_directory_goes_on_with_other_ports(kafka: LocalKafka) -> None:
    await produce(kafka.bootstrap)
    assert await kafka.stop()
    async with LocalKafka(kafka.directory, now_us=SystemClock().now_us) as later:
        assert await count(later.bootstrap) == RECORDS


async def test_a_format_that_never_reached_the_disk_is_moved_aside_and_made_again(tmp_path: Path) -> None:
    """Power fails 25 s after the first format: the files have their names and no content."""
    said: list[str] = []
    kafka = LocalKafka(tmp_path, now_us=SystemClock().now_us, say=said.append)
    await kafka.start()
    kafka.kill()
    for file in kafka.data.rglob("*"):
        if file.is_file() and file.name != "meta.properties":
            file.write_bytes(b"")
    await kafka.start()
    await kafka.close()
    aside = [path for path in tmp_path.iterdir() if path.name.startswith("data.unusable-")]  # noqa: ASYNC240 - a listing
    assert len(aside) == 1
    assert said[-1].startswith("Kafka's data never reached the disk")
    assert str(aside[0]) in said[-1]


@pytest.mark.parametrize("lost", ["__cluster_metadata-0/*", "meta.properties"])
async def test_records_are_never_moved_aside_when_kafka_lost_its_own_metadata(tmp_path: Path, lost: str) -> None:
    kafka = LocalKafka(tmp_path, now_us=SystemClock().now_us)
    await kafka.start()
    await produce(kafka.bootstrap)
    kafka.kill()
    log = kafka.data / "alarms-0" / f"{0:020}.log"
    before = log.read_bytes()
    for file in [*kafka.data.glob(lost), *kafka.data.glob("bootstrap.checkpoint")]:
        file.write_bytes(b"")
    with pytest.raises(RetryLater, match=rf"{log} holds records: nothing was touched; cure: "):
        await kafka.start()
    await kafka.close()
    assert log.read_bytes() == before


async def test_jars_are_found_in_a_relative_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = cache_directory().resolve()
    monkeypatch.chdir(cache.parent)
    async with LocalKafka(tmp_path / "kafka", cache=Path(cache.name), now_us=SystemClock().now_us) as kafka:
        assert kafka.pid


async def test_a_busy_port_is_named_with_its_cure(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        kafka = LocalKafka(tmp_path, port=port, now_us=SystemClock().now_us)
        with pytest.raises(SettingsError, match=rf"port {port} \(Kafka\).*--ports free"):
            await kafka.start()


async def test_no_other_program_can_take_the_port_of_a_broker_that_is_down(kafka: LocalKafka) -> None:
    kafka.kill()
    with socket.socket() as other, pytest.raises(OSError, match="in use"):
        other.bind(("127.0.0.1", kafka.port))


async def test_a_broker_that_ends_at_its_start_is_told_with_its_last_word(tmp_path: Path) -> None:
    kafka = LocalKafka(tmp_path, now_us=SystemClock().now_us)
    kafka.directory.joinpath("data").mkdir()
    kafka.data.joinpath("meta.properties").write_text("cluster.id=broken\n")
    with pytest.raises(Exception, match=r"ended with status 1 at its start; its log: .*kafka\.log; it said last: "):
        await kafka.start()
    await kafka.close()
