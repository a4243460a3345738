"""A look that was answered is in the audit log, whatever ends archive or keeps Kafka away."""

from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from services.archive import audit as audits
from services.archive.audit import FOLD_US, SETTLED_US, Audit
from services.archive.catalog import Catalog, sqlite_url
from services.archive.metrics import ArchiveMetrics
from services.contracts import codec
from services.contracts.audit import Access
from services.contracts.topics import AUDIT
from services.runtime.access_log import AccessLog
from services.runtime.clock import FakeClock
from services.runtime.kafka_port import ProducerProfile, TopicSpec
from services.runtime.memory_kafka import MemoryKafka

SECOND_US = 1_000_000


class Bench:
    """A catalog and a Kafka; `life` is what a start of archive makes of them."""

    def __init__(self, directory: Path, writing: ThreadPoolExecutor) -> None:
        self.clock = FakeClock()
        self.kafka = MemoryKafka(clock=self.clock)
        self.catalog = Catalog(sqlite_url(directory / "catalog.sqlite"))
        self.catalog.migrate()
        self.registry = CollectorRegistry()
        self._writing = writing
        self._metrics = ArchiveMetrics(self.registry)

    def life(self) -> Audit:
        return Audit(catalog=self.catalog, writing=self._writing, clock=self.clock, metrics=self._metrics)

    def look(self, **changes: Any) -> Access:
        facts: dict[str, Any] = {
            "account": "lee", "role": "auditor", "at_us": self.clock.now_us(), "origin": "10.0.0.1", "action": "clip",
            "camera_id": "cam-1", "from_us": 0, "to_us": SECOND_US, "request_id": "r", "reason": "case-7",
            "result": "allowed",
        }  # fmt: skip
        return Access(**facts | changes)

    def on_disk(self) -> list[Access]:
        return list(self.catalog.looks_due(None, limit=100).values())

    async def send_due(self, audit: Audit) -> list[Access]:
        """Send what is due now; return all that `audit` has."""
        async with self.kafka.producer(ProducerProfile.RECORDS) as producer:
            access_log = AccessLog(producer, clock=self.clock, service="archive-0")
            await audit.send(access_log, due_us=self.clock.now_us())
        return [codec.decode(record.value or b"", Access) for record in self.kafka.records(AUDIT.name)]


@pytest.fixture
def writing() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(1) as pool:
        yield pool


@pytest.fixture
async def bench(tmp_path: Path, writing: ThreadPoolExecutor) -> AsyncIterator[Bench]:
    bench = Bench(tmp_path, writing)
    await bench.kafka.create_topics([TopicSpec(name=AUDIT.name, partitions=1, settings={})])
    yield bench
    bench.catalog.close()


async def test_a_look_is_on_disk_before_it_is_answered_and_the_next_life_sends_it(bench: Bench) -> None:
    look = bench.look()
    await bench.life().write(look)
    assert bench.on_disk() == [look]
    after_a_crash = bench.life()
    assert len(after_a_crash) == 1
    assert await bench.send_due(after_a_crash) == [look]
    assert (bench.on_disk(), len(after_a_crash)) == ([], 0)


async def test_range_reads_of_one_viewing_are_one_record_a_minute_and_on_disk_from_the_first_on(bench: Bench) -> None:
    audit = bench.life()
    for second in range(3):
        read = bench.look(action="range_read", from_us=second, to_us=second + 1, bytes=10)
        await audit.write(read)
        (kept,) = bench.on_disk()
        assert (kept.from_us, kept.to_us, kept.bytes) == (0, second + 1, 10 * (second + 1))
        await bench.clock.advance(1)
    assert await bench.send_due(audit) == []  # its minute is not over
    await bench.clock.advance(FOLD_US / 1e6)
    await audit.write(bench.look(action="range_read", from_us=7, to_us=8))
    assert len(bench.on_disk()) == 2
    await bench.clock.advance(SETTLED_US / 1e6)
    assert [(one.from_us, one.to_us) for one in await bench.send_due(audit)] == [(0, 3)]


async def test_a_refused_look_beyond_twice_the_bound_is_counted(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audits, "WAITING_MAX", 1)
    audit = bench.life()
    for _ in range(3):
        await audit.write(bench.look(result="denied"))
    assert audit.full
    assert len(bench.on_disk()) == 2
    assert bench.registry.get_sample_value("safealley_archive_audit_lost_records_total") == 1
