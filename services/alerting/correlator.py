"""An alarm joins the open alert of its key, opens a new one, or is known already. Pure: no I/O.

The key is device + condition topic + input token; severity is no part of it. Topology, incidents and
flood mode are not here.
"""

from dataclasses import dataclass
from enum import StrEnum
from hashlib import sha256
from typing import Final, NamedTuple, Protocol

from msgspec.structs import replace

from services.alerting import evidence, lifecycle, timers
from services.alerting.change import Cause, Change, event_id, revise, subject, with_alarm
from services.alerting.lifecycle import Column, Kind, Stimulus
from services.alerting.prioritiser import Urgency, more_urgent, most_urgent
from services.contracts.alarm import LATCHING, AlarmRaised, Status
from services.contracts.alert import Alert, CountedAlarm, Occurrence, alert_id, dedup_key
from services.contracts.alert import Evidence as Pictures
from services.contracts.topics import SYSTEM_ROOT

_TOKENS: Final = ("InputToken", "RelayToken", "token")
_TOKEN_CHARS_MAX: Final = 256
"""The alert keeps its key beside the condition, which holds the token too."""


class AlarmReason(StrEnum):
    """What became of an alarm that changed nothing, or why it changed something."""

    SEEN_BEFORE = "seen_before"
    NOTHING_TO_CLEAR = "nothing_to_clear"
    OPENED = "opened"
    JOINED = "joined"
    CLEARED = "cleared"


@dataclass(frozen=True, slots=True, kw_only=True)
class Heard:
    """One alarm as read from its topic. `published_us` is the record's time: ingest's clock."""

    alarm: AlarmRaised
    clears: bool
    source: str
    id: str
    root: str
    published_us: int
    cause: Cause

    @property
    def key(self) -> str:
        return dedup_key(self.alarm.device.device_id, self.alarm.condition.topic, _token(self.alarm.condition.value))


class Alerts(Protocol):
    """What the correlator asks of the state in memory."""

    def open_alert(self, key: str) -> Alert | None: ...
    def seen(self, source: str, alarm: str) -> bool: ...
    def knows(self, alert: str) -> bool: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Weighed:
    """How urgent the alarm is, and which pictures belong to it."""

    urgency: Urgency
    pictures: tuple[Pictures, ...]
    reach: evidence.Reach


class Decision(NamedTuple):
    """The changes to write, in order, and why."""

    changes: tuple[Change, ...]
    reason: AlarmReason


def correlate(heard: Heard, alerts: Alerts, weighed: Weighed, now_us: int) -> Decision:
    """Decide what an alarm does; the same alarm read again does nothing."""
    key = heard.key
    if alerts.seen(heard.source, heard.id) or alerts.knows(alert_id(key, heard.source, heard.id)):
        return Decision((), AlarmReason.SEEN_BEFORE)
    alert = alerts.open_alert(key)
    if heard.clears:
        return _clear(heard, alert, now_us)
    if alert is None:
        return Decision((_open(heard, key, weighed, now_us),), AlarmReason.OPENED)
    return Decision(_join(heard, alert, weighed, now_us), AlarmReason.JOINED)


def _open(heard: Heard, key: str, weighed: Weighed, now_us: int) -> Change:
    alarm, urgency = heard.alarm, weighed.urgency
    at_us = alarm.received_us
    momentary = is_momentary(alarm)
    blank = lifecycle.start(alarm_class=alarm.alarm_class, at_us=at_us)
    raised = lifecycle.apply(
        blank,
        lifecycle.Subject(alarm_class=alarm.alarm_class, avs=None, last_raise_us=0),
        Stimulus(column=Column.RAISE, at_us=at_us),
    )
    alert = Alert(
        alert_id=alert_id(key, heard.source, heard.id), version=1, decision_version=1,
        occurrence=_occurrence(alarm, n=1, since_decision_version=1), alarm_class=alarm.alarm_class,
        condition=alarm.condition, device=alarm.device, site_id=alarm.device.site_id, root=heard.root,
        jurisdiction=alarm.device.jurisdiction, momentary=momentary, received_us=at_us,
        published_us=heard.published_us, created_us=now_us, closed_us=None, alarm_ids=(_counted(heard),),
        isa=raised.isa, priority=urgency.priority, code112=urgency.code112, status=alarm.status, dedup_key=key,
        evidence=weighed.pictures, normal_due_us=timers.momentary_due_us(at_us, now_us) if momentary else None,
    )  # fmt: skip
    return Change(
        alert=alert, change="created", event_id=event_id(alert), actor=heard.source, reason=raised.reason,
        at_us=now_us, cause=heard.cause, facts={"priority_reason": urgency.reason, "alarm_id": heard.id},
    )  # fmt: skip


def _join(heard: Heard, alert: Alert, weighed: Weighed, now_us: int) -> tuple[Change, ...]:
    changes: list[Change] = []
    at_us = heard.alarm.received_us
    if alert.normal_due_us is not None and alert.normal_due_us <= at_us:
        # The timer is late (a restart): without this the press would count as a repeat of one long over.
        changes += timers.fall_due(alert, timers.Due.MOMENTARY, alert.normal_due_us)
        alert = changes[-1].alert
    became_real = heard.alarm.status == "Actual" and alert.status != "Actual"
    changes.append(_raise(heard, alert, weighed.reach, now_us))
    alert = changes[-1].alert
    if more_urgent(weighed.urgency, alert) or became_real:
        status = "Actual" if became_real else alert.status
        changes.append(_escalate(heard, alert, weighed.urgency, status, now_us))
    return tuple(changes)


def _raise(heard: Heard, alert: Alert, reach: evidence.Reach, now_us: int) -> Change:
    alarm = heard.alarm
    at_us = alarm.received_us
    if at_us < alert.occurrence.first_us:
        answer = lifecycle.Answer(alert.isa, Kind.COUNTED, lifecycle.Reason.STILL_ACTIVE)
    else:
        answer = lifecycle.apply(alert.isa, subject(alert), Stimulus(column=Column.RAISE, at_us=at_us))
    fields: dict[str, object] = {
        "isa": answer.isa,
        "occurrence": replace(alert.occurrence, last_us=max(alert.occurrence.last_us, at_us)),
        "duplicate_count": alert.duplicate_count + 1,
    }
    if answer.new_occurrence:
        since = alert.decision_version + 1
        fields["occurrence"] = _occurrence(alarm, n=alert.occurrence.n + 1, since_decision_version=since)
        fields["duplicate_count"] = alert.duplicate_count
        fields["disposition"] = None
        fields["people"] = replace(alert.people, acked_by=None, acked_us=None)
    if alert.momentary and answer.isa.active:
        fields["normal_due_us"] = timers.momentary_due_us(at_us, now_us)
    after = revise(
        alert, now_us, condition=replace(alarm.condition, active=answer.isa.active),
        alarm_ids=with_alarm(alert.alarm_ids, _counted(heard)),
        evidence=evidence.extended(alert.evidence, at_us, reach), **fields,
    )  # fmt: skip
    return _change(heard, after, "updated", answer.reason, now_us)


def _escalate(heard: Heard, alert: Alert, urgency: Urgency, status: Status, now_us: int) -> Change:
    priority, code112 = most_urgent(urgency, alert)
    answer = lifecycle.apply(alert.isa, subject(alert), Stimulus(column=Column.SEVERITY_UP, at_us=now_us))
    after = revise(
        alert, now_us, isa=answer.isa, priority=priority, code112=code112, status=status,
        people=replace(alert.people, acked_by=None, acked_us=None), disposition=None,
    )  # fmt: skip
    return _change(heard, after, "updated", answer.reason, now_us)


def _clear(heard: Heard, alert: Alert | None, now_us: int) -> Decision:
    if alert is None:
        return Decision((), AlarmReason.NOTHING_TO_CLEAR)
    at_us = heard.alarm.received_us
    if at_us < alert.occurrence.first_us:
        return Decision((), AlarmReason.NOTHING_TO_CLEAR)
    answer = lifecycle.apply(alert.isa, subject(alert), Stimulus(column=Column.CLEAR, at_us=at_us))
    if answer.kind is Kind.IGNORED:
        return Decision((), AlarmReason.NOTHING_TO_CLEAR)
    after = revise(
        alert, now_us, isa=answer.isa, condition=replace(heard.alarm.condition, active=False), normal_due_us=None,
        alarm_ids=with_alarm(alert.alarm_ids, _counted(heard)),
    )  # fmt: skip
    return Decision((_change(heard, after, "cleared", answer.reason, now_us),), AlarmReason.CLEARED)


def is_momentary(alarm: AlarmRaised) -> bool:
    """Tell whether no clear will ever come: a contact that opens by itself, a person's or a service's own alarm.

    A fault of the same device is no press: it ends when the device says so.
    """
    return alarm.device.momentary and (alarm.alarm_class in LATCHING or alarm.device.site_id == SYSTEM_ROOT)


def _change(heard: Heard, after: Alert, change: str, reason: str, at_us: int) -> Change:
    return Change(
        alert=after, change=change, event_id=event_id(after), actor=heard.source, reason=reason,  # type: ignore[arg-type]
        at_us=at_us, cause=heard.cause, facts={"alarm_id": heard.id},
    )  # fmt: skip


def _counted(heard: Heard) -> CountedAlarm:
    return CountedAlarm(source=heard.source, id=heard.id, at_us=heard.alarm.received_us)


def _occurrence(alarm: AlarmRaised, *, n: int, since_decision_version: int) -> Occurrence:
    return Occurrence(
        n=n, first_us=alarm.received_us, last_us=alarm.received_us, device_time_us=alarm.device_time_us,
        clock_offset_ms=alarm.clock_offset_ms, offline_period=alarm.offline_period,
        since_decision_version=since_decision_version,
    )  # fmt: skip


def _token(value: object) -> str:
    if not isinstance(value, dict):
        return ""
    token = next((str(value[name]) for name in _TOKENS if name in value), "")
    return token if len(token) <= _TOKEN_CHARS_MAX else sha256(token.encode()).hexdigest()
