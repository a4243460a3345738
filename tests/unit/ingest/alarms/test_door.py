"""The alarm thread as a whole: a POST through its own loop becomes a record of `alarms`."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from services.contracts import codec
from services.contracts.alarm import AlarmRaised
from services.contracts.topics import ALARMS
from services.ingest.alarms.door import SPOOL_FILE, AlarmDoor, DoorSettings
from services.ingest.registry import Registry
from services.runtime.clock import SystemClock, settle
from services.runtime.kafka_port import TopicSpec
from services.runtime.memory_kafka import MemoryKafka
from services.runtime.service import LoopThread, ServiceContext
from services.runtime.settings import ListenSettings

EVENT = {
    "specversion": "1.0",
    "id": "press-1",
    "source": "/bells/mapo-01-bell",
    "type": AlarmRaised.TYPE,
    "data": {"condition": {"topic": "kr.safealley/Bell", "active": True}},
}
HEADERS = {"Authorization": "Bearer bell-token", "Content-Type": "application/cloudevents+json"}


@pytest.fixture
def kafka() -> MemoryKafka:
    return MemoryKafka(clock=SystemClock())


@asynccontextmanager
async def open_door(kafka: MemoryKafka, city: Registry, secrets_dir: Path, data_dir: Path) -> AsyncIterator[Any]:
    await kafka.create_topics([TopicSpec(name=ALARMS.name, partitions=8, settings={})])
    settings = DoorSettings(
        listen=ListenSettings(port=0), data_dir=data_dir, secrets_dir=secrets_dir, spool_bytes=65_536
    )
    context = ServiceContext("ingest", clock=SystemClock())
    door = AlarmDoor(settings, kafka, registry=lambda: city, context=context)
    stopping = asyncio.Event()
    thread = asyncio.create_task(LoopThread("alarms", door.main, stop_s=5).run(stopping))
    await until(lambda: door.statistics() is not None)
    try:
        yield door
    finally:
        stopping.set()
        await thread


async def test_a_press_that_the_disk_damaged_raises_an_alarm_and_the_next_is_sent(
    kafka: MemoryKafka, city: Registry, secrets_dir: Path, tmp_path: Path
) -> None:
    async with open_door(kafka, city, secrets_dir, tmp_path / "data") as door:
        kafka.away = True
        for number in range(2):
            assert await press(door, id=f"press-{number}") == 202
    file = tmp_path / "data" / SPOOL_FILE
    content = bytearray(file.read_bytes())
    content[0] ^= 1
    file.write_bytes(content)

    kafka.away = False
    async with open_door(kafka, city, secrets_dir, tmp_path / "data"):
        await until(lambda: len(kafka.records(ALARMS.name)) == 2)

    told = [codec.decode_event(record.headers, record.value) for record in kafka.records(ALARMS.name)]
    assert {one.envelope.id for one in told} > {"press-1"}
    assert {one.body.condition.topic for one in told if isinstance(one.body, AlarmRaised)} == {
        "kr.safealley/Bell",
        "kr.safealley/system/PressesLost",
    }


async def until(condition: Callable[[], bool]) -> None:
    """Let the other thread come round."""
    async with asyncio.timeout(5):
        while not condition():
            await settle()


async def press(door: AlarmDoor, **changes: str) -> int:
    async with (
        aiohttp.ClientSession() as http,
        http.post(f"http://127.0.0.1:{door.port}/api/v1/alarms", json=EVENT | changes, headers=HEADERS) as answer,
    ):
        return answer.status


async def test_a_post_becomes_a_record_under_its_site(
    kafka: MemoryKafka, city: Registry, secrets_dir: Path, tmp_path: Path
) -> None:
    async with open_door(kafka, city, secrets_dir, tmp_path / "data") as door:
        assert await press(door) == 202

    (record,) = kafka.records(ALARMS.name)
    assert record.key == "mapo-01"
    assert isinstance(codec.decode_event(record.headers, record.value).body, AlarmRaised)


async def test_a_press_without_kafka_is_sent_by_the_next_process(
    kafka: MemoryKafka, city: Registry, secrets_dir: Path, tmp_path: Path
) -> None:
    async with open_door(kafka, city, secrets_dir, tmp_path / "data") as door:
        kafka.away = True
        assert await press(door) == 202
        statistics = door.statistics()
        assert statistics is not None
        assert statistics.waiting == 1
    assert kafka.records(ALARMS.name) == []

    kafka.away = False
    async with open_door(kafka, city, secrets_dir, tmp_path / "data"):
        await until(lambda: bool(kafka.records(ALARMS.name)))

    assert len(kafka.records(ALARMS.name)) == 1
