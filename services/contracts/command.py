"""Commands of people, receipts of consoles, and what devices are told to do."""

from typing import Any, ClassVar, Literal

from msgspec import Struct

from services.contracts.units import Identifier, UtcMicroseconds

ReceiptKind = Literal["delivered", "painted", "sounded"]
Verb = Literal["ack", "dispose"]


class Target(Struct, frozen=True, kw_only=True):
    """What a command is about."""

    kind: Literal["alert", "incident", "device", "handover"]
    id: str


class OperatorCommand(Struct, frozen=True, kw_only=True):
    """One command of a person under one root."""

    TYPE: ClassVar[str] = "kr.safealley.command.operator.v1"

    command_id: str
    actor: str
    role: str
    jurisdiction: str
    verb: Verb
    target: Target
    body: dict[str, Any]
    body_sha256: str
    decision_version: int
    idempotency_key: str
    issued_us: UtcMicroseconds


class ReceiptItem(Struct, frozen=True, kw_only=True):
    """A console showed or sounded one version of an alert."""

    tx: str
    alert_id: str
    version: int
    kind: ReceiptKind
    at_us: UtcMicroseconds


class Receipt(Struct, frozen=True, kw_only=True):
    """Receipts of one console under one root."""

    TYPE: ClassVar[str] = "kr.safealley.receipt.v1"

    console_id: str
    actor: str
    items: tuple[ReceiptItem, ...]


class DeviceCommand(Struct, frozen=True, kw_only=True):
    """What a device shall do, by when and why."""

    TYPE: ClassVar[str] = "kr.safealley.command.device.v1"

    command_id: str
    device_id: Identifier
    alert_id: str | None
    want: str
    due_us: UtcMicroseconds
    reason: str


class DeviceConfirmation(Struct, frozen=True, kw_only=True):
    """What a device was found to do after a command."""

    TYPE: ClassVar[str] = "kr.safealley.confirmation.device.v1"

    command_id: str
    device_id: Identifier
    state: str
    confirmed_us: UtcMicroseconds
    error: str | None = None
