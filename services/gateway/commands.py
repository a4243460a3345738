"""Commands of people -> `operator-commands`, and the answer from the next record of `alerts`.

The gateway refuses what its own state already rules out; the owner of the alert decides the rest.
Its answer, a refusal too, is the next `alerts` record with the command as its cause (alerts.md 9).
"""

import asyncio
import hashlib
import uuid
from dataclasses import dataclass
from typing import Final, Literal

import structlog

from services.contracts import codec
from services.contracts.alert import Alert, AnsweredCommand
from services.contracts.command import OperatorCommand, Receipt, ReceiptItem, Target, Verb
from services.contracts.console import AckBody, DisposeBody, ReceiptFrame
from services.contracts.envelope import Envelope
from services.contracts.topics import OPERATOR_COMMANDS
from services.gateway.metrics import GatewayMetrics
from services.gateway.view import AlertView, Held, may_see
from services.runtime.clock import Clock
from services.runtime.errors import PoisonMessage, RetryLater
from services.runtime.identity import Caller
from services.runtime.kafka_port import Outgoing, Producer

ANSWER_S: Final = 2.0
UNACKED: Final = frozenset({"UNACK", "RTN_UNACK"})
MAY_COMMAND: Final = frozenset({"operator", "supervisor"})
Outcome = Literal[
    "applied", "pending", "stale", "illegal_arc", "forbidden", "not_found", "other_body", "unprocessable", "unavailable"
]

log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What became of a command. `winner` and `at_us`: who was first, where somebody was."""

    outcome: Outcome
    alert: Alert | None = None
    winner: str | None = None
    at_us: int | None = None


class Commands:
    """Writes commands and receipts; waits for the owner's answer."""

    def __init__(
        self, *, view: AlertView, producer: Producer, clock: Clock, metrics: GatewayMetrics, name: str
    ) -> None:
        self._view = view
        self._producer = producer
        self._clock = clock
        self._metrics = metrics
        self._source = f"/services/{name}"
        self._waiting: dict[str, asyncio.Future[Held]] = {}

    async def execute(
        self, caller: Caller, alert_id: str, body: AckBody | DisposeBody, *, key: uuid.UUID, traceparent: str | None
    ) -> Answer:
        """Carry out one command once, however often it is sent.

        `pending` after `ANSWER_S`: Kafka has it, its owner has not decided. `unavailable`: Kafka has not said so in
        time; it may yet have it, so that it is to be sent again under the same key.
        """
        verb = verb_of(body)
        answer = await self._execute(caller, alert_id, body, key=str(key), traceparent=traceparent)
        self._metrics.commands.labels(verb, answer.outcome).inc()
        log.info("commands.answered", verb=verb, alert_id=alert_id, account=caller.account, outcome=answer.outcome)
        return answer

    def answered(self, held: Held) -> None:
        """Hand a record of `alerts` to the command that caused it."""
        waiting = self._waiting.get(held.causation_id or "")
        if waiting is not None and not waiting.done():
            waiting.set_result(held)

    def status(self, caller: Caller, alert_id: str, key: uuid.UUID) -> Answer:
        """Tell what became of an earlier command."""
        held = self._view.get(alert_id)
        if held is None or not may_see(caller, held.alert):
            return Answer(outcome="not_found")
        kept = _kept(held.alert, caller, str(key))
        return Answer(outcome="pending", alert=held.alert) if kept is None else _answer_of(kept, held.alert)

    async def receipts(self, caller: Caller, console_id: str, frame: ReceiptFrame) -> None:
        """Write a console's receipts, one record per root. Lost ones are counted: they prove, they do not decide."""
        by_root: dict[str, list[ReceiptItem]] = {}
        for item in frame.items:
            held = self._view.get(item.alert_id)
            if held is not None and may_see(caller, held.alert):
                by_root.setdefault(held.alert.root, []).append(item)
        for root, items in by_root.items():
            receipt = Receipt(console_id=console_id, actor=caller.account, items=tuple(items))
            envelope = Envelope(
                id=str(uuid.uuid4()), source=f"/consoles/{console_id}", type=Receipt.TYPE, partitionkey=root
            )
            try:
                await self._producer.send(self._outgoing(root, receipt, envelope))
            except (RetryLater, PoisonMessage) as error:
                self._metrics.receipts_lost.inc(len(items))
                log.warning("commands.receipts_lost", console_id=console_id, items=len(items), reason=str(error))

    async def _execute(
        self, caller: Caller, alert_id: str, body: AckBody | DisposeBody, *, key: str, traceparent: str | None
    ) -> Answer:
        held = self._view.get(alert_id)
        if held is None or not may_see(caller, held.alert):
            return Answer(outcome="not_found")
        refused = decide(held.alert, caller, body, key=key)
        if refused is not None:
            return refused
        command = self._command(caller, held.alert, body, key)
        waiting = self._waiting[command.command_id] = asyncio.get_running_loop().create_future()
        outgoing = self._outgoing(held.alert.root, command, self._envelope(command, held, traceparent))
        written = False
        try:
            async with asyncio.timeout(ANSWER_S):
                await self._producer.send(outgoing)
                written = True
                decided = await waiting
        except (TimeoutError, RetryLater):
            if waiting.cancelled() or not waiting.done():
                # What Kafka has not acknowledged is no promise; sent again, the same key carries it out once.
                return Answer(outcome="pending" if written else "unavailable", alert=held.alert)
            decided = waiting.result()
        finally:
            del self._waiting[command.command_id]
        kept = _kept(decided.alert, caller, key)
        return Answer(outcome="pending", alert=decided.alert) if kept is None else _answer_of(kept, decided.alert)

    def _command(self, caller: Caller, alert: Alert, body: AckBody | DisposeBody, key: str) -> OperatorCommand:
        encoded = codec.encode(body)
        return OperatorCommand(
            command_id=str(uuid.uuid4()),
            actor=caller.account,
            role=caller.role,
            jurisdiction=alert.jurisdiction,  # one of the caller's, or it would have been a 404
            verb=verb_of(body),
            target=Target(kind="alert", id=alert.alert_id),
            body=codec.decode(encoded, dict),
            body_sha256=hashlib.sha256(encoded).hexdigest(),
            decision_version=body.decision_version,
            idempotency_key=key,
            issued_us=self._clock.now_us(),
        )

    def _envelope(self, command: OperatorCommand, held: Held, traceparent: str | None) -> Envelope:
        return Envelope(
            id=command.command_id,
            source=self._source,
            type=OperatorCommand.TYPE,
            subject=held.alert.alert_id,
            partitionkey=held.alert.root,
            correlationid=command.command_id,
            traceparent=traceparent,
        )

    def _outgoing(self, root: str, body: OperatorCommand | Receipt, envelope: Envelope) -> Outgoing:
        return Outgoing(
            topic=OPERATOR_COMMANDS.name,
            key=root,
            value=codec.encode(body),
            headers=envelope.to_headers(),
            timestamp_ms=self._clock.now_us() // 1000,
        )


def verb_of(body: AckBody | DisposeBody) -> Verb:
    """Return the verb a body belongs to."""
    return "ack" if isinstance(body, AckBody) else "dispose"


def decide(alert: Alert, caller: Caller, body: AckBody | DisposeBody, *, key: str) -> Answer | None:
    """Return the answer that this state already gives, or None: then the owner decides."""
    kept = _kept(alert, caller, key)
    if kept is not None:
        same = kept.body_sha256 == hashlib.sha256(codec.encode(body)).hexdigest()
        return _answer_of(kept, alert) if same else Answer(outcome="other_body", alert=alert)
    if caller.role not in MAY_COMMAND:
        return Answer(outcome="forbidden", alert=alert)
    if isinstance(body, AckBody):
        # A stale ack of an unacknowledged alert may be for an older occurrence: the owner knows.
        return None if alert.isa.state in UNACKED else _refusal(alert, "illegal_arc")
    if body.decision_version != alert.decision_version:
        return _refusal(alert, "stale")
    return _refusal(alert, "illegal_arc") if alert.isa.state in UNACKED else None


def _kept(alert: Alert, caller: Caller, key: str) -> AnsweredCommand | None:
    return next(
        (kept for kept in reversed(alert.commands) if kept.idempotency_key == key and kept.actor == caller.account),
        None,
    )


def _answer_of(kept: AnsweredCommand, alert: Alert) -> Answer:
    return Answer(outcome="applied", alert=alert) if kept.result == "applied" else _refusal(alert, kept.result)


def _refusal(alert: Alert, outcome: Outcome) -> Answer:
    if alert.disposition is not None and alert.isa.disposed:
        return Answer(outcome=outcome, alert=alert, winner=alert.disposition.by, at_us=alert.disposition.at_us)
    return Answer(outcome=outcome, alert=alert, winner=alert.people.acked_by, at_us=alert.people.acked_us)
