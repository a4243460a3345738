"""Ingest's own faults as alarms under the root `system`. No I/O: facts in, a record out."""

from typing import Final

from services.contracts import codec
from services.contracts.alarm import AlarmCleared, AlarmRaised, Condition, DeviceAtReceipt, alarm_id
from services.contracts.envelope import Envelope, rfc3339
from services.contracts.topics import ALARMS, SYSTEM_ROOT
from services.contracts.units import UtcMicroseconds
from services.runtime.kafka_port import Outgoing

SOURCE: Final = "/services/ingest"
UNPLACED: Final = "kr.safealley/system/CamerasUnplaced"


def cameras_unplaced(name: str, count: int, *, now_us: UtcMicroseconds) -> Outgoing:
    """Return the alarm that says how many cameras are not recorded for want of room; 0 clears it."""
    body = (AlarmRaised if count else AlarmCleared)(
        alarm_class="health", condition=Condition(topic=UNPLACED, active=count > 0, value={"cameras": count}),
        device=DeviceAtReceipt(
            device_id=name, site_id=SYSTEM_ROOT, jurisdiction="", lon=0.0, lat=0.0, momentary=False
        ),
        device_time_us=now_us, clock_offset_ms=0, offline_period="none", status="Actual", via="console",
        received_us=now_us,
    )  # fmt: skip
    encoded = codec.encode(body)
    envelope = Envelope(
        id=alarm_id(name, now_us, encoded), source=SOURCE, type=body.TYPE, subject=name,
        time=rfc3339(now_us), recordedtime=rfc3339(now_us), partitionkey=SYSTEM_ROOT,
    )  # fmt: skip
    return Outgoing(
        topic=ALARMS.name, key=SYSTEM_ROOT, value=encoded, headers=envelope.to_headers(), timestamp_ms=now_us // 1000
    )
