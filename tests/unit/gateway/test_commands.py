"""A command is carried out once, refused with who was first, or left to the owner of the alert."""

import asyncio
import hashlib
import uuid
from collections.abc import Callable, Mapping
from typing import Any

import msgspec
import pytest
from prometheus_client import CollectorRegistry

from services.contracts import codec
from services.contracts.alert import Alert
from services.contracts.command import OperatorCommand, Receipt, ReceiptItem
from services.contracts.console import AckBody, DisposeBody, ReceiptFrame
from services.gateway.commands import Commands
from services.gateway.metrics import GatewayMetrics
from services.gateway.view import AlertView
from services.runtime.clock import FakeClock, settle
from services.runtime.errors import SendUnknown
from services.runtime.identity import Caller
from services.runtime.kafka_port import Outgoing, Placed, Record

KEY = uuid.UUID("0b9f0d8e-5f0e-4e88-8c19-6f1f5a1d2c33")


class KeepingProducer:
    """Keeps what is sent, as soon as there is `room`; `on_send` plays the owner of the alert."""

    def __init__(self) -> None:
        self.sent: list[Outgoing] = []
        self.on_send: Callable[[Any], None] = lambda _body: None
        self.broken = False
        self.answer_gets_lost = False
        self.room = asyncio.Event()
        self.room.set()

    async def send(self, record: Outgoing) -> Placed:
        await self.room.wait()
        if self.broken:
            raise SendUnknown("no answer")
        self.sent.append(record)
        assert isinstance(record.value, bytes)
        self.on_send(codec.decode_event(record.headers, record.value).body)
        if self.answer_gets_lost:
            raise SendUnknown("no answer")
        return Placed(0, len(self.sent))

    def partition_for(self, topic: str, key: str) -> int:
        del topic, key
        return 0

    def statistics(self) -> Mapping[str, int]:
        return {}


@pytest.fixture
def producer() -> KeepingProducer:
    return KeepingProducer()


@pytest.fixture
def view() -> AlertView:
    return AlertView()


@pytest.fixture
def commands(producer: KeepingProducer, view: AlertView) -> Commands:
    metrics = GatewayMetrics(CollectorRegistry())
    return Commands(view=view, producer=producer, clock=FakeClock(), metrics=metrics, name="gateway-0")


def answered(command: OperatorCommand, alert: Alert, result: str = "applied", **changes: Any) -> dict[str, Any]:
    """Return the fields of an alert whose owner decided a command."""
    kept = {
        "idempotency_key": command.idempotency_key,
        "body_sha256": command.body_sha256,
        "command_id": command.command_id,
        "actor": command.actor,
        "verb": command.verb,
        "result": result,
        "at_us": command.issued_us,
    }
    return {"version": alert.version + 1, "commands": [*msgspec.to_builtins(alert.commands), kept], **changes}


@pytest.fixture
def owner_acks(
    commands: Commands, view: AlertView, make_alert: Callable[..., Alert], make_record: Callable[..., Record]
) -> Callable[[OperatorCommand], None]:
    """Play the owner of the alert: it carries out an acknowledgement, and its record is read at once."""

    def owner(command: OperatorCommand) -> None:
        fields = answered(command, make_alert(), isa={"state": "ACKED", "acked": True})
        held = view.apply(make_record(make_alert(**fields), offset=1, cause=command.command_id))
        assert held is not None
        commands.answered(held)

    return owner


async def test_an_ack_is_answered_with_the_owners_next_record(
    commands: Commands,
    owner_acks: Callable[[OperatorCommand], None],
    producer: KeepingProducer,
    view: AlertView,
    make_alert: Callable[..., Alert],
    make_record: Callable[..., Record],
    operator: Caller,
) -> None:
    view.apply(make_record())
    producer.on_send = owner_acks

    answer = await commands.execute(
        operator, make_alert().alert_id, AckBody(decision_version=1), key=KEY, traceparent=None
    )

    assert answer.outcome == "applied"
    assert answer.alert is not None
    assert answer.alert.isa.state == "ACKED"
    assert [record.key for record in producer.sent] == ["mangwon"]


async def test_the_same_key_again_gets_the_stored_answer_and_writes_nothing(
    commands: Commands,
    producer: KeepingProducer,
    view: AlertView,
    make_alert: Callable[..., Alert],
    make_record: Callable[..., Record],
    operator: Caller,
) -> None:
    kept = _kept_ack(operator, AckBody(decision_version=1))
    view.apply(make_record(make_alert(commands=[kept], isa={"state": "ACKED"})))

    answer = await commands.execute(
        operator, make_alert().alert_id, AckBody(decision_version=1), key=KEY, traceparent=None
    )

    assert (answer.outcome, producer.sent) == ("applied", [])


async def test_the_same_key_with_another_body_is_refused(
    commands: Commands,
    view: AlertView,
    make_alert: Callable[..., Alert],
    make_record: Callable[..., Record],
    operator: Caller,
) -> None:
    view.apply(make_record(make_alert(commands=[_kept_ack(operator, AckBody(decision_version=1))])))

    answer = await commands.execute(
        operator, make_alert().alert_id, AckBody(decision_version=2), key=KEY, traceparent=None
    )

    assert answer.outcome == "other_body"


async def test_an_ack_of_an_acknowledged_alert_names_who_was_first(
    commands: Commands,
    view: AlertView,
    make_alert: Callable[..., Alert],
    make_record: Callable[..., Record],
    operator: Caller,
) -> None:
    people = {"assignee": "op-park", "acked_by": "op-park", "acked_us": 5}
    view.apply(make_record(make_alert(people=people, isa={"state": "ACKED", "acked": True})))

    answer = await commands.execute(
        operator, make_alert().alert_id, AckBody(decision_version=1), key=KEY, traceparent=None
    )

    assert (answer.outcome, answer.winner, answer.at_us) == ("illegal_arc", "op-park", 5)


@pytest.mark.parametrize(
    ("decision_version", "state", "outcome"),
    [
        pytest.param(1, "ACKED", "stale", id="decided on an older picture"),
        pytest.param(2, "UNACK", "illegal_arc", id="nobody has acknowledged it"),
    ],
)
async def test_a_disposal_the_state_rules_out_is_refused_at_once(
    commands: Commands,
    producer: KeepingProducer,
    view: AlertView,
    make_alert: Callable[..., Alert],
    make_record: Callable[..., Record],
    operator: Caller,
    decision_version: int,
    state: str,
    outcome: str,
) -> None:
    view.apply(make_record(make_alert(decision_version=2, isa={"state": state})))
    body = DisposeBody(decision_version=decision_version, code="Founded")

    answer = await commands.execute(operator, make_alert().alert_id, body, key=KEY, traceparent=None)

    assert (answer.outcome, producer.sent) == (outcome, [])


async def test_an_undecided_command_is_pending_and_can_be_asked_for(
    commands: Commands, view: AlertView, make_alert: Callable[..., Alert], make_record: Callable[..., Record],
    operator: Caller, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr("services.gateway.commands.ANSWER_S", 0.0)
    view.apply(make_record())

    answer = await commands.execute(
        operator, make_alert().alert_id, AckBody(decision_version=1), key=KEY, traceparent=None
    )
    assert answer.outcome == "pending"
    assert commands.status(operator, make_alert().alert_id, KEY).outcome == "pending"

    view.apply(make_record(make_alert(commands=[_kept_ack(operator, AckBody(decision_version=1))]), offset=1))

    assert commands.status(operator, make_alert().alert_id, KEY).outcome == "applied"


async def test_a_command_kafka_does_not_take_is_not_pretended(
    commands: Commands, producer: KeepingProducer, view: AlertView, make_alert: Callable[..., Alert],
    make_record: Callable[..., Record], operator: Caller,
) -> None:  # fmt: skip
    view.apply(make_record())
    producer.broken = True

    answer = await commands.execute(
        operator, make_alert().alert_id, AckBody(decision_version=1), key=KEY, traceparent=None
    )

    assert answer.outcome == "unavailable"


async def test_a_decision_that_is_there_counts_although_kafkas_answer_got_lost(
    commands: Commands, producer: KeepingProducer, view: AlertView, make_alert: Callable[..., Alert],
    make_record: Callable[..., Record], operator: Caller, owner_acks: Callable[[OperatorCommand], None],
) -> None:  # fmt: skip
    view.apply(make_record())
    producer.on_send, producer.answer_gets_lost = owner_acks, True
    answer = await commands.execute(
        operator, make_alert().alert_id, AckBody(decision_version=1), key=KEY, traceparent=None
    )

    assert answer.outcome == "applied"


async def test_a_command_kafka_has_not_taken_when_the_answer_is_due_is_given_up_and_not_called_accepted(
    commands: Commands, producer: KeepingProducer, view: AlertView, make_alert: Callable[..., Alert],
    make_record: Callable[..., Record], operator: Caller, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr("services.gateway.commands.ANSWER_S", 0.0)
    view.apply(make_record())
    producer.room.clear()

    async with asyncio.timeout(5):
        answer = await commands.execute(
            operator, make_alert().alert_id, AckBody(decision_version=1), key=KEY, traceparent=None
        )
    producer.room.set()
    await settle()

    assert (answer.outcome, producer.sent) == ("unavailable", [])


@pytest.mark.parametrize("role", ["auditor", "admin", "police_liaison", "records_officer"])
async def test_other_roles_may_not_answer_alerts(
    commands: Commands, view: AlertView, make_alert: Callable[..., Alert], make_record: Callable[..., Record], role: Any
) -> None:
    view.apply(make_record())
    caller = Caller(account="x", role=role, jurisdictions=("11440",))

    answer = await commands.execute(
        caller, make_alert().alert_id, AckBody(decision_version=1), key=KEY, traceparent=None
    )

    assert answer.outcome == "forbidden"


async def test_another_jurisdictions_alert_does_not_exist(
    commands: Commands, view: AlertView, make_alert: Callable[..., Alert], make_record: Callable[..., Record]
) -> None:
    view.apply(make_record())
    stranger = Caller(account="op-lee", role="operator", jurisdictions=("26110",))

    answer = await commands.execute(
        stranger, make_alert().alert_id, AckBody(decision_version=1), key=KEY, traceparent=None
    )

    assert answer.outcome == "not_found"


async def test_receipts_are_written_once_for_each_root(
    commands: Commands, producer: KeepingProducer, view: AlertView, make_alert: Callable[..., Alert],
    make_record: Callable[..., Record], operator: Caller,
) -> None:  # fmt: skip
    for offset, (name, root) in enumerate([("a", "mangwon"), ("b", "mangwon"), ("c", "yeonnam")]):
        view.apply(make_record(make_alert(alert_id=name, root=root), offset=offset))
    items = tuple(
        ReceiptItem(tx="t", alert_id=name, version=1, kind="painted", at_us=1) for name in ("a", "b", "c", "z")
    )

    await commands.receipts(operator, "c-1", ReceiptFrame(items=items))

    written = [codec.decode_event(record.headers, bytes(record.value or b"")).body for record in producer.sent]
    assert [len(body.items) for body in written if isinstance(body, Receipt)] == [2, 1]


def _kept_ack(caller: Caller, body: AckBody) -> dict[str, Any]:

    return {
        "idempotency_key": str(KEY),
        "body_sha256": hashlib.sha256(codec.encode(body)).hexdigest(),
        "command_id": "c-1",
        "actor": caller.account,
        "verb": "ack",
        "result": "applied",
        "at_us": 1,
    }
