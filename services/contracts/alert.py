"""The stateful thing an operator must answer (alerts.md 3); the whole is written after each change."""

import uuid
from typing import Annotated, Any, ClassVar, Literal

from msgspec import Meta, Struct

from services.contracts.alarm import AlarmClass, Condition, DeviceAtReceipt, OfflinePeriod, Status
from services.contracts.units import Identifier, UtcMicroseconds

IsaState = Literal["NORMAL", "UNACK", "ACKED", "RTN_UNACK", "SHELVED", "SUPPRESSED", "OUT_OF_SERVICE"]
Priority = Literal["emergency", "high", "medium", "low"]
DispositionCode = Literal[
    "Founded", "Unfounded", "Mistaken", "Malfunction", "Test", "Referred", "NoAction", "Duplicate"
]
CommandResult = Literal["applied", "stale", "illegal_arc", "forbidden", "other_body"]
ALARM_IDS_MAX = 256
COMMANDS_MAX = 256
_ALERT_IDS = uuid.UUID("8a5a0f0e-0d53-5a53-8d8f-53d8f2b7f0aa")


class Shelf(Struct, frozen=True, kw_only=True):
    """A shelf: who hid it, until when, why."""

    mode: Literal["timed", "one_shot"]
    until_us: UtcMicroseconds
    author: str
    reason: str


class OutOfService(Struct, frozen=True, kw_only=True):
    """A cover with a work order and an expiry."""

    work_order: str
    until_us: UtcMicroseconds
    author: str


class Isa(Struct, frozen=True, kw_only=True):
    """The facts of ISA-18.2; `state` is derived from the others by `alerting/lifecycle.py`."""

    state: IsaState
    since_us: UtcMicroseconds
    active: bool
    acked: bool
    disposed: bool
    latched: bool
    shelf: Shelf | None = None
    suppressed_by: tuple[str, ...] = ()
    oos: OutOfService | None = None


class Occurrence(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The n-th raise of this alert, as far as it has come.

    `since_decision_version` tells a command that answers an older occurrence from one that is stale.
    """

    n: int
    first_us: UtcMicroseconds
    last_us: UtcMicroseconds
    device_time_us: UtcMicroseconds | None
    clock_offset_ms: int | None
    offline_period: OfflinePeriod
    since_decision_version: int = 0


class CountedAlarm(Struct, frozen=True, kw_only=True):
    """The idempotency key of an alarm that was counted into the alert."""

    source: str
    id: str
    at_us: UtcMicroseconds


class Evidence(Struct, frozen=True, kw_only=True):
    """A camera whose footage belongs to the alert; archive pins the range."""

    camera_id: Identifier
    rank: int
    distance_m: float
    from_us: UtcMicroseconds
    to_us: UtcMicroseconds


class Disposition(Struct, frozen=True, kw_only=True):
    """What it turned out to be; mandatory for bells and manual alerts."""

    code: DispositionCode
    by: str
    at_us: UtcMicroseconds
    note: Annotated[str, Meta(max_length=2000)] = ""


class People(Struct, frozen=True, kw_only=True):
    """Who answers for the alert."""

    assignee: str | None = None
    acked_by: str | None = None
    acked_us: UtcMicroseconds | None = None


class AnsweredCommand(Struct, frozen=True, kw_only=True):
    """A command and what became of it, so that a repeat gets the same answer."""

    idempotency_key: str
    body_sha256: str
    command_id: str
    actor: str
    verb: str
    result: CommandResult
    at_us: UtcMicroseconds


class Alert(Struct, frozen=True, kw_only=True):
    """The state of one alert after its latest change.

    `version` rises with each accepted change, `decision_version` only when what a person decides on
    changes. Neither a refusal nor a receipt raises `decision_version`.
    """

    TYPE: ClassVar[str] = "kr.safealley.alert.state.v1"

    alert_id: str
    version: int
    decision_version: int
    occurrence: Occurrence
    alarm_class: AlarmClass
    condition: Condition
    device: DeviceAtReceipt
    site_id: Identifier
    root: str
    jurisdiction: str
    momentary: bool
    received_us: UtcMicroseconds
    published_us: UtcMicroseconds
    created_us: UtcMicroseconds
    closed_us: UtcMicroseconds | None
    alarm_ids: tuple[CountedAlarm, ...]
    isa: Isa
    priority: Priority
    code112: Annotated[int, Meta(ge=0, le=4)]
    status: Status
    dedup_key: str
    duplicate_count: int = 0
    avs: Annotated[int, Meta(ge=0, le=4)] | None = None
    evidence: tuple[Evidence, ...] = ()
    disposition: Disposition | None = None
    people: People = People()
    commands: tuple[AnsweredCommand, ...] = ()
    first_painted_us: UtcMicroseconds | None = None
    first_sounded_us: UtcMicroseconds | None = None
    receipts: int = 0
    normal_due_us: UtcMicroseconds | None = None


class PartitionFence(Struct, frozen=True, kw_only=True):
    """The first record of a new owner of an alert partition."""

    TYPE: ClassVar[str] = "kr.safealley.partition.fence.v1"

    partition: int
    owner: str
    started_us: UtcMicroseconds


AlertChange = Literal[
    "created", "updated", "cleared", "acked", "unacked", "shelved", "unshelved", "suppressed", "unsuppressed",
    "oos", "returned", "dispositioned", "closed", "painted", "sounded", "delivered", "refused",
]  # fmt: skip


class AlertEvent(Struct, frozen=True, kw_only=True):
    """One transition or receipt of an alert, never compacted; the envelope's type names the change."""

    TYPE: ClassVar[str] = "kr.safealley.alert.event.v1"

    alert_id: str
    version: int
    change: AlertChange
    actor: str
    reason: str
    at_us: UtcMicroseconds
    state: IsaState
    priority: Priority
    facts: dict[str, Any] = {}


def alert_id(dedup_key: str, first_source: str, first_id: str) -> str:
    """Return the id of the alert that this alarm opens: a replay makes the same alert."""
    return str(uuid.uuid5(_ALERT_IDS, f"{dedup_key}\n{first_source}\n{first_id}"))


def dedup_key(device_id: str, topic: str, token: str = "") -> str:
    """Return what alarms of one alert share: device, condition topic and input token."""
    return f"{device_id}|{topic}|{token}"
