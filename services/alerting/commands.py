"""A person's command against the alert as it stands: applied, or refused and why; and receipts. Pure: no I/O.

A refusal is an answer too: it is kept with the alert and leaves its version.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Final, Literal, NamedTuple

import msgspec
from msgspec import Meta
from msgspec.structs import replace

from services.alerting import lifecycle
from services.alerting.change import Cause, Change, event_id, revise, subject, with_command
from services.alerting.lifecycle import Column, Kind, Stimulus
from services.contracts.alert import Alert, AnsweredCommand, CommandResult, Disposition, DispositionCode
from services.contracts.command import OperatorCommand, Receipt, ReceiptItem, Verb

ROLES: Final[dict[Verb, frozenset[str]]] = {
    "ack": frozenset({"operator", "supervisor"}),
    "dispose": frozenset({"operator", "supervisor"}),
}
_COLUMNS: Final[dict[Verb, Column]] = {"ack": Column.ACK, "dispose": Column.DISPOSE}
_CHANGES: Final[dict[Verb, Literal["acked", "dispositioned"]]] = {"ack": "acked", "dispose": "dispositioned"}


class CommandReason(StrEnum):
    """Why a command was answered as it was, where the state table was not asked."""

    REPLAYED = "replayed"
    ANSWERED_BEFORE = "answered_before"
    KEY_REUSED = "key_reused"
    BODY_INVALID = "body_invalid"
    ROLE = "role"
    JURISDICTION = "jurisdiction"
    STALE = "stale"
    OLDER_OCCURRENCE = "older_occurrence"


class ReceiptReason(StrEnum):
    """What became of a receipt."""

    FIRST = "first"
    FURTHER = "further"
    REPLAYED = "replayed"


class Decision(NamedTuple):
    """The change to write, if any, and why."""

    change: Change | None
    reason: str


class Asked(NamedTuple):
    """A command as it came."""

    command: OperatorCommand
    cause: Cause
    now_us: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _DisposeBody:
    code: DispositionCode
    note: Annotated[str, Meta(max_length=2000)] = ""


def decide(alert: Alert, asked: Asked) -> Decision:
    """Decide one command. The next record of the alert with its id as cause is the answer."""
    command = asked.command
    if any(one.command_id == command.command_id for one in alert.commands):
        return Decision(None, CommandReason.REPLAYED)
    if (first := _answered(alert, command)) is not None:
        if first.body_sha256 == command.body_sha256 and first.verb == command.verb:
            return Decision(_again(alert, asked), CommandReason.ANSWERED_BEFORE)
        return _refuse(alert, asked, "other_body", CommandReason.KEY_REUSED)
    if command.role not in ROLES[command.verb]:
        return _refuse(alert, asked, "forbidden", CommandReason.ROLE)
    if command.jurisdiction != alert.jurisdiction:
        return _refuse(alert, asked, "forbidden", CommandReason.JURISDICTION)
    if command.decision_version != alert.decision_version:
        return _stale(alert, asked)
    return _apply(alert, asked)


def receive(alert: Alert, receipt: Receipt, item: ReceiptItem, cause: Cause, now_us: int) -> Decision:
    """Take one receipt: the first painted and the first sounded change the alert, each is an event."""
    first_us = {"painted": alert.first_painted_us, "sounded": alert.first_sounded_us}.get(item.kind, item.at_us)
    counted = alert.receipts + 1
    facts = {"console_id": receipt.console_id, "tx": item.tx, "client_us": item.at_us}
    if first_us is None:
        field = "first_painted_us" if item.kind == "painted" else "first_sounded_us"
        after = revise(alert, now_us, receipts=counted, **{field: item.at_us})
        change = Change(
            alert=after, change=item.kind, event_id=event_id(after), actor=receipt.actor, reason=ReceiptReason.FIRST,
            at_us=now_us, cause=cause, facts=facts,
        )  # fmt: skip
        return Decision(change, ReceiptReason.FIRST)
    if item.kind != "delivered" and first_us == item.at_us:
        return Decision(None, ReceiptReason.REPLAYED)
    change = Change(
        alert=replace(alert, receipts=counted), change=item.kind,
        event_id=f"{alert.alert_id}/{item.version}/{item.kind}/{receipt.console_id}/{item.tx}", actor=receipt.actor,
        reason=ReceiptReason.FURTHER, at_us=now_us, cause=cause, facts=facts, state_changes=False,
        shown_version=item.version,
    )  # fmt: skip
    return Decision(change, ReceiptReason.FURTHER)


def _apply(alert: Alert, asked: Asked) -> Decision:
    command, _, now_us = asked
    disposition = _disposition(command, now_us) if command.verb == "dispose" else None
    if command.verb == "dispose" and disposition is None:
        return _refuse(alert, asked, "illegal_arc", CommandReason.BODY_INVALID)
    stimulus = Stimulus(column=_COLUMNS[command.verb], at_us=now_us, role=command.role)
    answer = lifecycle.apply(alert.isa, subject(alert), stimulus)
    if answer.kind is not Kind.APPLIED:
        return _refuse(alert, asked, "illegal_arc", answer.reason)
    if command.verb == "dispose":
        return _applied(alert, asked, answer.reason, {"isa": answer.isa, "disposition": disposition})
    people = replace(alert.people, assignee=command.actor, acked_by=command.actor, acked_us=now_us)
    return _applied(alert, asked, answer.reason, {"isa": answer.isa, "people": people})


def _applied(alert: Alert, asked: Asked, reason: str, fields: dict[str, object]) -> Decision:
    command, cause, now_us = asked
    after = revise(alert, now_us, commands=with_command(alert, _entry(command, "applied", now_us), now_us), **fields)
    change = Change(
        alert=after, change=_CHANGES[command.verb], event_id=event_id(after), actor=command.actor, reason=reason,
        at_us=now_us, cause=cause, facts={"command_id": command.command_id, "occurrence": after.occurrence.n},
    )  # fmt: skip
    return Decision(change, reason)


def _stale(alert: Alert, asked: Asked) -> Decision:
    older_occurrence = 0 < asked.command.decision_version < alert.occurrence.since_decision_version
    if asked.command.verb != "ack" or not older_occurrence:
        return _refuse(alert, asked, "stale", CommandReason.STALE)
    # What the operator saw and answered counts as answered; the press since then still wants somebody.
    return _applied(alert, asked, CommandReason.OLDER_OCCURRENCE, {})


def _refuse(alert: Alert, asked: Asked, result: CommandResult, reason: str) -> Decision:
    command, cause, now_us = asked
    after = replace(alert, commands=with_command(alert, _entry(command, result, now_us), now_us))
    change = Change(
        alert=after, change="refused", event_id=f"{event_id(alert)}/{command.command_id}", actor=command.actor,
        reason=reason, at_us=now_us, cause=cause, facts={"command_id": command.command_id, "result": result},
    )  # fmt: skip
    return Decision(change, reason)


def _again(alert: Alert, asked: Asked) -> Change:
    return Change(
        alert=alert, change=None, event_id=f"{event_id(alert)}/{asked.command.command_id}", actor=asked.command.actor,
        reason=CommandReason.ANSWERED_BEFORE, at_us=asked.now_us, cause=asked.cause,
    )  # fmt: skip


def _answered(alert: Alert, command: OperatorCommand) -> AnsweredCommand | None:
    return next(
        (
            one
            for one in alert.commands
            if one.idempotency_key == command.idempotency_key and one.actor == command.actor
        ),
        None,
    )


def _disposition(command: OperatorCommand, now_us: int) -> Disposition | None:
    try:
        body = msgspec.convert(command.body, _DisposeBody)
    except msgspec.ValidationError:
        return None
    return Disposition(code=body.code, by=command.actor, at_us=now_us, note=body.note)


def _entry(command: OperatorCommand, result: CommandResult, now_us: int) -> AnsweredCommand:
    return AnsweredCommand(
        idempotency_key=command.idempotency_key, body_sha256=command.body_sha256, command_id=command.command_id,
        actor=command.actor, verb=command.verb, result=result, at_us=now_us,
    )  # fmt: skip
