"""The alarm thread: everything between a device's POST and `alarms`, on one loop of its own.

    POST -> webhook -> normaliser -> publisher (or spool) -> `alarms`

`submit` is for the main loop, which has alarms of its own to report (a camera is offline).
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import structlog

from services.ingest import metrics
from services.ingest.alarms.publisher import AlarmPublisher
from services.ingest.alarms.spool import AlarmSpool, Statistics
from services.ingest.alarms.webhook import Webhook
from services.ingest.ending import end
from services.ingest.registry import Registry
from services.ingest.tokens import Tokens
from services.runtime.clock import Clock
from services.runtime.errors import PoisonMessage, RetryLater
from services.runtime.http_server import make_app, serve
from services.runtime.kafka_port import Kafka, Outgoing
from services.runtime.service import ServiceContext
from services.runtime.settings import ListenSettings
from services.runtime.system_alarm import system_alarm

log = structlog.get_logger()

_BEAT_S: Final = 1.0
SPOOL_FILE: Final = "presses.spool"


@dataclass(frozen=True, slots=True, kw_only=True)
class DoorSettings:
    """What the thread is built from."""

    listen: ListenSettings
    data_dir: Path
    secrets_dir: Path
    spool_bytes: int


class AlarmDoor:
    """`main` is the thread's; `port`, `submit` and `statistics` may be asked from the main loop."""

    def __init__(
        self, settings: DoorSettings, kafka: Kafka, *, registry: Callable[[], Registry | None], context: ServiceContext
    ) -> None:
        self._settings = settings
        self._kafka = kafka
        self._registry = registry
        self._context = context
        self._clock: Clock = context.clock
        self._loop: asyncio.AbstractEventLoop | None = None
        self._publisher: AlarmPublisher | None = None
        self._unsent: set[asyncio.Task[None]] = set()
        self.port: int | None = None

    async def main(self, stopping: asyncio.Event) -> None:
        """Serve until stopped; what was acknowledged is in Kafka or on the disk when this returns.

        Raises:
            SettingsError: the port is taken, or the spool is held by another process or has no room.
        """
        spool = AlarmSpool.open(self._settings.data_dir / SPOOL_FILE, capacity_bytes=self._settings.spool_bytes)
        with ThreadPoolExecutor(max_workers=1, thread_name_prefix="press-spool") as disk:
            try:
                await self._serve(spool, disk, stopping)
            finally:
                self._publisher = None
                await asyncio.get_running_loop().run_in_executor(disk, spool.close)

    def submit(self, record: Outgoing) -> bool:
        """Publish an alarm of ingest's own, from another loop; it is kept like a press. False: the door is not open."""
        loop, publisher = self._loop, self._publisher
        if loop is None or publisher is None:
            log.error("door.alarm_without_door", topic=record.topic, key=record.key)
            return False
        loop.call_soon_threadsafe(self._start, publisher, record)
        return True

    def statistics(self) -> Statistics | None:
        return None if self._publisher is None else self._publisher.statistics()

    async def _serve(self, spool: AlarmSpool, disk: ThreadPoolExecutor, stopping: asyncio.Event) -> None:
        publisher = AlarmPublisher(self._kafka, spool, disk=disk, clock=self._clock)
        app = make_app(identity=None, clock=self._clock)
        webhook = Webhook(
            registry=self._registry,
            tokens=Tokens(self._settings.secrets_dir, self._clock),
            publisher=publisher,
            clock=self._clock,
        )
        webhook.add_routes(app)
        sending = asyncio.create_task(publisher.run(), name="alarm publisher")
        beating = asyncio.create_task(self._beat(), name="alarm beat")
        try:
            async with serve(app, self._settings.listen, setting="device_door.port") as self.port:
                self._loop, self._publisher = asyncio.get_running_loop(), publisher
                log.info("door.opened", port=self.port, waiting=spool.statistics().waiting)
                self._tell_lost(publisher)
                await _either(stopping, sending)
        finally:
            await asyncio.gather(*self._unsent, return_exceptions=True)
            await end((sending, beating))
            self._context.forget("alarms")

    def _tell_lost(self, publisher: AlarmPublisher) -> None:
        if places := publisher.statistics().corrupt:
            metrics.ALARM_SPOOL_LOST.inc(places)
            now_us = self._clock.now_us()
            self._start(publisher, system_alarm("ingest", "PressesLost", {"places": places}, now_us=now_us))

    def _start(self, publisher: AlarmPublisher, record: Outgoing) -> None:
        task = asyncio.ensure_future(self._publish(publisher, record))
        self._unsent.add(task)
        task.add_done_callback(self._unsent.discard)

    async def _publish(self, publisher: AlarmPublisher, record: Outgoing) -> None:
        try:
            await publisher.publish(record)
        except (RetryLater, PoisonMessage) as error:
            log.error("door.alarm_not_kept", key=record.key, reason=str(error))

    async def _beat(self) -> None:
        while True:
            self._context.beat("alarms")
            await asyncio.sleep(_BEAT_S)


async def _either(stopping: asyncio.Event, sending: "asyncio.Task[None]") -> None:
    """Wait until asked to stop; a publisher that ends by itself is our own mistake and ends the process."""
    stop = asyncio.ensure_future(stopping.wait())
    try:
        await asyncio.wait({stop, sending}, return_when=asyncio.FIRST_COMPLETED)
        if sending.done():
            await sending
    finally:
        stop.cancel()
