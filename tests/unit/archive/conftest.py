"""A recorder on a Kafka in memory whose store, scratch and commits fail when told to."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from services.archive.alarms import SystemAlarms
from services.archive.catalog import Catalog, Segment, sqlite_url
from services.archive.history import History
from services.archive.metrics import ArchiveMetrics
from services.archive.open_tail import OpenTail
from services.archive.recorder import Recorder
from services.archive.scratch import ScratchDirectory, ScratchFailed, ScratchFile
from services.archive.seams import Seams
from services.archive.store.local import LocalStore
from services.archive.store.port import NO_RETENTION, Retention, StoreAway
from services.archive.storer import Storer
from services.archive.writer import Writer
from services.contracts.topics import ALARMS, VIDEO
from services.runtime.clock import FakeClock
from services.runtime.dead_letter import DeadLetters
from services.runtime.kafka_port import GroupConsumer, GroupProfile, Place, ProducerProfile, TopicSpec
from services.runtime.memory_kafka import MemoryKafka
from tests.unit.archive.film import SECOND_US, START_US, fragment_record, make_film

GROUP = "archive.video"
WAIT_S = 30.0


class FaultyScratch(ScratchDirectory):
    """Takes nothing while `broken`."""

    broken = False

    def append(self, file: ScratchFile, data: bytes | memoryview) -> None:
        if self.broken:
            raise ScratchFailed("scratch cannot be written: told so")
        super().append(file, data)


class FaultyStore(LocalStore):
    """Is `away` when told to; `gate` closed lets a put wait inside the store."""

    away = False

    def __init__(self, root: Path, *, clock: FakeClock) -> None:
        super().__init__(root, clock=clock)
        self.gate = threading.Event()
        self.gate.set()
        self.inside = threading.Event()
        self.puts: list[str] = []

    def put(self, key: str, data: Path | bytes, *, sha256: str, retention: Retention = NO_RETENTION) -> str:
        if self.away:
            raise StoreAway("told so")
        if not self.gate.is_set():
            self.inside.set()
            assert self.gate.wait(30)
        self.puts.append(key)
        return super().put(key, data, sha256=sha256, retention=retention)


class FaultyConsumer:
    """A group's consumer whose next commits raise what is in `errors`; `ends` are ends it has seen."""

    def __init__(self, inner: GroupConsumer) -> None:
        self._inner = inner
        self.errors: list[Exception] = []
        self.ends: dict[Place, int] = {}

    def end(self, place: Place) -> int | None:
        return self.ends.get(place, self._inner.end(place))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    async def commit(self, positions: Mapping[Place, int]) -> None:
        if self.errors:
            raise self.errors.pop(0)
        await self._inner.commit(positions)


class Rig:
    """Everything around one recorder; `recording` is one life of it."""

    def __init__(self, directory: Path) -> None:
        self.clock = FakeClock(START_US + 60 * SECOND_US)
        self.kafka = MemoryKafka(clock=self.clock)
        self.catalog = Catalog(sqlite_url(directory / "catalog.sqlite"))
        self.catalog.migrate()
        self.store = FaultyStore(directory / "store", clock=self.clock)
        self.directory = directory
        self.tail = OpenTail()
        self.history = History(catalog=self.catalog, store=self.store, tail=self.tail, clock=self.clock)
        self.free_bytes: int | None = 1 << 40
        self.scratch_bytes = 1 << 30
        self.registry = CollectorRegistry()
        self.metrics = ArchiveMetrics(self.registry)
        self.scratch: FaultyScratch
        self.consumer: FaultyConsumer

    async def send(self, *records: Any) -> None:
        async with self.kafka.producer(ProducerProfile.VIDEO) as producer:
            for record in records:
                await producer.send(record)

    async def film(self, seconds: range, **more: Any) -> None:
        await self.send(*(fragment_record(make_film(), second, **more) for second in seconds))

    @asynccontextmanager
    async def recording(self) -> AsyncIterator[Recorder]:
        self.scratch = FaultyScratch(self.directory / "scratch", capacity_bytes=self.scratch_bytes, open_files_max=8)
        with ThreadPoolExecutor(2) as pool:
            async with self.kafka.producer(ProducerProfile.RECORDS) as producer:
                recorder = self._recorder(pool, producer)
                async with self.kafka.group(GROUP, (VIDEO.name,), GroupProfile.ARCHIVE_VIDEO, recorder) as consumer:
                    self.consumer = FaultyConsumer(consumer)
                    stopping = asyncio.Event()
                    running = asyncio.create_task(recorder.run(self.consumer, stopping, lambda: None))
                    try:
                        yield recorder
                    finally:
                        self.store.gate.set()
                        stopping.set()
                        while not running.done():
                            await self.turn()
                    running.result()
        self.scratch.close()

    def _recorder(self, pool: ThreadPoolExecutor, producer: Any) -> Recorder:
        clock, metrics = self.clock, self.metrics
        alarms = SystemAlarms(producer, clock=clock, name="archive-0")
        seams = Seams(history=self.history, catalog=self.catalog, clock=clock, metrics=metrics)
        writer = Writer(
            store=self.store, catalog=self.catalog, bucket="b", guaranteed_days=0, clock=clock, metrics=metrics
        )
        return Recorder(
            catalog=self.catalog,
            storer=Storer(writer=writer, seams=seams, pool=pool, alarms=alarms, clock=clock, metrics=metrics),
            seams=seams,
            scratch=self.scratch,
            tail=self.tail,
            free_bytes=lambda: self.free_bytes,
            reserve_bytes=1 << 20,
            alarms=alarms,
            dead_letters=DeadLetters(producer, clock=clock, version="0"),
            clock=clock,
            metrics=metrics,
        )

    async def turn(self, seconds: float = 0.25) -> None:
        await self.clock.advance(seconds)
        await asyncio.to_thread(lambda: None)

    async def until(self, condition: Callable[[], bool]) -> None:
        """Turn the clock until something holds; the deadline is real, since threads and the disk take real time."""
        async with asyncio.timeout(WAIT_S):
            while not condition():
                await self.turn()

    def rows(self, camera_id: str = "cam-1") -> list[Segment]:
        return list(self.catalog.segments_between(camera_id, "main", 0, START_US + 10_000 * SECOND_US))

    def seqs(self, camera_id: str = "cam-1") -> list[tuple[int, int]]:
        return [(row.seq0, row.seq1) for row in self.rows(camera_id)]

    def committed(self) -> int:
        return sum(self.kafka.committed(GROUP).values())

    def metric(self, name: str, **labels: str) -> float:
        return self.registry.get_sample_value(f"safealley_archive_{name}", labels) or 0.0

    def faults(self) -> set[str]:
        """Return the faults that alarms were raised for."""
        values = [record.value or b"" for record in self.kafka.records(ALARMS.name)]
        return {value.split(b'"kr.safealley/system/')[1].split(b'"')[0].decode() for value in values}


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    rig = Rig(tmp_path)
    settings = {"max.message.bytes": "2097152"}
    names = (VIDEO.name, VIDEO.dead_letters, ALARMS.name)
    await rig.kafka.create_topics([TopicSpec(name=name, partitions=2, settings=settings) for name in names])
    yield rig
    rig.catalog.close()
