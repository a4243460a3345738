"""What falls due by itself, and what it does to its alert."""

from typing import Any

import pytest
from msgspec.structs import replace

from services.alerting import lifecycle, timers
from services.alerting.timers import AckLimits, Due, DueHeap, dues
from services.contracts.alert import Alert, OutOfService, Shelf
from tests.unit.alerting.alarms import NOW_US, Desk, S, alarm, command

LIMITS = AckLimits()
SHELF = Shelf(mode="timed", until_us=NOW_US + 600 * S, author="op-kim", reason="roadworks")
OOS = OutOfService(work_order="wo-7", until_us=NOW_US + 3600 * S, author="sup-lee")


@pytest.fixture
def pressed(desk: Desk) -> Desk:
    desk.say(alarm(), "p-1")
    return desk


def changed(alert: Alert, **facts: Any) -> Alert:
    isa = replace(alert.isa, **facts)
    return replace(alert, isa=replace(isa, state=lifecycle.derive(isa)))


def fall_due(alert: Alert, what: Due, at_us: int) -> Alert:
    (change,) = timers.fall_due(alert, what, at_us)
    assert change.actor == f"rule:{what}"
    return change.alert


def test_a_press_is_due_to_clear_a_second_after_it_was_received(pressed: Desk) -> None:
    assert dues(pressed.only, LIMITS) == {Due.MOMENTARY: NOW_US + S}
    cleared = fall_due(pressed.only, Due.MOMENTARY, NOW_US + S)
    assert (cleared.isa.state, cleared.condition.active, cleared.normal_due_us) == ("RTN_UNACK", False, None)
    assert dues(cleared, LIMITS) == {}


def test_a_receiver_whose_clock_runs_ahead_does_not_hold_a_press_open() -> None:
    assert timers.momentary_due_us(NOW_US + 3600 * S, NOW_US) == NOW_US + S


def test_a_press_that_was_cleared_otherwise_only_loses_its_due_time(pressed: Desk) -> None:
    cleared = changed(pressed.only, active=False)
    after = fall_due(cleared, Due.MOMENTARY, NOW_US + S)
    assert (after.isa, after.normal_due_us, after.decision_version) == (cleared.isa, None, 1)


@pytest.mark.parametrize(("priority", "limit_s"), [("emergency", 300), ("high", 1800), ("low", 1800)])
def test_an_acknowledgement_nobody_follows_up_times_out(pressed: Desk, priority: Any, limit_s: int) -> None:
    pressed.ask(command(pressed.only))
    alert = replace(pressed.only, priority=priority)
    assert dues(alert, LIMITS)[Due.ACK_TIMEOUT] == NOW_US + limit_s * S
    again = fall_due(alert, Due.ACK_TIMEOUT, NOW_US + limit_s * S)
    assert (again.isa.state, again.people.acked_by, again.people.assignee) == ("UNACK", None, "op-kim")
    assert again.decision_version == alert.decision_version + 1
    assert Due.ACK_TIMEOUT not in dues(again, LIMITS)


def test_a_released_bell_whose_acknowledgement_times_out_is_d(pressed: Desk) -> None:
    released = fall_due(pressed.only, Due.MOMENTARY, NOW_US + S)
    pressed.state.put(released)
    pressed.ask(command(pressed.only))
    assert fall_due(pressed.only, Due.ACK_TIMEOUT, NOW_US + 300 * S).isa.state == "RTN_UNACK"


def test_a_disposed_alert_no_longer_times_out(pressed: Desk) -> None:
    pressed.ask(command(pressed.only))
    pressed.ask(command(pressed.only, "dispose"))
    assert Due.ACK_TIMEOUT not in dues(pressed.only, LIMITS)


def test_a_shelf_expires_and_what_is_beneath_comes_back(desk: Desk) -> None:
    desk.say(alarm(alarm_class="analytics"), "a-1")
    shelved = changed(desk.only, shelf=SHELF)
    assert dues(shelved, LIMITS)[Due.SHELF_EXPIRY] == SHELF.until_us
    after = fall_due(shelved, Due.SHELF_EXPIRY, SHELF.until_us)
    assert (after.isa.state, after.isa.shelf) == ("UNACK", None)
    acked = fall_due(changed(shelved, acked=True), Due.SHELF_EXPIRY, SHELF.until_us)
    assert acked.isa.state == "ACKED"


def test_out_of_service_expires_and_a_press_beneath_it_comes_back(pressed: Desk) -> None:
    covered = changed(pressed.only, oos=OOS)
    assert covered.isa.state == "OUT_OF_SERVICE"
    assert dues(covered, LIMITS)[Due.OUT_OF_SERVICE_EXPIRY] == OOS.until_us
    assert fall_due(covered, Due.OUT_OF_SERVICE_EXPIRY, OOS.until_us).isa.state == "UNACK"


@pytest.mark.parametrize("what", [Due.SHELF_EXPIRY, Due.OUT_OF_SERVICE_EXPIRY, Due.ACK_TIMEOUT])
def test_what_does_not_apply_any_more_does_nothing(pressed: Desk, what: Due) -> None:
    assert timers.fall_due(pressed.only, what, NOW_US + 900 * S) == ()


def test_a_closed_alert_is_forgotten_after_a_day(pressed: Desk) -> None:
    closed = replace(pressed.only, closed_us=NOW_US)
    assert dues(closed, LIMITS)[Due.FORGET] == NOW_US + 24 * 3600 * S


def test_the_heap_yields_what_is_due_oldest_first_and_nothing_else() -> None:
    heap = DueHeap()
    for due_us in (5, 1, 9, 3):
        heap.push(due_us, f"a-{due_us}", Due.MOMENTARY)
    assert heap.next_us() == 1
    assert [due_us for due_us, _, _ in heap.pop(5)] == [1, 3, 5]
    assert (heap.next_us(), len(heap)) == (9, 1)
