"""The whole of ingest on one screen.

device POST -> webhook -> normaliser -> publisher (or spool) -> `alarms`     (alarms/, its own thread)
`devices.<pool>` -> registry
"""

import asyncio
from collections.abc import Callable
from typing import Final

from services.ingest.alarms.door import AlarmDoor, DoorSettings
from services.ingest.registry_reader import RegistryReader
from services.ingest.settings import IngestSettings
from services.runtime.kafka_port import Kafka
from services.runtime.service import LoopThread, ServiceContext, freeze_garbage

ALARM_THREAD_STOP_S: Final = 8.0


async def run(settings: IngestSettings, kafka: Callable[[str], Kafka], context: ServiceContext) -> None:
    """Run until told to stop. `kafka` makes a client for a part, since no client is shared between loops."""
    registry = RegistryReader(
        kafka("registry"), pool=settings.pool, snapshot=settings.data_dir / "registry.json", clock=context.clock
    )
    await registry.load_snapshot()
    door = AlarmDoor(door_settings(settings), kafka("alarms"), registry=lambda: registry.current, context=context)
    context.status("press_spool", door.statistics)
    async with asyncio.TaskGroup() as tasks:
        reading = tasks.create_task(registry.run(), name="registry")
        tasks.create_task(LoopThread("alarms", door.main, stop_s=ALARM_THREAD_STOP_S).run(context.stopping))
        context.ready(True, "the device door is open")
        freeze_garbage()
        await context.stopping.wait()
        reading.cancel()


def door_settings(settings: IngestSettings) -> DoorSettings:
    return DoorSettings(
        listen=settings.device_door,
        data_dir=settings.data_dir,
        secrets_dir=settings.secrets_dir,
        spool_bytes=settings.alarm_spool_bytes,
    )
