"""What a device said: an immutable event (alerts.md 2)."""

import uuid
from typing import Annotated, Any, ClassVar, Literal

from msgspec import Meta, Struct

from services.contracts.units import Identifier, UtcMicroseconds

AlarmClass = Literal["bell", "analytics", "audio", "health", "security", "manual"]
Status = Literal["Actual", "Exercise", "Test"]
Via = Literal["http", "mqtt", "onvif", "sunapi", "isapi", "dahua", "modbus", "sip", "console"]
OfflinePeriod = Literal["none", "during"]
EventId = Annotated[str, Meta(min_length=1, max_length=128)]
LATCHING: frozenset[AlarmClass] = frozenset({"bell", "manual"})
CONDITION_BYTES_MAX = 64 * 1024
"""As encoded for the log, which may take four times what the device sent (`1e15`)."""
CONDITION_DEPTH_MAX = 64
"""Every reader of a record decodes it at another depth of its own stack: this is far below what any can."""
_ALARM_IDS = uuid.UUID("5f0b7c7e-6f1d-5c1b-9b8e-2f6f0e2f7a11")


class Condition(Struct, frozen=True, kw_only=True):
    """An edge with its level, so that a lost clear is repaired by the next level report."""

    topic: Annotated[str, Meta(min_length=1, max_length=256)]
    active: bool
    value: Any = None


class DeviceAtReceipt(Struct, frozen=True, kw_only=True):
    """The registry's words about the device at receipt, so that a replay decides the same."""

    device_id: Identifier
    site_id: Identifier
    jurisdiction: str
    lon: float
    lat: float
    pole_id: str = ""
    hjdong_code: str = ""
    upstream: tuple[str, ...] = ()
    momentary: bool = True


class AlarmRaised(Struct, frozen=True, kw_only=True):
    """One alarm as its device said it.

    `device_time_us` is the device's own clock and may be wrong; the record's time is ours. The id is
    the envelope's, kept on every retry: consumers deduplicate on `source` + `id`.
    """

    TYPE: ClassVar[str] = "kr.safealley.alarm.raised.v1"

    alarm_class: AlarmClass
    condition: Condition
    device: DeviceAtReceipt
    device_time_us: UtcMicroseconds | None
    clock_offset_ms: int | None
    offline_period: OfflinePeriod
    status: Status
    via: Via
    received_us: UtcMicroseconds


class AlarmCleared(AlarmRaised, frozen=True, kw_only=True):
    """The condition is no longer there."""

    TYPE: ClassVar[str] = "kr.safealley.alarm.cleared.v1"


class AlarmHeartbeat(Struct, frozen=True, kw_only=True):
    """A device says it lives."""

    TYPE: ClassVar[str] = "kr.safealley.alarm.heartbeat.v1"

    device: DeviceAtReceipt
    device_time_us: UtcMicroseconds | None
    received_us: UtcMicroseconds


class DoorAlarm(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The data a device sends to `POST /api/v1/alarms`; ingest fills in the rest."""

    condition: Condition
    device_time_us: UtcMicroseconds | None = None


def alarm_id(device_id: str, device_time_us: UtcMicroseconds, payload: bytes) -> str:
    """Return the id of an alarm whose device sent none: a repeat of the same words is the same alarm."""
    return str(uuid.uuid5(_ALARM_IDS, f"{device_id}/{device_time_us}/{payload.hex()}"))
