"""Archive on a Kafka in memory, with a real directory store, a real SQLite catalog and a real port."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest
from prometheus_client import CollectorRegistry

from services.archive import app
from services.archive.settings import ArchiveSettings
from services.contracts import codec
from services.contracts.device import Device
from services.contracts.envelope import Envelope, rfc3339
from services.contracts.timeline import Timeline
from services.contracts.topics import ALARMS, AUDIT, DEVICES, STREAMS, VIDEO
from services.runtime.clock import FakeClock
from services.runtime.identity import DemoIssuer, Role
from services.runtime.kafka_port import Headers, Outgoing, ProducerProfile, TopicSpec
from services.runtime.memory_kafka import MemoryKafka
from services.runtime.service import ServiceContext
from services.runtime.settings import IdentitySettings, ListenSettings, OpsSettings
from tests.unit.archive.film import START_US, fragment_record, make_film

JURISDICTION = "mapo"
WAIT_S = 30.0


@dataclass
class Archive:
    """A running archive and what tests say to it."""

    kafka: MemoryKafka
    clock: FakeClock
    issuer: DemoIssuer
    url: str
    http: aiohttp.ClientSession
    settings: ArchiveSettings

    async def get(
        self, path: str, *, role: Role | None = "supervisor", jurisdiction: str = JURISDICTION, **headers: str
    ) -> tuple[int, Any, bytes]:
        if role is not None:
            headers["Authorization"] = f"Bearer {self.issuer.issue(role, jurisdictions=(jurisdiction,))}"
        async with self.http.get(f"{self.url}{path}", headers=headers) as answer:
            return answer.status, answer.headers, await answer.read()

    async def until(self, condition: Callable[[], Awaitable[bool]]) -> None:
        """Turn the clock until something holds; the deadline is real, since threads and the disk take real time."""
        async with asyncio.timeout(WAIT_S):
            while not await condition():
                await self.clock.advance(0.25)
                await asyncio.to_thread(lambda: None)

    async def read_up_to(self, end_us: int, path: str) -> Timeline:
        """Ask for a timeline, the clock standing still, until its footage ends at `end_us`."""
        async with asyncio.timeout(WAIT_S):
            while True:
                _, _, body = await self.get(path)
                answer = msgspec.json.decode(body, type=Timeline)
                if any(item.state in ("open", "recorded") and item.to_us == end_us for item in answer.items):
                    return answer
                await asyncio.to_thread(lambda: None)


@dataclass
class Bench:
    """What outlives a restart of archive."""

    kafka: MemoryKafka
    clock: FakeClock
    issuer: DemoIssuer
    directory: Path

    async def send(self, *records: Any) -> None:
        async with self.kafka.producer(ProducerProfile.VIDEO) as producer:
            for record in records:
                await producer.send(record)

    async def film(self, seconds: range, *, first_seq: int | None = None, **more: Any) -> None:
        for place, second in enumerate(seconds):
            seq = second if first_seq is None else first_seq + place
            await self.send(fragment_record(make_film(), second, seq=seq, **more))

    async def register(self, camera_id: str, *, jurisdiction: str = JURISDICTION) -> None:
        """Put a camera into the registry."""
        device = Device(
            device_id=camera_id, kind="camera", site_id="s1", jurisdiction=jurisdiction, lon=126.9, lat=37.5,
        )  # fmt: skip
        time = rfc3339(self.clock.now_us())
        envelope = Envelope(
            id=f"registry-{camera_id}", source="/cli", type=Device.TYPE, subject=camera_id, time=time,
            partitionkey=camera_id,
        )  # fmt: skip
        await self._registered(camera_id, codec.encode(device), envelope.to_headers())

    async def unregister(self, camera_id: str) -> None:
        await self._registered(camera_id, None, ())

    async def _registered(self, camera_id: str, value: bytes | None, headers: Headers) -> None:
        record = Outgoing(
            topic=DEVICES.name, key=camera_id, value=value, headers=headers, timestamp_ms=self.clock.now_us() // 1000,
            partition=0,
        )  # fmt: skip
        await self.send(record)

    @asynccontextmanager
    async def archive(self) -> AsyncIterator[Archive]:
        settings = ArchiveSettings(
            data_dir=self.directory / "data",
            listen=ListenSettings(port=0),
            ops=OpsSettings(port=0),
            disk_reserve_bytes=0,
            identity=IdentitySettings(jwks_file=self.issuer.jwks_file),
        )
        context = ServiceContext("archive", clock=self.clock)
        port: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        running = asyncio.create_task(
            app.run(settings, self.kafka, context, registry=CollectorRegistry(), on_port=port.set_result)
        )
        await asyncio.wait((port, running), return_when=asyncio.FIRST_COMPLETED)
        if running.done():
            running.result()
        async with aiohttp.ClientSession() as http:
            yield Archive(self.kafka, self.clock, self.issuer, f"http://127.0.0.1:{port.result()}", http, settings)
        context.stopping.set()
        while not running.done():
            await self.clock.advance(0.25)
            await asyncio.to_thread(lambda: None)
        running.result()


TOPICS = (VIDEO.name, VIDEO.dead_letters, STREAMS.name, STREAMS.dead_letters, AUDIT.name, ALARMS.name, DEVICES.name)


async def new_kafka(clock: FakeClock, *topics: str) -> MemoryKafka:
    kafka = MemoryKafka(clock=clock)
    await kafka.create_topics(
        [TopicSpec(name=name, partitions=2, settings={"max.message.bytes": "2097152"}) for name in topics]
    )
    return kafka


@pytest.fixture
async def bench(tmp_path: Path) -> Bench:
    clock = FakeClock(START_US)
    kafka = await new_kafka(clock, *TOPICS)
    bench = Bench(kafka, clock, DemoIssuer(tmp_path / "identity", clock=clock), tmp_path)
    await bench.register("cam-1")
    return bench
