"""Alerting's own faults as alarms under the root `system`. Pure: facts in, a record out."""

from typing import Final

from services.contracts import codec
from services.contracts.alarm import AlarmRaised, Condition, DeviceAtReceipt, alarm_id
from services.contracts.envelope import Envelope, rfc3339
from services.contracts.topics import ALARMS, SYSTEM_ROOT
from services.runtime.kafka_port import Outgoing

SOURCE: Final = "/services/alerting"
OFFSETS_LOST: Final = "kr.safealley/system/OffsetsLost"


def offsets_lost(topic: str, partition: int, lost: int, *, now_us: int) -> Outgoing:
    """Return the alarm that says records are gone which alerting had still to read."""
    value = {"token": f"{topic}/{partition}", "lost": lost}
    body = AlarmRaised(
        alarm_class="health", condition=Condition(topic=OFFSETS_LOST, active=True, value=value),
        device=DeviceAtReceipt(
            device_id="alerting", site_id=SYSTEM_ROOT, jurisdiction="", lon=0.0, lat=0.0, momentary=False
        ),
        device_time_us=now_us, clock_offset_ms=0, offline_period="none", status="Actual", via="console",
        received_us=now_us,
    )  # fmt: skip
    encoded = codec.encode(body)
    envelope = Envelope(
        id=alarm_id("alerting", now_us, encoded), source=SOURCE, type=AlarmRaised.TYPE, subject="alerting",
        time=rfc3339(now_us), recordedtime=rfc3339(now_us), partitionkey=SYSTEM_ROOT,
    )  # fmt: skip
    return Outgoing(
        topic=ALARMS.name, key=SYSTEM_ROOT, value=encoded, headers=envelope.to_headers(), timestamp_ms=now_us // 1000
    )
