"""What a device posts -> the record of `alarms` (alerts.md 2.1, 2.2). No I/O.

The device says what happened; everything else about it (site, place, class, status, root) is copied
from the registry, so that a replay decides the same and a device cannot speak for another.
"""

import re
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Any, Final, Literal
from urllib.parse import unquote

import msgspec

from services.contracts import codec
from services.contracts.alarm import (
    CONDITION_BYTES_MAX,
    CONDITION_DEPTH_MAX,
    AlarmClass,
    AlarmCleared,
    AlarmHeartbeat,
    AlarmRaised,
    Condition,
    DeviceAtReceipt,
    DoorAlarm,
    alarm_id,
)
from services.contracts.device import Device, DeviceKind
from services.contracts.envelope import Envelope, from_rfc3339, rfc3339
from services.contracts.errors import MalformedMessage
from services.contracts.site import Site
from services.contracts.units import UtcMicroseconds

BODY_BYTES_MAX: Final = 64 * 1024
STRUCTURED: Final = "application/cloudevents+json"
DEVICE_TIME_US_MAX: Final = 253_402_300_799_999_999  # the end of year 9999: later has no RFC 3339 text

RefusalReason = Literal["malformed", "too_large", "token", "another_device", "unknown_device", "overload"]
STATUS: Final[dict[RefusalReason, int]] = {
    "malformed": 400, "token": 401, "another_device": 403, "unknown_device": 404, "too_large": 413, "overload": 503,
}  # fmt: skip

_CLASS: Final[dict[DeviceKind, AlarmClass]] = {
    "bell": "bell", "camera": "analytics", "light": "health", "siren": "health",
}  # fmt: skip
_ATTRIBUTE = re.compile(r"^[a-z0-9]{1,64}$")
_SEQUENCE = re.compile(r"^[0-9]{1,20}$")
_TYPES: Final = frozenset((AlarmRaised.TYPE, AlarmCleared.TYPE, AlarmHeartbeat.TYPE))
_TEXT_MAX: Final = 1024


class Refused(Exception):
    """The door says no; `reason` is the word in answer, log and metric."""

    def __init__(self, reason: RefusalReason, detail: str) -> None:
        super().__init__(detail)
        self.reason: RefusalReason = reason


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """A CloudEvent as it was posted: its attributes, and its data still as bytes."""

    id: str | None
    type: str
    device_id: str
    time_us: UtcMicroseconds | None
    sequence: str | None
    data: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Normalised:
    """A record of `alarms`, ready to send; `root` chooses its partition."""

    root: str
    envelope: Envelope
    body: AlarmRaised | AlarmHeartbeat
    words: bytes
    """A digest of what the device said: type, condition and device time. A repeat says the same."""

    def under_own_id(self) -> "Normalised":
        """Return the event under an id of its own, for a device that used this one for other words."""
        own = alarm_id(self.envelope.id, 0, self.words)
        return replace(self, envelope=msgspec.structs.replace(self.envelope, id=own))


def read_event(headers: Mapping[str, str], body: bytes) -> Said:
    """Read a CloudEvent over HTTP, structured or binary (CloudEvents HTTP binding 1.0.2).

    The names of `headers` are in lower case.

    Raises:
        Refused: `malformed` or `too_large`.
    """
    if len(body) > BODY_BYTES_MAX:
        raise Refused("too_large", f"the body is larger than {BODY_BYTES_MAX} bytes")
    kind = headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == STRUCTURED:
        attributes, data = _structured(body)
    elif kind.startswith("application/cloudevents"):
        raise Refused("malformed", f"content-type: use {STRUCTURED}, or application/json with ce- headers")
    else:
        attributes, data = _binary(headers), body
    return _said(attributes, data)


def normalise(said: Said, device: Device, site: Site, *, received_us: UtcMicroseconds, traceparent: str) -> Normalised:
    """Return the record of what a device said.

    Raises:
        Refused: `malformed` or `too_large`: its data breaks the contract.
    """
    at_receipt = _at_receipt(device)
    heartbeat = said.type == AlarmHeartbeat.TYPE
    try:
        door: DoorAlarm | _DoorHeartbeat = (
            codec.decode(said.data, _DoorHeartbeat) if heartbeat else codec.decode(said.data, DoorAlarm)
        )
    except MalformedMessage as error:
        raise Refused("malformed", f"data: {error}") from None
    device_time_us = door.device_time_us if door.device_time_us is not None else said.time_us
    if device_time_us is not None and device_time_us > DEVICE_TIME_US_MAX:
        raise Refused("malformed", "data: device_time_us is beyond the year 9999; the unit is microseconds")
    alarm_class = _CLASS[device.kind]
    root = site.site_id if heartbeat or alarm_class != "health" else topology_root(device, site)
    body: AlarmRaised | AlarmHeartbeat
    if isinstance(door, DoorAlarm):
        _check_condition(door.condition)
        body = (AlarmRaised if said.type == AlarmRaised.TYPE else AlarmCleared)(
            alarm_class=alarm_class,
            condition=door.condition,
            device=at_receipt,
            device_time_us=device_time_us,
            clock_offset_ms=None if device_time_us is None else (device_time_us - received_us) // 1000,
            offline_period="none",
            status="Actual",
            via="http",
            received_us=received_us,
        )
    else:
        body = AlarmHeartbeat(device=at_receipt, device_time_us=device_time_us, received_us=received_us)
    envelope = Envelope(
        id=said.id or _made_id(said, device, device_time_us, received_us),
        source=source_of(device),
        type=said.type,
        subject=device.device_id,
        time=rfc3339(received_us if device_time_us is None else device_time_us),
        recordedtime=rfc3339(received_us),
        partitionkey=root,
        sequence=None if said.sequence is None else said.sequence.zfill(20),
        traceparent=traceparent,
    )
    words = sha256(codec.encode(door) + f"{said.type}/{device_time_us}".encode()).digest()
    return Normalised(root=root, envelope=envelope, body=body, words=words)


def source_of(device: Device) -> str:
    """Return the URI of a device; with the event's id it is the idempotency key."""
    return f"/city/{device.jurisdiction or 'unknown'}/{device.kind}s/{device.device_id}"


class _DoorHeartbeat(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    device_time_us: UtcMicroseconds | None = None


def _structured(body: bytes) -> tuple[dict[str, str], bytes]:
    try:
        event = codec.decode(body, dict[str, Any])
    except MalformedMessage as error:
        raise Refused("malformed", f"the body is not a JSON object: {error}") from None
    if "data_base64" in event:
        raise Refused("malformed", "data_base64: send the data as JSON in 'data'")
    data = msgspec.json.encode(event.pop("data", {}))
    attributes = {}
    for name, value in event.items():
        if not isinstance(value, str | int) or isinstance(value, bool):
            raise Refused("malformed", f"attribute {name[:64]!r} must be text")
        attributes[name] = str(value)
    return attributes, data


def _binary(headers: Mapping[str, str]) -> dict[str, str]:
    found = {name[3:]: unquote(value) for name, value in headers.items() if name.startswith("ce-")}
    if not found:
        raise Refused("malformed", f"not a CloudEvent: send {STRUCTURED}, or ce- headers with a JSON body")
    return found


def _said(attributes: Mapping[str, str], data: bytes) -> Said:
    # The official JSON schema constrains neither the version's value nor extension names (alerts.md 2.1).
    for name, value in attributes.items():
        if not _ATTRIBUTE.match(name):
            raise Refused("malformed", f"attribute {name[:64]!r}: names are lower case a-z and 0-9")
        if len(value) > _TEXT_MAX:
            raise Refused("malformed", f"attribute {name!r} is longer than {_TEXT_MAX} characters")
    if attributes.get("specversion") != "1.0":
        raise Refused("malformed", "specversion must be '1.0'")
    if attributes.get("type") not in _TYPES:
        raise Refused("malformed", f"type must be one of {', '.join(sorted(_TYPES))}")
    sequence = attributes.get("sequence")
    if sequence is not None and not _SEQUENCE.match(sequence):
        raise Refused("malformed", "sequence must be a decimal of at most 20 digits")
    return Said(
        id=_id(attributes.get("id")),
        type=attributes["type"],
        device_id=_device_id(attributes),
        time_us=_time_us(attributes.get("time")),
        sequence=sequence,
        data=data,
    )


def _id(given: str | None) -> str | None:
    if given is not None and not (0 < len(given) <= 128 and given.isprintable()):
        raise Refused("malformed", "id must have 1 to 128 printable characters")
    return given


def _device_id(attributes: Mapping[str, str]) -> str:
    """Return the device the event names: its subject, else the last part of its source."""
    named = attributes.get("subject") or attributes.get("source", "").rstrip("/").rpartition("/")[2]
    if not named:
        raise Refused("malformed", "name the device: its id in 'subject', or as the last part of 'source'")
    return named


def _time_us(text: str | None) -> UtcMicroseconds | None:
    if text is None:
        return None
    try:
        return from_rfc3339(text)
    except MalformedMessage:
        raise Refused("malformed", "time must be RFC 3339 with a zone, from 1970 on") from None


def _check_condition(condition: Condition) -> None:
    """Refuse what a later reader could not take: a press that was acknowledged would become a dead letter."""
    level = [condition.value]
    for _ in range(CONDITION_DEPTH_MAX):
        level = [inner for one in level for inner in _inside(one)]
    if level:
        raise Refused("malformed", f"data: condition.value is nested more than {CONDITION_DEPTH_MAX} deep")
    if len(codec.encode(condition)) > CONDITION_BYTES_MAX:
        raise Refused("too_large", f"data: condition takes more than {CONDITION_BYTES_MAX} bytes in the log")


def _inside(value: object) -> Iterable[object]:
    return value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()


def _at_receipt(device: Device) -> DeviceAtReceipt:
    return DeviceAtReceipt(
        device_id=device.device_id,
        site_id=device.site_id,
        jurisdiction=device.jurisdiction,
        lon=device.lon,
        lat=device.lat,
        pole_id=device.pole_id,
        hjdong_code=device.hjdong_code,
        upstream=device.upstream,
        momentary=device.momentary,
    )


def topology_root(device: Device, site: Site) -> str:
    """Return what a health alarm is kept under: `upstream` runs pole -> switch -> ring -> feeder."""
    return (device.upstream[-1] if device.upstream else "") or site.topology_root or site.site_id


def _made_id(said: Said, device: Device, device_time_us: int | None, received_us: int) -> str:
    """Return an id for an event without one: the same words at the same device time are the same event."""
    if said.sequence is not None:
        return alarm_id(device.device_id, int(said.sequence), said.data)
    if device_time_us is not None:
        return alarm_id(device.device_id, device_time_us, said.data)
    return _uuid7(received_us)


def _uuid7(now_us: int) -> str:
    """Return a UUIDv7 (RFC 9562 5.7): 48 bits of milliseconds, then random."""
    number = (now_us // 1000) << 80 | secrets.randbits(80)
    number = number & ~(0xF << 76) | 0x7 << 76
    number = number & ~(0x3 << 62) | 0x2 << 62
    digits = f"{number:032x}"
    return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))
