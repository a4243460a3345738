"""How urgent an alarm is: the default scales of alerts.md 3, line by line."""

from typing import Any

import pytest
from msgspec.structs import replace

from services.alerting.prioritiser import more_urgent, most_urgent, prioritise
from services.contracts.topics import SYSTEM_ROOT
from tests.unit.alerting.alarms import Desk, alarm, device

SCALE: list[tuple[str, dict[str, Any], str, int]] = [
    ("bell", {}, "emergency", 1),
    ("manual", {}, "high", 2),
    ("audio", {}, "high", 2),
    ("analytics", {}, "medium", 3),
    ("security", {}, "high", 4),
    ("health", {}, "low", 4),
    ("health", {"value": {"scope": "site"}}, "medium", 3),
    ("health", {"device": device(site_id=SYSTEM_ROOT)}, "high", 4),
]


@pytest.mark.parametrize(("alarm_class", "fields", "priority", "code112"), SCALE)
def test_each_line_of_the_scale(alarm_class: Any, fields: dict[str, Any], priority: str, code112: int) -> None:
    urgency = prioritise(alarm(alarm_class=alarm_class, **fields))
    assert (urgency.priority, urgency.code112) == (priority, code112)


@pytest.mark.parametrize("fields", [
    {"status": "Test"}, {"offline_period": "during"}, {"value": {"scope": "device", "nuisance": 0.99}},
    {"device_time_us": None, "clock_offset_ms": None}, {"via": "mqtt"},
])  # fmt: skip
def test_nothing_makes_a_bell_less_than_an_emergency(fields: dict[str, Any]) -> None:
    assert prioritise(alarm(**fields)).priority == "emergency"


def test_an_alert_never_becomes_less_urgent(desk: Desk) -> None:
    desk.say(alarm(), "p-1")
    health = prioritise(alarm(alarm_class="health"))
    assert not more_urgent(health, desk.only)
    assert most_urgent(health, desk.only) == ("emergency", 1)


def test_a_lower_code_alone_makes_it_more_urgent(desk: Desk) -> None:
    desk.say(alarm(alarm_class="security"), "s-1")
    audio = prioritise(alarm(alarm_class="audio"))
    assert more_urgent(audio, desk.only)
    assert most_urgent(audio, replace(desk.only, priority="emergency")) == ("emergency", 2)
