"""A Kafka whose answers a test decides, and a small city."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from services.contracts.device import CameraStream, Device
from services.contracts.site import Name, Site
from services.ingest.registry import Registry
from services.runtime.clock import FakeClock
from services.runtime.errors import RetryLater
from services.runtime.kafka_port import Outgoing, Placed, ProducerProfile


class ScriptedKafka:
    """Only its producers work: each send asks `answer`, which may wait, raise, or let it pass."""

    def __init__(self) -> None:
        self.sent: list[Outgoing] = []
        self.reachable = True
        self.silent = False
        self.silent_from: int | None = None
        self.failing: list[Exception] = []
        self.attempts = 0
        self.heard = asyncio.Event()

    @asynccontextmanager
    async def producer(self, _profile: ProducerProfile) -> AsyncIterator["ScriptedKafka"]:
        if not self.reachable:
            raise RetryLater("no broker answered")
        yield self

    async def send(self, record: Outgoing) -> Placed:
        self.attempts += 1
        if self.failing:
            raise self.failing.pop(0)
        while self.silent or (self.silent_from is not None and len(self.sent) >= self.silent_from):
            self.heard.clear()
            await self.heard.wait()
        if self.failing:
            raise self.failing.pop(0)
        kept = None if record.value is None else bytes(record.value)
        self.sent.append(
            Outgoing(
                topic=record.topic,
                key=record.key,
                value=kept,
                headers=record.headers,
                timestamp_ms=record.timestamp_ms,
                partition=record.partition,
            )
        )
        return Placed(0, len(self.sent) - 1)

    def answer(self) -> None:
        self.silent, self.silent_from = False, None
        self.heard.set()

    async def partitions(self, _topic: str) -> int:
        return 1

    def partition_for(self, _topic: str, _key: str) -> int:
        return 0

    def statistics(self) -> Mapping[str, int]:
        return {"outstanding_bytes": 0, "capacity_bytes": 1, "sent": len(self.sent), "unknown": 0}


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def scripted_kafka() -> Callable[[], ScriptedKafka]:
    return ScriptedKafka


@pytest.fixture
def site() -> Site:
    return Site(
        site_id="mapo-01",
        name=Name(ko="마포 안심골목 1", en="Mapo alley 1"),
        jurisdiction="mapo",
        police_station="mapo",
        lon=126.91,
        lat=37.55,
        topology_root="feeder-7",
    )


@pytest.fixture
def bell() -> Device:
    return Device(
        device_id="mapo-01-bell",
        kind="bell",
        site_id="mapo-01",
        jurisdiction="mapo",
        lon=126.9101,
        lat=37.5501,
        pole_id="pole-3",
        upstream=("pole-3", "switch-1", "feeder-7"),
        secret_ref="mapo-01-bell",
    )


@pytest.fixture
def registered_camera() -> Device:
    return Device(
        device_id="mapo-01-cam-1",
        kind="camera",
        site_id="mapo-01",
        jurisdiction="mapo",
        lon=126.9102,
        lat=37.5502,
        streams=(CameraStream(name="main", url="rtsp://10.0.0.9:554/main", bitrate_bps=2_000_000),),
    )


@pytest.fixture
def city(site: Site, bell: Device, registered_camera: Device) -> Registry:
    light = Device(
        device_id="mapo-01-light",
        kind="light",
        site_id="mapo-01",
        jurisdiction="mapo",
        lon=126.9,
        lat=37.5,
        secret_ref="mapo-01-light",
    )
    devices = {device.device_id: device for device in (bell, registered_camera, light)}
    return Registry(sites={site.site_id: site}, devices=devices)


@pytest.fixture
def secrets_dir(tmp_path: Path) -> Path:
    directory = tmp_path / "secrets"
    directory.mkdir()
    (directory / "mapo-01-bell").write_text('{"token": "bell-token"}')
    (directory / "mapo-01-light").write_text('{"token": "light-token"}')
    return directory
