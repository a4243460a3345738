"""The whole of archive.

video -> segmenter -> scratch (read meanwhile by open_tail) -> writer -> store, then catalog -> commit
streams, audit -> keeper -> catalog
timeline, playlist, clip <- footage <- history <- open_tail, catalog, store; every look -> audit
timeline, playlist, clip <- cameras <- devices.<pool>, catalog

`video` has a consumer, a thread and an event loop of its own: its fetches and hashes must not delay
the other topics or the API (kafka.md 3, guard 13).
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Final

import structlog

from services.archive.alarms import SystemAlarms
from services.archive.api import ArchiveApi
from services.archive.audit import Audit
from services.archive.cameras import Cameras
from services.archive.catalog import Catalog, sqlite_url
from services.archive.clip_files import ClipFiles
from services.archive.history import History
from services.archive.keeper import TOPICS, Keeper
from services.archive.metrics import ArchiveMetrics
from services.archive.open_tail import OpenTail
from services.archive.recorder import Recorder
from services.archive.scratch import ScratchDirectory
from services.archive.seams import Seams
from services.archive.settings import ArchiveSettings, disk_reserve_bytes
from services.archive.store.local import LocalStore
from services.archive.store.port import ObjectStore
from services.archive.storer import Storer
from services.archive.writer import Writer
from services.contracts.topics import VIDEO
from services.runtime.access_log import AccessLog
from services.runtime.clock import Clock
from services.runtime.dead_letter import USUAL, DeadLetters, Limits
from services.runtime.errors import RetryLater
from services.runtime.http_server import make_app, serve
from services.runtime.identity import Identity
from services.runtime.kafka_port import GroupProfile, Kafka, ProducerProfile
from services.runtime.metrics import REGISTRY, Registry, version
from services.runtime.registry import follow_registry
from services.runtime.service import LoopThread, ServiceContext
from services.runtime.waits import beside

VIDEO_GROUP: Final = "archive.video"
RECORDS_GROUP: Final = "archive.records"
READERS: Final = 4
THREAD_STOP_S: Final = 25.0
FLUSH_S: Final = 5.0

log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What both threads stand on; each of these may be used from any thread."""

    settings: ArchiveSettings
    store: ObjectStore
    catalog: Catalog
    tail: OpenTail
    history: History
    clock: Clock
    metrics: ArchiveMetrics
    registry_version: str


async def run(
    settings: ArchiveSettings,
    kafka: Kafka,
    context: ServiceContext,
    *,
    video_kafka: Kafka | None = None,
    registry: Registry = REGISTRY,
    on_port: Callable[[int], None] = lambda _port: None,
) -> None:
    """Run archive until the context says stop.

    `video_kafka` is used on the thread of `video`; without it, as in tests, `video` is read on this loop.
    """
    parts = make_parts(settings, context.clock, registry)
    try:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(_record_somewhere(parts, kafka, video_kafka, context), name="archive-video")
            tasks.create_task(_keep(parts, kafka, context), name="archive-records")
            tasks.create_task(_answer(parts, kafka, context, on_port), name="archive-api")
    finally:
        parts.catalog.close()


def make_parts(settings: ArchiveSettings, clock: Clock, registry: Registry) -> Parts:
    """Open store and catalog.

    Raises:
        SettingsError: one of them cannot be used.
    """
    store = LocalStore(settings.store_dir, clock=clock)
    catalog = Catalog(sqlite_url(settings.catalog_file))
    catalog.migrate()
    tail = OpenTail()
    return Parts(
        settings=settings,
        store=store,
        catalog=catalog,
        tail=tail,
        history=History(catalog=catalog, store=store, tail=tail, clock=clock),
        clock=clock,
        metrics=ArchiveMetrics(registry),
        registry_version=version(),
    )


async def _record_somewhere(parts: Parts, kafka: Kafka, video_kafka: Kafka | None, context: ServiceContext) -> None:
    if video_kafka is None:
        await _record(parts, kafka, context, context.stopping)
        return
    thread = LoopThread("archive-video", partial(_record, parts, video_kafka, context), stop_s=THREAD_STOP_S)
    await thread.run(context.stopping)


async def _record(parts: Parts, kafka: Kafka, context: ServiceContext, stopping: asyncio.Event) -> None:
    """Video -> segmenter -> scratch -> writer -> store, then catalog -> commit."""
    settings = parts.settings
    scratch = ScratchDirectory(
        settings.scratch_dir, capacity_bytes=settings.scratch_bytes, open_files_max=settings.open_files_max
    )
    with ThreadPoolExecutor(settings.store_workers, thread_name_prefix="archive-store") as pool:
        async with _producing(parts, kafka, letters=USUAL) as (alarms, dead_letters):
            seams = Seams(history=parts.history, catalog=parts.catalog, clock=parts.clock, metrics=parts.metrics)
            writer = Writer(
                store=parts.store,
                catalog=parts.catalog,
                bucket=settings.bucket,
                guaranteed_days=settings.guaranteed_days,
                clock=parts.clock,
                metrics=parts.metrics,
            )
            recorder = Recorder(
                catalog=parts.catalog,
                storer=Storer(
                    writer=writer, seams=seams, pool=pool, alarms=alarms, clock=parts.clock, metrics=parts.metrics
                ),
                seams=seams,
                scratch=scratch,
                tail=parts.tail,
                free_bytes=parts.store.free_bytes,
                reserve_bytes=disk_reserve_bytes(settings),
                alarms=alarms,
                dead_letters=dead_letters,
                clock=parts.clock,
                metrics=parts.metrics,
            )
            context.status("video", recorder.status)
            async with kafka.group(VIDEO_GROUP, (VIDEO.name,), GroupProfile.ARCHIVE_VIDEO, recorder) as consumer:
                await recorder.run(consumer, stopping, partial(context.beat, "video"))
    scratch.close()


async def _keep(parts: Parts, kafka: Kafka, context: ServiceContext) -> None:
    """streams, audit -> keeper -> catalog."""
    with ThreadPoolExecutor(1, thread_name_prefix="archive-keeper") as pool:
        # A letter of these topics holds the whole record, so that reading on loses nothing.
        async with _producing(parts, kafka, letters=None) as (alarms, dead_letters):
            keeper = Keeper(
                catalog=parts.catalog,
                pool=pool,
                alarms=alarms,
                dead_letters=dead_letters,
                clock=parts.clock,
                metrics=parts.metrics,
            )
            async with kafka.group(RECORDS_GROUP, TOPICS, GroupProfile.ARCHIVE_RECORDS, keeper) as consumer:
                await keeper.run(consumer, context.stopping, partial(context.beat, "records"))


async def _answer(parts: Parts, kafka: Kafka, context: ServiceContext, on_port: Callable[[int], None]) -> None:
    """timeline, playlist, clip; every look -> audit."""
    settings = parts.settings
    identity = Identity.from_settings(settings.identity, clock=parts.clock)
    app = make_app(identity=identity, clock=parts.clock, origins=settings.origins)
    with (
        ThreadPoolExecutor(READERS + settings.clips_at_once, thread_name_prefix="archive-read") as pool,
        ThreadPoolExecutor(1, thread_name_prefix="archive-audit") as writing,
    ):
        async with kafka.producer(ProducerProfile.RECORDS) as producer:
            access_log = AccessLog(producer, clock=parts.clock, service=settings.name)
            audit = Audit(catalog=parts.catalog, writing=writing, clock=parts.clock, metrics=parts.metrics)
            cameras = Cameras(parts.catalog, pool)
            registry = follow_registry(kafka, settings.pool, clock=parts.clock, on_standing=cameras.learn)
            ArchiveApi(
                history=parts.history,
                cameras=cameras,
                audit=audit,
                pool=pool,
                clip_files=ClipFiles(
                    settings.clip_dir,
                    capacity_bytes=settings.clip_bytes,
                    reserve_bytes=disk_reserve_bytes(settings),
                    free_bytes=parts.store.free_bytes,
                ),
                clips_at_once=settings.clips_at_once,
                clock=parts.clock,
                metrics=parts.metrics,
            ).add_to(app)
            async with (
                _audited(audit, access_log),  # outermost: what the last requests saw is noted too
                beside(registry, name="archive-registry"),
                serve(app, settings.listen) as port,
            ):
                on_port(port)
                context.status("cameras", cameras.status)
                context.status("catalog", parts.catalog.counts)
                context.status("store", lambda: {"worm": parts.store.capabilities().worm})
                context.ready(ready=True)
                await context.stopping.wait()
                context.ready(ready=False, reason="stopping")


@asynccontextmanager
async def _producing(
    parts: Parts, kafka: Kafka, *, letters: Limits | None
) -> AsyncIterator[tuple[SystemAlarms, DeadLetters]]:
    """Open one loop's producer of alarms and dead letters."""
    async with kafka.producer(ProducerProfile.RECORDS) as producer:
        alarms = SystemAlarms(producer, clock=parts.clock, name=parts.settings.name)
        yield alarms, DeadLetters(producer, clock=parts.clock, version=parts.registry_version, limits=letters)


@asynccontextmanager
async def _audited(audit: Audit, access_log: AccessLog) -> AsyncIterator[None]:
    """Send access records meanwhile, and at the end what can be sent in time; the next life sends the rest."""
    try:
        async with beside(audit.run(access_log), name="archive-audit"):
            yield
    finally:
        try:
            async with asyncio.timeout(FLUSH_S):
                await audit.send(access_log)
        except (TimeoutError, RetryLater):
            log.warning("app.access_records_left", records=len(audit))
