"""Gaps and stream states from `streams`, access from `audit` -> catalog; committed after the rows."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from functools import partial
from typing import Final

import structlog

from services.archive.alarms import SystemAlarms
from services.archive.catalog import Catalog
from services.archive.metrics import ArchiveMetrics
from services.archive.replay import resume_at
from services.contracts.audit import Access
from services.contracts.codec import decode_event
from services.contracts.errors import ContractError
from services.contracts.gap import Gap
from services.contracts.stream import StreamState
from services.contracts.topics import AUDIT, STREAMS
from services.runtime.clock import Clock
from services.runtime.dead_letter import DeadLetters
from services.runtime.errors import OffsetsLost, OwnershipLost, RetryLater
from services.runtime.kafka_port import Assigned, GroupConsumer, Place, Record

TOPICS: Final = (STREAMS.name, AUDIT.name)
POLL_S: Final = 0.25
RETRY_S: Final = 1.0

Kept = tuple[str, Gap | StreamState | Access]
log = structlog.get_logger()


class Keeper:
    """A `GroupListener` and the loop around its consumer. Rows are idempotent, so replays are free."""

    def __init__(
        self,
        *,
        catalog: Catalog,
        pool: Executor,
        alarms: SystemAlarms,
        dead_letters: DeadLetters,
        clock: Clock,
        metrics: ArchiveMetrics,
    ) -> None:
        self._catalog = catalog
        self._pool = pool
        self._alarms = alarms
        self._dead_letters = dead_letters
        self._clock = clock
        self._metrics = metrics

    async def assigned(self, partitions: Sequence[Assigned]) -> Mapping[Place, int]:
        starts = {}
        for one in partitions:
            resume = resume_at(committed=one.committed, beginning=one.beginning, end=one.end)
            starts[one.place] = resume.offset
            if resume.went_back:
                await self._alarms.raise_("log_went_back", f"{one.place.topic}/{one.place.partition}")
        return starts

    async def revoked(self, places: frozenset[Place]) -> None:
        """Nothing is held: every batch is written and committed before the next."""
        self._dead_letters.forget(places)

    async def run(self, consumer: GroupConsumer, stopping: asyncio.Event, beat: Callable[[], None]) -> None:
        while not stopping.is_set():
            beat()
            try:
                records = await consumer.poll(timeout_s=POLL_S)
            except OffsetsLost as lost:
                await self._alarms.raise_("offsets_lost", f"{lost.topic}/{lost.partition}")
                continue
            if records:
                await self._keep(records)
                await self._commit(consumer, records)

    async def _keep(self, records: Sequence[Record]) -> None:
        bodies: list[Kept] = []
        for record in records:
            bodies += await self._read(record)
            self._metrics.kept.labels(topic=record.topic).inc()
        while bodies:
            try:
                await asyncio.get_running_loop().run_in_executor(self._pool, partial(self._catalog.keep, bodies))
            except RetryLater as error:
                log.warning("keeper.retrying", reason=str(error))
                await self._clock.sleep(RETRY_S)
            else:
                return

    async def _read(self, record: Record) -> tuple[Kept, ...]:
        """Return what is kept of a record: nothing of types that no report needs yet."""
        try:
            event = decode_event(record.headers, record.value)
        except ContractError as error:
            await self._bury(record, str(error))
            return ()
        self._dead_letters.handled(record.place)
        if isinstance(event.body, Gap | StreamState | Access):
            return ((f"{event.envelope.source}/{event.envelope.id}", event.body),)
        return ()

    async def _bury(self, record: Record, reason: str) -> None:
        while True:
            try:
                await self._dead_letters.put(record, reason)
            except RetryLater:
                await self._clock.sleep(RETRY_S)
            else:
                return

    async def _commit(self, consumer: GroupConsumer, records: Sequence[Record]) -> None:
        try:
            await consumer.commit({record.place: record.offset + 1 for record in records})
        except (RetryLater, OwnershipLost):
            log.warning("keeper.commit_failed")
