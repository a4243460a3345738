"""Reads the registry for the cameras near an alarm. Without it alerting decides as well and names none."""

from typing import Final

import structlog

from services.alerting.evidence import Cameras
from services.contracts import codec
from services.contracts.device import Device
from services.contracts.errors import ContractError
from services.contracts.topics import devices
from services.runtime.clock import Clock
from services.runtime.errors import OffsetsLost, PoisonMessage, RetryLater
from services.runtime.kafka_port import Kafka, Reader, Record

log = structlog.get_logger()
POLL_S: Final = 2.0
AGAIN_S: Final = 10.0


async def follow_cameras(kafka: Kafka, pool: str, cameras: Cameras, clock: Clock) -> None:
    """Keep `cameras` as the registry says, for ever; a registry that is not there is asked for again."""
    while True:
        try:
            async with kafka.reader(await kafka.whole(devices(pool)), patient=True) as reader:
                while True:
                    await _read(reader, cameras)
        except (RetryLater, PoisonMessage) as error:
            log.warning("evidence.no_registry", pool=pool, reason=str(error))
        await clock.sleep(AGAIN_S)


async def _read(reader: Reader, cameras: Cameras) -> None:
    try:
        records = await reader.poll(timeout_s=POLL_S)
    except OffsetsLost as error:
        log.warning("evidence.registry_went_back", partition=error.partition, wanted=error.wanted)
        return
    for record in records:
        _take(record, cameras)


def _take(record: Record, cameras: Cameras) -> None:
    if record.value is None:
        cameras.remove(record.key or "")
        return
    try:
        body = codec.decode_event(record.headers, record.value).body
    except ContractError as error:
        log.warning("evidence.unreadable_device", offset=record.offset, reason=str(error))
        return
    if isinstance(body, Device):
        cameras.put(body)
