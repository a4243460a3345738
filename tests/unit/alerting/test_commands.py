"""Commands of people and receipts of consoles: applied, or refused and why; every answer once."""

from typing import Any

import pytest
from msgspec.structs import replace

from services.alerting import commands
from services.alerting.change import LIST_BYTES_MAX, Cause
from services.alerting.commands import CommandReason, ReceiptReason
from services.alerting.lifecycle import Reason
from services.contracts import codec
from services.contracts.alert import COMMANDS_MAX, Alert
from services.contracts.command import Receipt, ReceiptItem
from services.contracts.topics import ALERTS
from tests.unit.alerting.alarms import NOW_US, Desk, S, alarm, command


@pytest.fixture
def pressed(desk: Desk) -> Desk:
    desk.say(alarm(), "p-1")
    return desk


def test_an_acknowledgement_also_claims(pressed: Desk) -> None:
    decision = pressed.ask(command(pressed.only))
    assert decision.reason == Reason.ACKED
    people = pressed.only.people
    assert (people.assignee, people.acked_by, people.acked_us) == ("op-kim", "op-kim", NOW_US)
    assert pressed.only.commands[-1].result == "applied"


@pytest.mark.parametrize(
    ("fields", "result", "reason"),
    [
        pytest.param({"role": "auditor"}, "forbidden", CommandReason.ROLE, id="an auditor"),
        pytest.param({"role": "admin"}, "forbidden", CommandReason.ROLE, id="an admin"),
        pytest.param({"jurisdiction": "26110"}, "forbidden", CommandReason.JURISDICTION, id="another jurisdiction"),
        pytest.param({"decision_version": 0}, "stale", CommandReason.STALE, id="a version before the first"),
        pytest.param({"decision_version": 2}, "stale", CommandReason.STALE, id="a version still to come"),
    ],
)
def test_a_refusal_is_kept_and_changes_nothing_a_person_decides_on(
    pressed: Desk, fields: dict[str, Any], result: str, reason: CommandReason
) -> None:
    before = pressed.only
    decision = pressed.ask(command(before, **fields))
    after = pressed.only
    assert decision.reason == reason
    assert (after.version, after.decision_version, after.isa) == (before.version, before.decision_version, before.isa)
    assert after.commands[-1].result == result
    assert decision.change is not None
    assert (decision.change.change, decision.change.event_id) == ("refused", f"{after.alert_id}/1/c-ack")


def test_a_disposition_before_the_acknowledgement_is_an_illegal_arc(pressed: Desk) -> None:
    assert pressed.ask(command(pressed.only, "dispose")).reason == Reason.ACK_FIRST
    assert pressed.only.disposition is None


@pytest.mark.parametrize(
    "body", [{}, {"code": "Maybe"}, {"code": "Mistaken", "note": 7}, {"code": "Mistaken", "note": "x" * 2001}],
    ids=["empty", "no such code", "a note of another type", "a note beyond its length"],
)  # fmt: skip
def test_a_disposition_that_could_not_be_read_again_is_refused(pressed: Desk, body: dict[str, Any]) -> None:
    pressed.ask(command(pressed.only))
    decision = pressed.ask(command(pressed.only, "dispose", body=body))
    assert decision.reason == CommandReason.BODY_INVALID
    assert (pressed.only.isa.state, pressed.only.disposition) == ("ACKED", None)
    assert codec.decode(codec.encode(pressed.only), Alert) == pressed.only


def test_the_same_command_read_again_is_no_change(pressed: Desk) -> None:
    asked = command(pressed.only)
    pressed.ask(asked)
    decision = pressed.ask(asked)
    assert (decision.change, decision.reason) == (None, CommandReason.REPLAYED)


def test_the_same_key_and_body_again_get_the_state_again_and_no_event(pressed: Desk) -> None:
    first = command(pressed.only)
    pressed.ask(first)
    again = pressed.ask(replace(first, command_id="c-2"))
    assert again.change is not None
    assert (again.change.change, again.reason, again.change.alert) == (
        None, CommandReason.ANSWERED_BEFORE, pressed.only)  # fmt: skip
    assert len(pressed.only.commands) == 1


@pytest.mark.parametrize("fields", [{"body_sha256": "1" * 64}, {"verb": "dispose"}], ids=["body", "verb"])
def test_a_key_used_for_something_else_is_refused(pressed: Desk, fields: dict[str, Any]) -> None:
    first = command(pressed.only)
    pressed.ask(first)
    decision = pressed.ask(replace(first, command_id="c-2", **fields))
    assert (decision.reason, pressed.only.commands[-1].result) == (CommandReason.KEY_REUSED, "other_body")


def test_a_key_belongs_to_its_person(pressed: Desk) -> None:
    first = command(pressed.only)
    pressed.ask(first)
    other = pressed.ask(replace(first, command_id="c-2", actor="op-lee"))
    assert other.reason == CommandReason.STALE


def test_of_two_acknowledgements_the_second_is_stale_and_the_first_stays(pressed: Desk) -> None:
    one, two = command(pressed.only), command(pressed.only, command_id="c-2", actor="op-lee", idempotency_key="k-2")
    pressed.ask(one)
    assert pressed.ask(two).reason == CommandReason.STALE
    assert pressed.only.people.acked_by == "op-kim"


def test_fifty_repeats_do_not_make_the_first_acknowledgement_stale(pressed: Desk) -> None:
    asked = command(pressed.only)
    for number in range(50):
        pressed.say(alarm(at_us=NOW_US + number), f"r-{number}")
    pressed.ask(asked)
    assert pressed.only.isa.acked


def test_an_acknowledgement_of_an_older_occurrence_counts_for_it_and_leaves_the_alert_unacknowledged(
    pressed: Desk,
) -> None:
    """The operator answers the press she saw; while her click was under way, somebody pressed again."""
    seen = command(pressed.only)
    pressed.say(alarm(at_us=NOW_US + 90 * S), "p-2")
    assert pressed.only.occurrence.n == 2
    decision = pressed.ask(seen)
    assert decision.reason == CommandReason.OLDER_OCCURRENCE
    assert (pressed.only.isa.state, pressed.only.people.acked_by) == ("UNACK", None)
    assert pressed.only.commands[-1].result == "applied"
    assert pressed.ask(command(pressed.only, command_id="c-2", idempotency_key="k-2")).reason == Reason.ACKED


def test_a_disposition_of_an_older_occurrence_is_stale(pressed: Desk) -> None:
    pressed.ask(command(pressed.only))
    seen = command(pressed.only, "dispose")
    pressed.say(alarm(at_us=NOW_US + 90 * S), "p-2")
    assert pressed.ask(seen).reason == CommandReason.STALE
    assert pressed.only.disposition is None


def test_an_alert_keeps_at_most_256_answers_and_64_kib_of_them(pressed: Desk) -> None:
    for number in range(300):
        name = f"{number:036}"
        pressed.ask(command(pressed.only, role="auditor", command_id=name, idempotency_key=name))
    kept = pressed.only.commands
    assert kept[-1].command_id == f"{299:036}"
    assert COMMANDS_MAX * 3 // 4 <= len(kept) <= COMMANDS_MAX
    assert len(codec.encode(pressed.only)) <= LIST_BYTES_MAX + 4096


def test_the_largest_alert_that_can_be_leaves_room_in_its_topic(desk: Desk) -> None:
    """A condition as large as the device door lets in, the longest ids, the longest note, every list full."""
    value = {"token": "가" * (21 * 1024)}
    for number in range(300):
        desk.say(alarm(at_us=NOW_US + number, value=value), f"{number:04}" + "경" * 124)
        name = f"{number:0128}"
        desk.ask(command(desk.only, role="auditor", command_id=name, idempotency_key=name, actor="김" * 40))
    desk.ask(command(desk.only))
    desk.ask(command(desk.only, "dispose", body={"code": "Founded", "note": "가" * 2000}))
    assert desk.only.isa.disposed
    size_bytes = len(codec.encode(desk.only))
    assert 190 * 1024 < size_bytes < ALERTS.message_bytes_max - 40 * 1024


# Receipts


def receipt(desk: Desk, kind: str, *, at_us: int = NOW_US, console: str = "c-1", tx: str = "t-1") -> commands.Decision:
    item = ReceiptItem(tx=tx, alert_id=desk.only.alert_id, version=1, kind=kind, at_us=at_us)  # type: ignore[arg-type]
    said = Receipt(console_id=console, actor="op-kim", items=(item,))
    decision = commands.receive(desk.only, said, item, Cause(event_id="r"), NOW_US + S)
    if decision.change is not None:
        desk.state.put(decision.change.alert)
    return decision


@pytest.mark.parametrize("kind", ["painted", "sounded"])
def test_only_the_first_of_a_kind_changes_the_alert_and_none_asks_for_a_new_decision(pressed: Desk, kind: str) -> None:
    first, second = receipt(pressed, kind), receipt(pressed, kind, at_us=NOW_US + 5, console="c-2")
    assert (first.reason, second.reason) == (ReceiptReason.FIRST, ReceiptReason.FURTHER)
    assert second.change is not None
    assert not second.change.state_changes
    assert getattr(pressed.only, f"first_{kind}_us") == NOW_US
    assert (pressed.only.version, pressed.only.decision_version, pressed.only.receipts) == (2, 1, 2)


def test_delivered_is_an_event_alone(pressed: Desk) -> None:
    decision = receipt(pressed, "delivered")
    assert decision.change is not None
    assert (decision.reason, decision.change.state_changes, pressed.only.version) == (ReceiptReason.FURTHER, False, 1)


def test_a_first_receipt_read_again_is_no_second_event(pressed: Desk) -> None:
    receipt(pressed, "painted")
    assert receipt(pressed, "painted") == (None, ReceiptReason.REPLAYED)


def test_two_receipts_have_two_event_ids(pressed: Desk) -> None:
    receipt(pressed, "painted")
    ids = {receipt(pressed, "painted", console=c, tx=t, at_us=1).change.event_id  # type: ignore[union-attr]
           for c in ("c-2", "c-3") for t in ("t-1", "t-2")}  # fmt: skip
    assert len(ids) == 4
