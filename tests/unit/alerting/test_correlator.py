"""An alarm opens, joins or is known: counts, occurrences, evidence, and what must never merge."""

from typing import Any

import pytest
from msgspec.structs import replace

from services.alerting.change import LIST_BYTES_MAX
from services.alerting.correlator import AlarmReason, is_momentary
from services.contracts import codec
from services.contracts.alarm import AlarmClass
from services.contracts.alert import ALARM_IDS_MAX, Evidence
from services.contracts.topics import SYSTEM_ROOT
from tests.unit.alerting.alarms import NOW_US, Desk, S, alarm, command, device

HEALTH: dict[str, Any] = {"alarm_class": "health", "topic": "tns1:VideoSource/SignalLoss"}


def test_a_press_opens_an_alert_and_the_same_press_again_changes_nothing(desk: Desk) -> None:
    opened = desk.say(alarm(), "p-1")
    again = desk.say(alarm(), "p-1")
    assert (opened.reason, again.reason, again.changes) == (AlarmReason.OPENED, AlarmReason.SEEN_BEFORE, ())


def test_the_same_id_of_another_source_is_another_alarm(desk: Desk) -> None:
    desk.say(alarm(), "p-1")
    other = desk.say(alarm(), "p-1", source="/city/11440/bells/bell-1/second-way")
    assert other.reason is AlarmReason.JOINED


def test_the_id_of_an_alert_is_made_of_its_first_alarm_so_that_a_replay_makes_the_same() -> None:
    one, two = Desk(), Desk()
    one.say(alarm(), "p-1")
    two.say(alarm(), "p-1", now_us=NOW_US + 77 * S)
    assert one.only.alert_id == two.only.alert_id


@pytest.mark.parametrize(
    ("other", "alerts"),
    [
        pytest.param(alarm(value={"InputToken": "2"}), 2, id="another input of the bell"),
        pytest.param(alarm(topic="tns1:Device/Trigger/Relay"), 2, id="another condition"),
        pytest.param(alarm(device=device(device_id="bell-2")), 2, id="another bell"),
        pytest.param(alarm(status="Test"), 1, id="another status"),
    ],
)
def test_what_joins_an_alert_is_device_condition_and_input_and_nothing_else(
    desk: Desk, other: object, alerts: int
) -> None:
    desk.say(alarm(value={"InputToken": "1"}) if alerts == 2 else alarm(), "p-1")
    desk.say(other, "p-2")  # type: ignore[arg-type]
    assert len(desk.state) == alerts


def test_long_tokens_are_told_apart_and_join_as_short_ones_do(desk: Desk) -> None:
    for number, token in enumerate(("x" * 300, "x" * 301, "x" * 300)):
        desk.say(alarm(value={"token": token}), f"p-{number}")

    assert sorted(alert.duplicate_count for alert in desk.state.alerts()) == [0, 1]


def test_severity_is_no_part_of_the_key_and_makes_its_alert_more_urgent(desk: Desk) -> None:
    desk.say(alarm(**HEALTH), "h-1")
    assert [one.priority for one in desk.state.alerts()] == ["low"]
    decision = desk.say(alarm(at_us=NOW_US + S, value={"scope": "site"}, **HEALTH), "h-2")
    assert [one.change for one in decision.changes] == ["updated", "updated"]
    assert (desk.only.priority, desk.only.version, desk.only.decision_version) == ("medium", 3, 2)
    desk.say(alarm(at_us=NOW_US + 2 * S, **HEALTH), "h-3")
    assert desk.only.priority == "medium"


def test_a_more_urgent_test_does_not_make_an_actual_alert_a_test(desk: Desk) -> None:
    desk.say(alarm(**HEALTH), "h-1")
    desk.say(alarm(at_us=NOW_US + S, value={"scope": "site"}, status="Test", **HEALTH), "h-2")
    assert (desk.only.priority, desk.only.status) == ("medium", "Actual")


def test_a_real_press_in_a_test_window_makes_the_alert_actual_and_asks_again(desk: Desk) -> None:
    desk.say(alarm(status="Test"), "p-1")
    desk.ask(command(desk.only))
    assert desk.only.isa.state == "ACKED"
    desk.say(alarm(at_us=NOW_US + S // 2), "p-2")
    assert (desk.only.status, desk.only.isa.state) == ("Actual", "UNACK")


def test_repeats_are_counted_and_raise_no_decision_version(desk: Desk) -> None:
    desk.say(alarm(), "p-0")
    for number in range(1, 51):
        desk.say(alarm(at_us=NOW_US + number * 10_000), f"p-{number}")
    alert = desk.only
    assert (alert.duplicate_count, alert.version, alert.decision_version) == (50, 51, 1)
    assert alert.occurrence.last_us == NOW_US + 500_000


def test_an_older_press_that_comes_late_only_counts_and_moves_no_time_back(desk: Desk) -> None:
    desk.say(alarm(at_us=NOW_US), "p-1")
    desk.say(alarm(at_us=NOW_US - 30 * S), "p-0")
    assert (desk.only.occurrence.n, desk.only.occurrence.first_us, desk.only.occurrence.last_us) == (1, NOW_US, NOW_US)
    assert desk.only.duplicate_count == 1


def test_a_press_after_its_momentary_end_is_a_new_occurrence_also_when_the_timer_is_late(desk: Desk) -> None:
    """A restart: the due time has passed and nobody was there to clear; the next press is somebody else's."""
    desk.say(alarm(), "p-1")
    decision = desk.say(alarm(at_us=NOW_US + 10 * S), "p-2")
    assert [(one.change, one.actor) for one in decision.changes] == [
        ("cleared", "rule:momentary"), ("updated", "/city/11440/bells/bell-1")]  # fmt: skip
    assert (desk.only.occurrence.n, desk.only.isa.state) == (2, "UNACK")


def test_a_new_occurrence_forgets_who_acknowledged_and_how_it_was_disposed_of(desk: Desk) -> None:
    desk.say(alarm(), "p-1")
    desk.ask(command(desk.only))
    desk.ask(command(desk.only, "dispose"))
    assert desk.only.disposition is not None
    desk.say(alarm(at_us=NOW_US + 61 * S), "p-2")
    alert = next(one for one in desk.state.alerts() if one.isa.state == "UNACK")
    assert (alert.disposition, alert.people.acked_by, alert.people.acked_us) == (None, None, None)


def test_evidence_reaches_as_far_as_the_last_press(desk: Desk) -> None:
    desk.say(alarm(), "p-1")
    seen = Evidence(camera_id="cam-1", rank=1, distance_m=3.0, from_us=NOW_US - 30 * S, to_us=NOW_US + 300 * S)
    desk.state.put(replace(desk.only, evidence=(seen,)))
    desk.say(alarm(at_us=NOW_US + 40 * S), "p-2")
    (extended,) = desk.only.evidence
    assert (extended.from_us, extended.to_us) == (NOW_US - 30 * S, NOW_US + 340 * S)


@pytest.mark.parametrize("alarm_class", ["bell", "manual"])
def test_presses_and_a_services_own_faults_end_by_themselves_a_devices_fault_does_not(alarm_class: AlarmClass) -> None:
    assert is_momentary(alarm(alarm_class=alarm_class))
    assert not is_momentary(alarm(alarm_class="health"))
    assert not is_momentary(alarm(device=device(momentary=False)))
    assert is_momentary(alarm(alarm_class="health", device=device(site_id=SYSTEM_ROOT)))


def test_a_clear_without_an_alert_is_nothing(desk: Desk) -> None:
    assert desk.say(alarm(active=False, **HEALTH), "h-1").reason is AlarmReason.NOTHING_TO_CLEAR


def test_a_clear_older_than_the_occurrence_is_nothing(desk: Desk) -> None:
    desk.say(alarm(at_us=NOW_US, **HEALTH), "h-2")
    assert desk.say(alarm(at_us=NOW_US - S, active=False, **HEALTH), "h-1").reason is AlarmReason.NOTHING_TO_CLEAR
    assert desk.only.isa.active


def test_a_second_clear_is_nothing(desk: Desk) -> None:
    desk.say(alarm(**HEALTH), "h-1")
    assert desk.say(alarm(at_us=NOW_US + S, active=False, **HEALTH), "h-2").reason is AlarmReason.CLEARED
    assert desk.say(alarm(at_us=NOW_US + 2 * S, active=False, **HEALTH), "h-3").reason is AlarmReason.NOTHING_TO_CLEAR


def test_an_alert_keeps_at_most_256_alarms_and_64_kib_of_them(desk: Desk) -> None:
    for number in range(400):
        desk.say(alarm(at_us=NOW_US + number), f"{number:04}")
    assert len(desk.only.alarm_ids) == ALARM_IDS_MAX
    assert desk.only.alarm_ids[-1].id == "0399"
    long = Desk()
    for number in range(300):
        long.say(alarm(at_us=NOW_US + number), f"{number:04}" + "경" * 124)
    assert len(codec.encode(long.only)) < LIST_BYTES_MAX + 4096
    assert long.only.alarm_ids[-1].id.startswith("0299")
    assert len(long.only.alarm_ids) > 100


def test_alarms_older_than_a_day_are_forgotten(desk: Desk) -> None:
    desk.say(alarm(), "p-1")
    desk.say(alarm(at_us=NOW_US + 24 * 3600 * S + 1), "p-2")
    assert [one.id for one in desk.only.alarm_ids] == ["p-2"]
