"""What falls due by itself: momentary clears, expiries, acknowledgements that time out, tombstones. Pure: no I/O.

One heap by due time, fed from the state that was restored; no task per alert. An entry whose alert has
moved on is dropped when it comes up.
"""

import heapq
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from msgspec.structs import replace

from services.alerting import lifecycle
from services.alerting.change import DAY_US, Change, event_id, revise, subject
from services.alerting.lifecycle import Column, Kind, Stimulus
from services.contracts.alert import Alert, AlertChange

MOMENTARY_US: Final = 1_000_000
FORGET_US: Final = DAY_US
TOMBSTONE_US: Final = 7 * DAY_US


class Due(StrEnum):
    """What falls due; also the actor `rule:<name>` of the change."""

    MOMENTARY = "momentary"
    SHELF_EXPIRY = "shelf_expiry"
    OUT_OF_SERVICE_EXPIRY = "out_of_service_expiry"
    ACK_TIMEOUT = "ack_timeout"
    FORGET = "forget"
    TOMBSTONE = "tombstone"


@dataclass(frozen=True, slots=True, kw_only=True)
class AckLimits:
    """How long an acknowledged alert may stay without anybody doing anything (alerts.md 4 rule 6)."""

    emergency_us: int = 300_000_000
    other_us: int = 1_800_000_000


_COLUMNS: Final[dict[Due, tuple[Column, AlertChange]]] = {
    Due.MOMENTARY: (Column.CLEAR, "cleared"),
    Due.SHELF_EXPIRY: (Column.UNSHELVE, "unshelved"),
    Due.OUT_OF_SERVICE_EXPIRY: (Column.RETURN, "returned"),
    Due.ACK_TIMEOUT: (Column.ACK_TIMEOUT, "unacked"),
}


class DueHeap:
    """Due times in order. Holds an entry per due time that was ever current; stale ones go when they come up."""

    def __init__(self) -> None:
        self._heap: list[tuple[int, str, Due]] = []

    def __len__(self) -> int:
        return len(self._heap)

    def push(self, due_us: int, alert_id: str, what: Due) -> None:
        heapq.heappush(self._heap, (due_us, alert_id, what))

    def next_us(self) -> int | None:
        return self._heap[0][0] if self._heap else None

    def pop(self, now_us: int) -> Iterator[tuple[int, str, Due]]:
        """Yield what is due, oldest first."""
        while self._heap and self._heap[0][0] <= now_us:
            yield heapq.heappop(self._heap)


def momentary_due_us(received_us: int, now_us: int) -> int:
    """Return when a press clears itself; a receiver whose clock runs ahead may not hold it open."""
    return min(received_us, now_us) + MOMENTARY_US


def dues(alert: Alert, limits: AckLimits) -> dict[Due, int]:
    """Return everything that will fall due for an alert as it stands."""
    found: dict[Due, int] = {}
    if alert.normal_due_us is not None:
        found[Due.MOMENTARY] = alert.normal_due_us
    if alert.isa.shelf is not None:
        found[Due.SHELF_EXPIRY] = alert.isa.shelf.until_us
    if alert.isa.oos is not None:
        found[Due.OUT_OF_SERVICE_EXPIRY] = alert.isa.oos.until_us
    if alert.isa.state == "ACKED" and not alert.isa.disposed and alert.people.acked_us is not None:
        limit_us = limits.emergency_us if alert.priority == "emergency" else limits.other_us
        found[Due.ACK_TIMEOUT] = alert.people.acked_us + limit_us
    if alert.closed_us is not None:
        found[Due.FORGET] = alert.closed_us + FORGET_US
    return found


def fall_due(alert: Alert, what: Due, at_us: int) -> tuple[Change, ...]:
    """Return what a due time does to its alert."""
    column, change = _COLUMNS[what]
    answer = lifecycle.apply(alert.isa, subject(alert), Stimulus(column=column, at_us=at_us))
    if answer.kind is not Kind.APPLIED:
        # A press that cleared otherwise: only its due time is left to take away.
        return () if what is not Due.MOMENTARY else (_moved(alert, what, "updated", answer, at_us),)
    return (_moved(alert, what, change, answer, at_us),)


def _moved(alert: Alert, what: Due, change: AlertChange, answer: lifecycle.Answer, at_us: int) -> Change:
    fields: dict[str, object] = {"isa": answer.isa}
    if what is Due.MOMENTARY:
        fields |= {"normal_due_us": None, "condition": replace(alert.condition, active=False)}
    if what is Due.ACK_TIMEOUT:
        fields["people"] = replace(alert.people, acked_by=None, acked_us=None)
    after = revise(alert, at_us, **fields)
    return Change(
        alert=after, change=change, event_id=event_id(after), actor=f"rule:{what}", reason=answer.reason, at_us=at_us
    )
