"""Gives the closed segments of lanes to the writer, one at a time per partition, until the store takes them.

The only waits here are for the store and the catalog; both may be away for as long as Kafka keeps the
records. A segment that a thread is writing is never taken from under it: a lane that is discarded
meanwhile lets it end.
"""

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from functools import partial
from typing import Final, TypeVar

import structlog

from services.archive.alarms import SystemAlarms
from services.archive.catalog import Added
from services.archive.lane import Lane
from services.archive.metrics import ArchiveMetrics
from services.archive.open_tail import Held
from services.archive.seams import Seam, Seams
from services.archive.store.port import StoreAway
from services.archive.writer import Writer
from services.runtime.clock import Clock
from services.runtime.errors import RetryLater
from services.runtime.kafka_port import Place

BACK_OFF_S: Final = (0.5, 1.0, 2.0, 5.0, 10.0)

R = TypeVar("R")
log = structlog.get_logger()


class Unwanted(Exception):
    """The lane was discarded while its segment waited for the store."""


class Storer:
    """The tasks that store, one for each partition that has something closed."""

    def __init__(
        self,
        *,
        writer: Writer,
        seams: Seams,
        pool: Executor,
        alarms: SystemAlarms,
        clock: Clock,
        metrics: ArchiveMetrics,
    ) -> None:
        self._writer = writer
        self._seams = seams
        self._pool = pool
        self._alarms = alarms
        self._clock = clock
        self._metrics = metrics
        self._running: dict[Place, asyncio.Task[None]] = {}

    def wake(self, lane: Lane) -> None:
        """Store what a lane has closed, unless its partition's task runs already."""
        self.check()
        if lane.closed and lane.place not in self._running:
            name = f"archive-store-{lane.place.partition}"
            self._running[lane.place] = asyncio.create_task(self._store_all(lane), name=name)

    def check(self) -> None:
        """Clear away tasks that have ended; an error of one is raised: it is a mistake of ours."""
        for place, task in tuple(self._running.items()):
            if task.done():
                del self._running[place]
                task.result()

    async def drain(self, lanes: Sequence[Lane], *, timeout_s: float) -> None:
        """Wait until what these lanes have closed is stored, but no longer."""
        for lane in lanes:
            self.wake(lane)
        running = [self._running[lane.place] for lane in lanes if lane.place in self._running]
        if running:
            await asyncio.wait(running, timeout=timeout_s)

    async def stop(self) -> None:
        """End all tasks; Kafka has what they had not stored."""
        running = tuple(self._running.values())
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)

    async def call(
        self,
        blocking: Callable[[], R],
        *,
        fault: str = "catalog_unavailable",
        wanted: Callable[[], bool] = lambda: True,
    ) -> R:
        """Call a blocking part until it answers. The caller's deadline is the shutdown's.

        Raises:
            Unwanted: it failed, and nobody wants it any more.
        """
        attempt = 0
        while True:
            try:
                return await asyncio.get_running_loop().run_in_executor(self._pool, blocking)
            except RetryLater as error:
                if not wanted():
                    raise Unwanted from error
                attempt += 1
                await self._failed(error, fault, attempt)

    async def explain(self, seams: tuple[Seam, ...]) -> None:
        """Write what holes are; what the catalog does not take now is kept for later."""
        for index, seam in enumerate(seams):
            try:
                await asyncio.get_running_loop().run_in_executor(self._pool, partial(self._seams.explain, seam))
            except RetryLater as error:
                log.warning("storer.seams_put_back", seams=len(seams) - index, reason=str(error))
                self._seams.put_back(seams[index:])
                return

    async def _failed(self, error: RetryLater, fault: str, attempt: int) -> None:
        self._metrics.upload_retries.inc()
        wait_s = BACK_OFF_S[min(attempt, len(BACK_OFF_S)) - 1]
        if isinstance(error, StoreAway) and error.retry_after_s is not None:
            wait_s = min(max(wait_s, error.retry_after_s), 6 * BACK_OFF_S[-1])
        log.warning("storer.retrying", fault=fault, reason=str(error), attempt=attempt, wait_s=wait_s)
        if attempt >= len(BACK_OFF_S):
            await self._alarms.raise_(fault, "archive")
        await self._clock.sleep(wait_s)

    async def _store_all(self, lane: Lane) -> None:
        while lane.closed:
            held = lane.storing = lane.closed[0]
            try:
                await self._store(lane, held)
            except Unwanted:
                log.info("storer.unwanted", camera_id=held.segment.run.camera_id)
            lane.drop(held)

    async def _store(self, lane: Lane, held: Held) -> None:
        run = held.segment.run

        def wanted() -> bool:
            return not lane.discarded

        # Before the row: once that is written, a reading after a crash does not come by the hole again.
        for seam in self._seams.of(run.camera_id, run.stream):
            await self.call(partial(self._seams.explain, seam), wanted=wanted)
        write = partial(self._writer.write, held)
        added = await self.call(write, fault="storage_unavailable", wanted=wanted)
        if added is Added.CONFLICT:
            self._metrics.key_conflicts.inc()
            await self._alarms.raise_("archive_key_conflict", run.camera_id)
