"""A service's own fault as an alarm under the root `system`. Pure: facts in, a record out."""

from typing import Any

from services.contracts import codec
from services.contracts.alarm import AlarmCleared, AlarmRaised, Condition, DeviceAtReceipt, alarm_id
from services.contracts.envelope import Envelope, rfc3339
from services.contracts.topics import ALARMS, SYSTEM_ROOT
from services.runtime.kafka_port import Outgoing


def system_alarm(
    service: str, fault: str, value: dict[str, Any], *, now_us: int, momentary: bool = True, active: bool = True
) -> Outgoing:
    """Return the alarm that a service raises, or clears, of itself; the same `fault` and `token` are one alert.

    `momentary`: it has happened, and no clear will come; else the service clears it.
    """
    body = (AlarmRaised if active else AlarmCleared)(
        alarm_class="health",
        condition=Condition(topic=f"kr.safealley/system/{fault}", active=active, value=value),
        device=DeviceAtReceipt(
            device_id=service, site_id=SYSTEM_ROOT, jurisdiction="", lon=0.0, lat=0.0, momentary=momentary
        ),
        device_time_us=now_us,
        clock_offset_ms=0,
        offline_period="none",
        status="Actual",
        via="console",
        received_us=now_us,
    )
    encoded = codec.encode(body)
    envelope = Envelope(
        id=alarm_id(service, now_us, encoded),
        source=f"/services/{service}",
        type=body.TYPE,
        subject=service,
        time=rfc3339(now_us),
        recordedtime=rfc3339(now_us),
        partitionkey=SYSTEM_ROOT,
    )
    return Outgoing(
        topic=ALARMS.name, key=SYSTEM_ROOT, value=encoded, headers=envelope.to_headers(), timestamp_ms=now_us // 1000
    )
