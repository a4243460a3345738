"""The whole of ingest on one screen.

camera -> rtsp -> fragmenter -> fmp4 -> publisher -> `video`                 (one recorder per stream)
                                 +-> live -> gateway         recorder -> gap_ledger -> `streams`
device POST -> webhook -> normaliser -> publisher (or spool) -> `alarms`     (alarms/, its own thread)
`devices.<pool>` -> registry -> supervisor -> recorder       `claims` <-> ownership
"""

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Final

from services.contracts.device import Device
from services.contracts.units import UtcMicroseconds
from services.ingest import api, registry
from services.ingest.alarms.door import AlarmDoor, DoorSettings
from services.ingest.disk_watch import DiskWatch
from services.ingest.ending import end
from services.ingest.host_clock import HostClock
from services.ingest.live import LiveHub
from services.ingest.media.stills import Stills
from services.ingest.offline_alarm import offline_alarm
from services.ingest.ownership import CameraClaim, FootageWatch, StaticAssigner
from services.ingest.publisher import VideoPublisher
from services.ingest.ramp import Ramp
from services.ingest.recorder import Parts
from services.ingest.registry_reader import RegistryReader
from services.ingest.rtsp.client import CameraSession, SharedBuffer
from services.ingest.settings import IngestSettings
from services.ingest.streams_log import StreamsLog
from services.ingest.supervisor import Supervisor
from services.runtime.claims import ClaimsLog
from services.runtime.kafka_port import Kafka
from services.runtime.service import LoopThread, ServiceContext, freeze_garbage
from services.runtime.settings import SecretStore
from services.runtime.system_alarm import system_alarm

ALARM_THREAD_STOP_S: Final = 8.0
STREAMS_FLUSH_S: Final = 3.0
READY_LOOK_S: Final = 0.5


async def run(settings: IngestSettings, kafka: Callable[[str], Kafka], context: ServiceContext) -> None:
    """Run until told to stop. `kafka` makes a client for a part, since no client is shared between loops."""
    clock = context.clock
    settings.data_dir.mkdir(parents=True, exist_ok=True)
    city = RegistryReader(
        kafka("registry"), pool=settings.pool, snapshot=settings.data_dir / "registry.json", clock=clock
    )
    await city.load_snapshot()
    door = AlarmDoor(door_settings(settings), kafka("alarms"), registry=city.known, context=context)
    publisher = VideoPublisher(
        kafka("video"), capacity_bytes=settings.video_buffer_bytes, clock=clock, host_clock=HostClock(clock).state
    )
    streams = StreamsLog(kafka("streams"), clock=clock)
    secrets = SecretStore(settings.secrets_dir)
    live = LiveHub(secrets=secrets, stills=Stills(), clock=clock)
    disk = DiskWatch(
        settings.data_dir,
        reserve_bytes=settings.disk_reserve_bytes,
        reserve_ratio=settings.disk_reserve_ratio,
        on_full=lambda full: publisher.stop_video(disk_full=full),
        clock=clock,
    )
    claims = ClaimsLog(kafka("claims"), clock)

    def report_offline(device: Device, active: bool, since_us: UtcMicroseconds, detail: str) -> bool:
        site = city.current.site_of(device)
        return door.submit(
            offline_alarm(device, site, active=active, since_us=since_us, detail=detail, now_us=clock.now_us())
        )

    def report_unplaced(count: int) -> bool:
        value = {"token": settings.name, "cameras": count}
        return door.submit(
            system_alarm("ingest", "CamerasUnplaced", value, now_us=clock.now_us(), momentary=False, active=count > 0)
        )

    async with claims.open(), api.live_port(live, settings, clock) as live_port:
        supervisor = Supervisor(
            StaticAssigner(max_streams=settings.max_streams, max_mbps=settings.max_mbps),
            parts=Parts(
                publisher=publisher,
                streams=streams,
                ramp=Ramp(
                    connects_per_s=settings.connects_per_s,
                    handshakes_per_host=settings.handshakes_per_host,
                    clock=clock,
                ),
                secrets=secrets,
                sessions=partial(
                    CameraSession,
                    clock=clock,
                    shared=SharedBuffer(),
                    allowed=partial(registry.within, networks=settings.networks()),
                ),
                offline_alarm=report_offline,
                writer=settings.name,
                offline_alarm_s=settings.offline_alarm_s,
                clock=clock,
            ),
            claims=partial(
                CameraClaim,
                claims=claims,
                owner=settings.name,
                live_url=api.live_url(settings, live_port),
                clock=clock,
            ),
            live=live.view,
            footage=FootageWatch(kafka("footage"), clock=clock),
            unplaced_alarm=report_unplaced,
            clock=clock,
        )
        city.on_change(supervisor.apply)
        supervisor.apply(city.current)
        context.status("ports", lambda: {"device_door": door.port, "live": live_port})
        context.status("cameras", supervisor.status)
        context.status("press_spool", door.statistics)
        context.status("video", publisher.statistics)
        context.status("streams", streams.statistics)
        async with asyncio.TaskGroup() as tasks:
            alarms = LoopThread("alarms", door.main, stop_s=ALARM_THREAD_STOP_S)
            tasks.create_task(alarms.run(context.stopping), name="alarms")
            running = [
                tasks.create_task(work, name=name)
                for name, work in (
                    ("registry", city.run()),
                    ("publisher", publisher.run()),
                    ("streams", streams.run()),
                    ("disk watch", disk.run()),
                    ("readiness", _tell_readiness(context, city, supervisor)),
                )
            ]
            await supervisor.run(context.stopping)
            await _flush(streams)
            await end(running)


async def _tell_readiness(context: ServiceContext, city: RegistryReader, supervisor: Supervisor) -> None:
    """Be ready once every camera was tried: a camera that is down must not hold up a rollout."""
    while not (city.known() is not None and supervisor.all_attempted()):
        await context.clock.sleep(READY_LOOK_S)
    freeze_garbage()
    context.ready(True, "every camera was tried")


async def _flush(streams: StreamsLog) -> None:
    flushing = asyncio.ensure_future(streams.flushed())
    await asyncio.wait({flushing}, timeout=STREAMS_FLUSH_S)
    flushing.cancel()


def door_settings(settings: IngestSettings) -> DoorSettings:
    return DoorSettings(
        listen=settings.device_door,
        data_dir=settings.data_dir,
        secrets_dir=settings.secrets_dir,
        spool_bytes=settings.alarm_spool_bytes,
    )
