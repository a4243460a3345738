"""The alerts of a partition in memory: what is found, forgotten and remembered, and at what cost."""

from collections.abc import Iterator
from typing import Any

import pytest
from msgspec.structs import replace

from services.alerting import state as states
from services.alerting import timers
from services.alerting.state import PartitionState
from services.alerting.timers import TOMBSTONE_US, AckLimits, Due
from services.contracts.alert import Alert
from tests.unit.alerting.alarms import NOW_US, Desk, S, alarm, command, device

DAY_US = 24 * 3600 * S


@pytest.fixture
def closed(desk: Desk) -> Desk:
    """A press that was answered and disposed of at NOW_US."""
    desk.say(alarm(), "p-1")
    (cleared,) = timers.fall_due(desk.only, Due.MOMENTARY, NOW_US)
    desk.state.put(cleared.alert)
    desk.ask(command(desk.only))
    desk.ask(command(desk.only, "dispose"))
    assert desk.only.closed_us == NOW_US
    return desk


def test_a_closed_alert_leaves_its_key_to_the_next_press(closed: Desk) -> None:
    assert closed.state.open_alert(closed.only.dedup_key) is None
    assert (closed.state.active, len(closed.state)) == (0, 1)
    closed.say(alarm(at_us=NOW_US + 2 * S), "p-2")
    assert (closed.state.active, len(closed.state)) == (1, 2)


def test_a_day_after_it_was_closed_an_alert_is_a_name_and_its_press_is_still_known(closed: Desk) -> None:
    alert = closed.only
    assert closed.state.overdue(NOW_US + DAY_US - 1) == []
    assert closed.state.get(alert.alert_id) is alert
    assert closed.state.overdue(NOW_US + DAY_US) == []
    assert (len(closed.state), closed.state.remembered, closed.state.get(alert.alert_id)) == (0, 1, None)
    assert closed.state.knows(alert.alert_id)
    assert closed.state.seen("/city/11440/bells/bell-1", "p-1")
    assert closed.state.tombstone_version(alert.alert_id) == alert.version


def test_seven_days_after_it_was_closed_its_tombstone_is_due_and_then_nothing_is_left(closed: Desk) -> None:
    alert = closed.only
    closed.state.overdue(NOW_US + DAY_US)
    assert closed.state.overdue(NOW_US + TOMBSTONE_US - 1) == []
    (due,) = closed.state.overdue(NOW_US + TOMBSTONE_US)
    assert (due.alert_id, due.root, due.what) == (alert.alert_id, "mangwon", Due.TOMBSTONE)
    closed.state.remove(alert.alert_id)
    assert (closed.state.remembered, closed.state.knows(alert.alert_id)) == (0, False)
    assert not closed.state.seen("/city/11440/bells/bell-1", "p-1")


def test_an_alert_restored_long_after_it_was_closed_goes_straight_to_its_tombstone(closed: Desk) -> None:
    restored = PartitionState(AckLimits())
    restored.put(closed.only)
    assert restored.overdue(NOW_US + 8 * DAY_US)[0].what is Due.TOMBSTONE


def test_what_was_settled_meanwhile_is_no_longer_due(desk: Desk) -> None:
    desk.say(alarm(), "p-1")
    (due,) = desk.state.overdue(NOW_US + S)
    assert desk.state.still_due(due) is desk.only
    desk.state.put(replace(desk.only, normal_due_us=None))
    assert desk.state.still_due(due) is None


def test_a_due_time_that_moved_comes_up_once_at_its_new_time(desk: Desk) -> None:
    desk.say(alarm(), "p-1")
    desk.say(alarm(at_us=NOW_US + S // 2), "p-2")
    assert desk.state.overdue(NOW_US + S) == []
    assert [one.due_us for one in desk.state.overdue(NOW_US + 2 * S)] == [NOW_US + S + S // 2]


def test_alarm_ids_that_were_trimmed_are_forgotten_and_the_others_are_not(desk: Desk) -> None:
    for number in range(300):
        desk.say(alarm(at_us=NOW_US + number), f"p-{number}")
    source = "/city/11440/bells/bell-1"
    seen = [number for number in range(300) if desk.state.seen(source, f"p-{number}")]
    assert seen == list(range(300 - len(desk.only.alarm_ids), 300))


# Cost: what changed, not how many there are


class Counted(dict[str, Alert]):
    """A dict that counts each look and forbids going through all of it."""

    looks = 0

    def get(self, key: str, default: Any = None) -> Any:
        self.looks += 1
        return super().get(key, default)

    def __iter__(self) -> Iterator[str]:
        raise AssertionError("a change went through every alert")

    values = items = keys = __iter__  # type: ignore[assignment]


def test_a_change_among_twenty_thousand_active_alerts_costs_what_it_costs_among_ten(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Counted, not timed: looks into the alerts, due times computed, heap entries moved."""
    computed = 0
    dues = timers.dues

    def counting(*given: Any) -> dict[Due, int]:
        nonlocal computed
        computed += 1
        return dues(*given)

    monkeypatch.setattr(states, "dues", counting)
    costs = []
    for active in (10, 20_000):
        desk = Desk()
        for number in range(active):
            desk.say(alarm(device=device(device_id=f"bell-{number}")), "p")
        computed = 0
        desk.state._alerts = counted = Counted(desk.state._alerts)
        entries = len(desk.state._heap)
        at_us = NOW_US + S // 2
        desk.say(alarm(at_us=at_us, device=device(device_id="bell-7")), "again", source="/bell-7")
        desk.say(alarm(at_us=at_us, device=device(device_id="new")), "new", source="/new")
        seven = desk.state.open_alert(f"bell-7|{alarm().condition.topic}|")
        assert seven is not None
        desk.ask(command(seven))
        desk.state.next_due_us()
        due = desk.state.overdue(NOW_US + S - 1)
        costs.append((counted.looks, computed, len(desk.state._heap) - entries, len(due)))
    assert costs[0] == costs[1]
    assert costs[1][1] <= 10
