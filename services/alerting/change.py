"""One accepted change of an alert, or one refusal, as it will be written. No I/O.

Every rule that moves an alert (correlator, commands, timers) returns changes; changelog writes them.
"""

from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

import msgspec

from services.alerting.lifecycle import Subject
from services.contracts.alert import ALARM_IDS_MAX, COMMANDS_MAX, Alert, AlertChange, AnsweredCommand, CountedAlarm

T = TypeVar("T")
DAY_US: Final = 24 * 3_600_000_000
LIST_BYTES_MAX: Final = 64 * 1024
"""Of each of the two lists that grow with an alert. With a condition of CONDITION_BYTES_MAX and the short token
in its key an alert then stays below the 256 KiB its topic takes: else a press could not be written."""
_SAME_QUESTION: Final = {"RTN_UNACK": "UNACK"}
"""B and D both want an acknowledgement, so going from one to the other is no new decision."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cause:
    """What made a change, for the envelopes of the records it leads to."""

    event_id: str | None = None
    correlation_id: str | None = None
    traceparent: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """An alert after one change, with the event that tells it.

    `change` None: no event, the state alone is written again (an answer asked for twice).
    `state_changes` False: the event alone is written (a further receipt).
    """

    alert: Alert
    change: AlertChange | None
    event_id: str
    actor: str
    reason: str
    at_us: int
    cause: Cause = Cause()
    facts: dict[str, Any] = field(default_factory=dict)
    state_changes: bool = True
    shown_version: int | None = None


def event_id(alert: Alert) -> str:
    """Return the id of the event of an alert's version: a replay writes the same."""
    return f"{alert.alert_id}/{alert.version}"


def subject(alert: Alert) -> Subject:
    """Return what the state table must know of an alert."""
    return Subject(alarm_class=alert.alarm_class, avs=alert.avs, last_raise_us=alert.occurrence.last_us)


def revise(before: Alert, at_us: int, **fields: Any) -> Alert:
    """Return the next version of an alert; `decision_version` rises only when a person would decide anew."""
    after = msgspec.structs.replace(before, version=before.version + 1, **fields)
    closed = after.isa.state == "NORMAL"
    closed_us = (before.closed_us or at_us) if closed else None
    decision = before.decision_version + (1 if decides_differently(before, after) else 0)
    return msgspec.structs.replace(after, closed_us=closed_us, decision_version=decision)


def decides_differently(before: Alert, after: Alert) -> bool:
    """Tell whether what a person decides on has changed."""
    return _question(before) != _question(after)


def with_alarm(alarm_ids: tuple[CountedAlarm, ...], counted: CountedAlarm) -> tuple[CountedAlarm, ...]:
    """Return the counted alarms of the last 24 h, at most 256 and 64 KiB, with this one last."""
    kept = alarm_ids[-(ALARM_IDS_MAX - 1) :]
    horizon_us = counted.at_us - DAY_US
    if kept and kept[0].at_us < horizon_us:
        kept = tuple(one for one in kept if one.at_us >= horizon_us)
    return _within((*kept, counted))


def with_command(alert: Alert, answered: AnsweredCommand, now_us: int) -> tuple[AnsweredCommand, ...]:
    """Return the answered commands of the last 24 h, at most 256 and 64 KiB, with this one last."""
    kept = tuple(one for one in alert.commands if one.at_us >= now_us - DAY_US)
    return _within((*kept[-(COMMANDS_MAX - 1) :], answered))


def _within(entries: tuple[T, ...]) -> tuple[T, ...]:
    """Leave out the oldest until the rest fits; the newest always stays."""
    while len(entries) > 1 and len(msgspec.json.encode(entries)) > LIST_BYTES_MAX:
        entries = entries[1 + len(entries) // 16 :]
    return entries


def _question(alert: Alert) -> tuple[object, ...]:
    state = _SAME_QUESTION.get(alert.isa.state, alert.isa.state)
    return state, alert.occurrence.n, alert.priority, alert.people.assignee, alert.disposition
