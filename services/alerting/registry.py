"""Follows the registry for the cameras near an alarm. Without it alerting decides as well and names none."""

from services.alerting.evidence import Cameras
from services.contracts.device import Device
from services.runtime.clock import Clock
from services.runtime.kafka_port import Kafka
from services.runtime.registry import RecordTable, follow_registry


async def follow_cameras(kafka: Kafka, pool: str, cameras: Cameras, clock: Clock) -> None:
    """Keep `cameras` as the registry says, for ever; a topic that says nothing removes none."""
    shown: dict[str, Device] = {}

    async def show(table: RecordTable) -> None:
        if not table.applied:
            return
        now = table.devices()
        for device_id in shown.keys() - now.keys():
            cameras.remove(device_id)
            del shown[device_id]
        for device_id, device in now.items():
            if shown.get(device_id) != device:
                cameras.put(device)
        shown.update(now)

    await follow_registry(kafka, pool, clock=clock, on_standing=show)
