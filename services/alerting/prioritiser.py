"""How urgent an alarm is by the scales of alerts.md 3. Pure: an alarm in, priority, 112 code and reason out.

A nuisance score never comes in here: a bell may be false four times in ten and is an emergency each time.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from services.contracts.alarm import AlarmRaised
from services.contracts.alert import Alert, Priority
from services.contracts.topics import SYSTEM_ROOT

_RANK: Final[dict[Priority, int]] = {"emergency": 0, "high": 1, "medium": 2, "low": 3}
NO_DISPATCH: Final = 4


class PriorityReason(StrEnum):
    """Which line of the scale was taken."""

    BELL_PRESS = "bell_press"
    RAISED_BY_HAND = "raised_by_hand"
    SOUND_VERDICT = "sound_verdict"
    SCENE_VERDICT = "scene_verdict"
    TRUST_BROKEN = "trust_broken"
    OWN_FAULT = "own_fault"
    WHOLE_SITE = "whole_site"
    ONE_DEVICE = "one_device"


@dataclass(frozen=True, slots=True, kw_only=True)
class Urgency:
    """How urgent, and why. `code112` 0 to 4, 4 = nobody is sent."""

    priority: Priority
    code112: int
    reason: PriorityReason


def prioritise(alarm: AlarmRaised) -> Urgency:
    """Return the urgency of an alarm.

    Source: alerts.md 3 (default scales), 1.2 (bell reports are code 1), 5.6 (security: high).
    """
    match alarm.alarm_class:
        case "bell":
            return Urgency(priority="emergency", code112=1, reason=PriorityReason.BELL_PRESS)
        case "manual":
            return Urgency(priority="high", code112=2, reason=PriorityReason.RAISED_BY_HAND)
        case "audio":
            return Urgency(priority="high", code112=2, reason=PriorityReason.SOUND_VERDICT)
        case "analytics":
            return Urgency(priority="medium", code112=3, reason=PriorityReason.SCENE_VERDICT)
        case "security":
            return Urgency(priority="high", code112=NO_DISPATCH, reason=PriorityReason.TRUST_BROKEN)
        case "health":
            return _health(alarm)


def more_urgent(urgency: Urgency, alert: Alert) -> bool:
    """Tell whether an alarm makes its alert more urgent (`severity up` of the state table)."""
    return _RANK[urgency.priority] < _RANK[alert.priority] or urgency.code112 < alert.code112


def most_urgent(urgency: Urgency, alert: Alert) -> tuple[Priority, int]:
    """Return priority and code of an alert that an alarm joins: never less urgent than before."""
    priority = min(urgency.priority, alert.priority, key=_RANK.__getitem__)
    return priority, min(urgency.code112, alert.code112)


def _health(alarm: AlarmRaised) -> Urgency:
    if alarm.device.site_id == SYSTEM_ROOT:
        return Urgency(priority="high", code112=NO_DISPATCH, reason=PriorityReason.OWN_FAULT)
    value = alarm.condition.value
    if isinstance(value, dict) and value.get("scope") == "site":
        return Urgency(priority="medium", code112=3, reason=PriorityReason.WHOLE_SITE)
    return Urgency(priority="low", code112=NO_DISPATCH, reason=PriorityReason.ONE_DEVICE)
