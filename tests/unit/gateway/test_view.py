"""What the records of `alerts` add up to."""

import dataclasses
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from services.contracts.alert import Alert
from services.contracts.console import Cursor
from services.contracts.errors import MalformedMessage
from services.gateway.view import AlertView, pages
from services.runtime.identity import Caller
from services.runtime.kafka_port import Record

NOW_US = 1_777_640_100_000_000


def test_the_newest_state_of_an_alert_is_held(
    make_alert: Callable[..., Alert], make_record: Callable[..., Record]
) -> None:
    view = AlertView()

    view.apply(make_record(make_alert(version=1), offset=0))
    view.apply(make_record(make_alert(version=2), offset=1))

    held = view.get(make_alert().alert_id)
    assert held is not None
    assert held.alert.version == 2


def test_a_record_of_a_fenced_owner_is_ignored(
    make_alert: Callable[..., Alert], make_record: Callable[..., Record]
) -> None:
    view = AlertView()
    view.apply(make_record(make_alert(version=5), offset=0, epoch=9))

    assert view.apply(make_record(make_alert(version=6), offset=1, epoch=8)) is None

    held = view.get(make_alert().alert_id)
    assert held is not None
    assert (held.alert.version, view.fenced) == (5, 1)


def test_an_older_record_before_a_higher_epoch_stays_valid(
    make_alert: Callable[..., Alert], make_record: Callable[..., Record]
) -> None:
    view = AlertView()
    view.apply(make_record(make_alert(alert_id="a"), offset=0, epoch=8))
    view.apply(make_record(make_alert(alert_id="b"), offset=1, epoch=9))

    assert view.get("a") is not None


def test_a_tombstone_takes_the_alert_away(make_record: Callable[..., Record]) -> None:
    view = AlertView()
    record = make_record(offset=0)
    view.apply(record)

    view.apply(dataclasses.replace(record, value=None))

    assert len(view) == 0


def test_a_tombstone_of_a_fenced_owner_takes_nothing_away(
    make_alert: Callable[..., Alert], make_record: Callable[..., Record]
) -> None:
    view = AlertView()
    view.apply(make_record(make_alert(version=5), offset=0, epoch=9))

    view.apply(dataclasses.replace(make_record(make_alert(version=4), offset=1, epoch=8), value=None))

    assert (len(view), view.fenced) == (1, 1)


def test_another_jurisdiction_sees_nothing(make_record: Callable[..., Record]) -> None:
    view = AlertView()
    view.apply(make_record())

    stranger = Caller(account="op-lee", role="operator", jurisdictions=("26110",))

    assert view.snapshot(stranger, (), NOW_US) == []


def test_filters_only_narrow(make_record: Callable[..., Record], operator: Caller) -> None:
    view = AlertView()
    view.apply(make_record())

    assert view.snapshot(operator, ("26110",), NOW_US) == []
    assert len(view.snapshot(operator, ("11440",), NOW_US)) == 1


def test_a_snapshot_begins_with_emergencies_and_then_the_newest(
    make_alert: Callable[..., Alert], make_record: Callable[..., Record], operator: Caller
) -> None:
    view = AlertView()
    for offset, (name, priority, last_us) in enumerate([("a", "low", 3), ("b", "emergency", 1), ("c", "emergency", 2)]):
        occurrence = {**msgspec.to_builtins(make_alert().occurrence), "last_us": last_us}
        view.apply(make_record(make_alert(alert_id=name, priority=priority, occurrence=occurrence), offset=offset))

    assert [held.alert.alert_id for held in view.snapshot(operator, (), NOW_US)] == ["c", "b", "a"]


def test_an_alert_closed_over_an_hour_ago_is_not_shown(
    make_alert: Callable[..., Alert], make_record: Callable[..., Record], operator: Caller
) -> None:
    view = AlertView()
    view.apply(make_record(make_alert(closed_us=NOW_US - 3_600_000_001)))

    assert view.snapshot(operator, (), NOW_US) == []


def test_a_cursor_gets_what_changed_since(make_alert: Callable[..., Alert], make_record: Callable[..., Record]) -> None:
    view = AlertView()
    view.apply(make_record(make_alert(alert_id="old"), offset=0))
    cursor = Cursor(cluster="c", at=view.positions())
    view.apply(make_record(make_alert(alert_id="new"), offset=1))

    changed = view.changed_since(cursor, 1_777_640_000_000)

    assert changed is not None
    assert [held.alert.alert_id for held in changed] == ["new"]


def test_a_cursor_older_than_a_day_needs_a_snapshot(
    make_alert: Callable[..., Alert], make_record: Callable[..., Record]
) -> None:
    view = AlertView()
    view.apply(make_record(make_alert(alert_id="a"), offset=0, timestamp_ms=0))
    view.apply(make_record(make_alert(alert_id="b"), offset=1, timestamp_ms=100 * 3_600_000))

    assert view.changed_since(Cursor(cluster="c", at={"0": 0}), 100 * 3_600_000) is None


def test_a_cursor_of_other_partitions_needs_a_snapshot(make_record: Callable[..., Record]) -> None:
    view = AlertView()
    view.apply(make_record())

    assert view.changed_since(Cursor(cluster="c", at={"0": 1, "1": 4}), 0) is None


def test_a_cursor_may_be_ahead_of_this_replica(make_record: Callable[..., Record]) -> None:
    view = AlertView()
    view.apply(make_record(offset=3))

    assert view.ahead(Cursor(cluster="c", at={"0": 5}))
    assert not view.ahead(Cursor(cluster="c", at={"0": 4}))


@pytest.mark.parametrize(
    ("changes", "asked"),
    [
        pytest.param({}, True, id="first showing"),
        pytest.param({"priority": "low"}, False, id="nobody must react"),
        pytest.param({"isa": {"state": "ACKED"}}, False, id="already acknowledged"),
    ],
)
def test_receipts_are_asked_for_where_somebody_must_react(
    make_alert: Callable[..., Alert], make_record: Callable[..., Record], changes: dict[str, Any], asked: bool
) -> None:
    held = AlertView().apply(make_record(make_alert(**changes)))

    assert held is not None
    assert held.ask is asked


def test_a_counted_duplicate_asks_for_no_receipt_but_a_new_occurrence_does(
    make_alert: Callable[..., Alert], make_record: Callable[..., Record]
) -> None:
    view = AlertView()
    view.apply(make_record(make_alert(), offset=0))
    again = {**msgspec.to_builtins(make_alert().occurrence), "n": 2}

    counted = view.apply(make_record(make_alert(version=2, duplicate_count=1), offset=1))
    raised = view.apply(make_record(make_alert(version=3, occurrence=again), offset=2))

    assert counted is not None
    assert raised is not None
    assert (counted.ask, raised.ask) == (False, True)


def test_a_record_that_is_no_alert_is_refused(make_record: Callable[..., Record]) -> None:
    record = make_record()
    broken = dataclasses.replace(record, value=b"{}")

    with pytest.raises(MalformedMessage):
        AlertView().apply(broken)


def test_an_empty_list_is_still_one_page() -> None:
    assert list(pages([])) == [[]]
