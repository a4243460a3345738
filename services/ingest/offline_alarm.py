"""A camera that does not answer -> an alarm of class health (cameras.md 6). No I/O: facts in, a record out."""

import uuid
from typing import Final

from services.contracts import codec
from services.contracts.alarm import AlarmCleared, AlarmRaised, Condition, DeviceAtReceipt
from services.contracts.device import Device
from services.contracts.envelope import Envelope, rfc3339
from services.contracts.site import Site
from services.contracts.topics import ALARMS
from services.contracts.units import UtcMicroseconds
from services.ingest.alarms.normaliser import source_of, topology_root
from services.runtime.kafka_port import Outgoing

TOPIC: Final = "kr.safealley/DeviceOffline"
_IDS: Final = uuid.UUID("0b3f0f5e-53b8-5c0e-9d2e-0d7d5f0c1a2b")


def offline_alarm(
    device: Device, site: Site, *, active: bool, since_us: UtcMicroseconds, detail: str, now_us: UtcMicroseconds
) -> Outgoing:
    """Return the record: raised once a camera has been away too long, cleared with its next picture."""
    root = topology_root(device, site)
    body = (AlarmRaised if active else AlarmCleared)(
        alarm_class="health",
        condition=Condition(topic=TOPIC, active=active, value={"detail": detail} if detail else None),
        device=DeviceAtReceipt(
            device_id=device.device_id,
            site_id=device.site_id,
            jurisdiction=device.jurisdiction,
            lon=device.lon,
            lat=device.lat,
            pole_id=device.pole_id,
            hjdong_code=device.hjdong_code,
            upstream=device.upstream,
            momentary=False,
        ),
        device_time_us=None,
        clock_offset_ms=None,
        offline_period="none",
        status="Actual",
        via="http",
        received_us=now_us,
    )
    envelope = Envelope(
        id=str(uuid.uuid5(_IDS, f"{device.device_id}/{since_us}/{active}")),
        source=source_of(device),
        type=body.TYPE,
        subject=device.device_id,
        time=rfc3339(since_us),
        recordedtime=rfc3339(now_us),
        partitionkey=root,
    )
    return Outgoing(
        topic=ALARMS.name,
        key=root,
        value=codec.encode(body),
        headers=envelope.to_headers(),
        timestamp_ms=now_us // 1000,
    )
