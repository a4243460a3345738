"""Every cell of the table of alerts.md 4, written out once more by hand."""

from typing import Any, Final

import pytest
from msgspec.structs import replace

from services.alerting import lifecycle
from services.alerting.lifecycle import ARCS, LETTERS, Answer, Column, Kind, Reason, Stimulus, Subject
from services.contracts.alarm import AlarmClass
from services.contracts.alert import Isa, OutOfService, Shelf

NOW: Final = 1_777_640_000_000_000
S: Final = 1_000_000
SHELF: Final = Shelf(mode="timed", until_us=NOW + 600 * S, author="op-kim", reason="roadworks")
ONE_SHOT: Final = replace(SHELF, mode="one_shot")
OOS: Final = OutOfService(work_order="wo-7", until_us=NOW + 600 * S, author="sup-lee")


def facts(**given: Any) -> Isa:
    base: dict[str, Any] = {"since_us": NOW - S, "active": False, "acked": True, "disposed": False, "latched": False}
    isa = Isa(state="NORMAL", **(base | given))
    return replace(isa, state=lifecycle.derive(isa))


FACTS: Final = {
    "A": facts(disposed=True), "B": facts(active=True, acked=False), "C": facts(active=True),
    "D": facts(acked=False), "E": facts(active=True, shelf=SHELF),
    "F": facts(active=True, suppressed_by=("ring-1",)), "G": facts(active=True, oos=OOS),
}  # fmt: skip
LATCHED_C: Final = facts(latched=True)


def take(
    isa: Isa, column: Column, *, alarm_class: AlarmClass = "analytics", avs: int | None = None, **fields: Any
) -> Answer:
    last_us = fields.pop("last_us", NOW - S)
    defaults: dict[str, Any] = {"shelf": SHELF, "cause": "switch-2", "oos": OOS, "role": "operator"}
    if column is Column.OUT_OF_SERVICE:
        defaults["role"] = "supervisor"
    about = Subject(alarm_class=alarm_class, avs=avs, last_raise_us=last_us)
    return lifecycle.apply(isa, about, Stimulus(column=column, at_us=NOW, **(defaults | fields)))


# Rows as in alerts.md 4, of an alert that does not latch; 409 = refused, - = nothing happens. The
# facts: E, F and G cover an active, acknowledged alert, so that "read the letter again" gives C.
TABLE: Final = """
    raise severity_up clear ack unack shelve unshelve suppress rule_ends out_of_service return ack_timeout dispose
A   B     D           A     409 409   E      409      F        -         G              409    -           A
B   B     B           D     C   409   E      409      F        -         G              409    -           409
C   C     B           A     409 B     E      409      F        -         G              409    B           C
D   B     D           D     A   409   E      409      F        -         G              409    -           409
E   E     B           E     409 409   409    C        F        -         G              409    -           409
F   F     F           F     409 409   409    F        F        C         G              409    -           409
G   G     G           G     409 409   409    G        G        G         G              C      -           409
"""
CELLS: Final = [
    (row.split()[0], column, cell)
    for row in TABLE.strip("\n").splitlines()[1:]
    for column, cell in zip(TABLE.split()[:13], row.split()[1:], strict=True)
]


def test_the_table_has_a_row_for_every_state_and_column() -> None:
    assert len(CELLS) == 7 * 13 == len(ARCS) == len(lifecycle.TABLE)


@pytest.mark.parametrize(("letter", "column", "cell"), CELLS, ids=[f"{a} {b}" for a, b, _ in CELLS])
def test_each_cell_of_the_table_answers_as_written(letter: str, column: str, cell: str) -> None:
    isa = FACTS[letter]
    assert LETTERS[isa.state] == letter

    answer = take(isa, Column(column), cause="ring-1" if column == "rule_ends" else "switch-2")

    if cell == "409":
        assert answer.kind is Kind.REFUSED
        assert answer.isa == isa
    elif cell == "-":
        assert answer.kind is Kind.IGNORED
        assert answer.isa == isa
    else:
        assert LETTERS[answer.isa.state] == cell
    assert LETTERS[answer.isa.state] in ARCS[isa.state, Column(column)].to


def test_the_state_is_derived_from_the_covers_first() -> None:
    isa = facts(active=True, acked=False, shelf=SHELF, suppressed_by=("ring-1",), oos=OOS)
    assert isa.state == "OUT_OF_SERVICE"
    assert lifecycle.derive(replace(isa, oos=None)) == "SUPPRESSED"
    assert lifecycle.derive(replace(isa, oos=None, suppressed_by=())) == "SHELVED"


def test_a_new_alert_begins_inactive_acked_and_disposed() -> None:
    isa = lifecycle.start(alarm_class="bell", at_us=NOW)
    assert (isa.state, isa.active, isa.acked, isa.disposed, isa.latched) == ("NORMAL", False, True, True, True)


@pytest.mark.parametrize("latched", [True, False], ids=["latched", "not latched"])
def test_an_acknowledged_alert_that_is_gone_stays_only_where_it_latches(latched: bool) -> None:
    answer = take(facts(acked=False, latched=latched), Column.ACK)
    assert answer.isa.state == ("ACKED" if latched else "NORMAL")


def test_releasing_the_contact_never_takes_a_latched_alert_to_normal() -> None:
    assert take(facts(active=True, latched=True), Column.CLEAR).isa.state == "ACKED"


def test_only_a_disposition_takes_a_latched_alert_to_normal() -> None:
    answer = take(LATCHED_C, Column.DISPOSE)
    assert (answer.isa.state, answer.reason) == ("NORMAL", Reason.DISPOSED)


def test_a_disposition_while_active_is_kept_until_the_clear() -> None:
    disposed = take(facts(active=True, latched=True), Column.DISPOSE)
    assert (disposed.isa.state, disposed.reason) == ("ACKED", Reason.DISPOSED_WHILE_ACTIVE)
    assert take(disposed.isa, Column.CLEAR).isa.state == "NORMAL"


@pytest.mark.parametrize(
    ("since_s", "state", "kind"), [(60, "ACKED", Kind.COUNTED), (60.000001, "UNACK", Kind.APPLIED)],
    ids=["exactly 60 s", "one microsecond more"],
)  # fmt: skip
@pytest.mark.parametrize("active", [True, False], ids=["active", "released"])
def test_a_press_within_60_s_on_an_acked_bell_only_counts(since_s: float, state: str, kind: Kind, active: bool) -> None:
    last_us = NOW - round(since_s * S)
    answer = take(facts(latched=True, active=active), Column.RAISE, alarm_class="bell", last_us=last_us)
    assert (answer.isa.state, answer.kind, answer.isa.active) == (state, kind, True)


def test_a_press_within_60_s_on_a_bell_disposed_under_a_cover_is_not_swallowed() -> None:
    covered = facts(latched=True, disposed=True, oos=OOS)
    pressed = take(covered, Column.RAISE, alarm_class="bell")
    assert pressed.isa.state == "OUT_OF_SERVICE"
    assert take(pressed.isa, Column.RETURN).isa.state == "UNACK"


def test_a_manual_alert_raised_again_while_released_is_a_new_occurrence() -> None:
    answer = take(LATCHED_C, Column.RAISE, alarm_class="manual")
    assert (answer.isa.state, answer.new_occurrence) == ("UNACK", True)


@pytest.mark.parametrize("column", [Column.SHELVE, Column.SUPPRESS])
@pytest.mark.parametrize("letter", "ABCD")
def test_a_bell_is_neither_shelved_nor_suppressed(letter: str, column: Column) -> None:
    answer = take(FACTS[letter], column, alarm_class="bell")
    assert (answer.kind, answer.reason, answer.isa) == (Kind.REFUSED, Reason.BELL_IS_NEVER_HIDDEN, FACTS[letter])


@pytest.mark.parametrize("column", [Column.SHELVE, Column.SUPPRESS])
@pytest.mark.parametrize(("avs", "kind"), [(2, Kind.APPLIED), (3, Kind.REFUSED), (4, Kind.REFUSED)])
def test_a_threat_to_property_or_life_is_never_hidden(column: Column, avs: int, kind: Kind) -> None:
    assert take(FACTS["B"], column, avs=avs).kind is kind


def test_out_of_service_is_the_only_cover_of_a_bell_and_its_presses_come_back() -> None:
    covered = take(facts(latched=True, disposed=True), Column.OUT_OF_SERVICE, alarm_class="bell").isa
    pressed = take(covered, Column.RAISE, alarm_class="bell", last_us=NOW - 600 * S).isa
    released = take(pressed, Column.CLEAR, alarm_class="bell").isa
    assert [one.state for one in (covered, pressed, released)] == ["OUT_OF_SERVICE"] * 3
    assert take(pressed, Column.RETURN).isa.state == "UNACK"
    assert take(released, Column.RETURN).isa.state == "RTN_UNACK"


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"role": "operator"}, Reason.SUPERVISOR_ONLY),
        ({"oos": None}, Reason.INCOMPLETE),
        ({"oos": replace(OOS, work_order="")}, Reason.INCOMPLETE),
        ({"oos": replace(OOS, until_us=NOW)}, Reason.INCOMPLETE),
    ],
    ids=["an operator", "no work order at all", "empty work order", "already expired"],
)
def test_out_of_service_needs_a_supervisor_a_work_order_and_an_expiry(fields: dict[str, Any], reason: Reason) -> None:
    assert take(FACTS["B"], Column.OUT_OF_SERVICE, **fields).reason is reason


def test_out_of_service_again_moves_the_expiry() -> None:
    later = replace(OOS, until_us=OOS.until_us + S)
    answer = take(FACTS["G"], Column.OUT_OF_SERVICE, oos=later)
    assert (answer.isa.oos, answer.reason) == (later, Reason.NEW_EXPIRY)


@pytest.mark.parametrize(
    ("role", "hours", "kind"),
    [("operator", 2, Kind.APPLIED), ("operator", 3, Kind.REFUSED), ("supervisor", 8, Kind.APPLIED),
     ("supervisor", 9, Kind.REFUSED), ("auditor", 1, Kind.REFUSED)],
)  # fmt: skip
def test_a_shelf_has_an_end_by_role(role: str, hours: int, kind: Kind) -> None:
    shelf = replace(SHELF, until_us=NOW + hours * 3600 * S)
    assert take(FACTS["B"], Column.SHELVE, shelf=shelf, role=role).kind is kind


def test_a_shelf_without_a_reason_is_refused() -> None:
    assert take(FACTS["B"], Column.SHELVE, shelf=replace(SHELF, reason="")).reason is Reason.INCOMPLETE
    assert take(FACTS["B"], Column.SHELVE, shelf=None).reason is Reason.INCOMPLETE


def test_a_one_shot_shelf_ends_with_the_clear() -> None:
    assert take(facts(active=True, acked=False, shelf=ONE_SHOT), Column.CLEAR).isa.state == "RTN_UNACK"
    assert take(facts(active=True, shelf=ONE_SHOT), Column.CLEAR).isa.state == "NORMAL"


def test_unshelving_under_another_cover_drops_the_shelf_and_keeps_the_cover() -> None:
    for letter in "FG":
        answer = take(replace(FACTS[letter], shelf=SHELF), Column.UNSHELVE)
        assert (LETTERS[answer.isa.state], answer.isa.shelf, answer.kind) == (letter, None, Kind.APPLIED)


def test_suppression_ends_with_its_last_cause() -> None:
    two = take(FACTS["F"], Column.SUPPRESS).isa
    assert two.suppressed_by == ("ring-1", "switch-2")
    one = take(two, Column.RULE_ENDS, cause="ring-1")
    assert (one.isa.state, one.reason) == ("SUPPRESSED", Reason.OTHER_CAUSE_REMAINS)
    assert take(one.isa, Column.RULE_ENDS, cause="ring-1").kind is Kind.IGNORED
    assert take(one.isa, Column.RULE_ENDS, cause="switch-2").isa.state == "ACKED"


def test_a_cause_is_named_and_counted_once() -> None:
    assert take(FACTS["B"], Column.SUPPRESS, cause="").reason is Reason.INCOMPLETE
    again = take(FACTS["F"], Column.SUPPRESS, cause="ring-1")
    assert (again.kind, again.isa) == (Kind.IGNORED, FACTS["F"])


def test_a_shelf_beneath_a_suppression_is_read_again_when_it_ends() -> None:
    answer = take(replace(FACTS["F"], shelf=SHELF), Column.RULE_ENDS, cause="ring-1")
    assert answer.isa.state == "SHELVED"


def test_a_suppression_beneath_out_of_service_is_kept_and_read_again() -> None:
    suppressed = take(FACTS["G"], Column.SUPPRESS)
    assert (suppressed.isa.state, suppressed.reason) == ("OUT_OF_SERVICE", Reason.CAUSE_KEPT)
    assert take(suppressed.isa, Column.RETURN).isa.state == "SUPPRESSED"


@pytest.mark.parametrize("letter", "FG")
def test_a_new_occurrence_under_a_sticky_cover_is_kept_for_later(letter: str) -> None:
    answer = take(replace(FACTS[letter], active=False), Column.RAISE)
    assert (LETTERS[answer.isa.state], answer.isa.acked, answer.new_occurrence) == (letter, False, True)


@pytest.mark.parametrize("column", [Column.SEVERITY_UP, Column.UNACK, Column.ACK_TIMEOUT])
def test_a_released_bell_that_is_unacknowledged_again_reads_d(column: Column) -> None:
    assert take(LATCHED_C, column, alarm_class="bell").isa.state == "RTN_UNACK"


@pytest.mark.parametrize("letter", "FG")
def test_severity_under_a_sticky_cover_asks_again_when_the_cover_ends(letter: str) -> None:
    covered = take(FACTS[letter], Column.SEVERITY_UP)
    assert LETTERS[covered.isa.state] == letter
    ended = take(covered.isa, Column.RULE_ENDS if letter == "F" else Column.RETURN, cause="ring-1")
    assert ended.isa.state == "UNACK"


def test_the_time_of_a_state_moves_only_with_the_state() -> None:
    assert take(FACTS["B"], Column.RAISE).isa.since_us == NOW - S
    assert take(FACTS["B"], Column.ACK).isa.since_us == NOW
