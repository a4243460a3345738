"""What the records of `alerts` add up to, and what one person may see of it. No I/O.

A record that stands behind one of a higher epoch in its partition is ignored (a former owner that
woke up). A console that comes back with a cursor gets the alerts changed since: the newest state of
each, which is all that it would have kept anyway.
"""

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

import msgspec
from msgspec import Raw

from services.contracts import codec
from services.contracts.alert import Alert
from services.contracts.console import Cursor, EventItem
from services.contracts.envelope import Envelope
from services.runtime.identity import Caller
from services.runtime.kafka_port import Record

CURSOR_AGE_MAX_MS: Final = 24 * 3_600_000
CLOSED_SHOWN_US: Final = 3_600_000_000
_MARK_EVERY_MS: Final = 60_000
_RANK: Final = {"emergency": 0, "high": 1, "medium": 2, "low": 3}
_ASKED_FOR: Final = frozenset({"emergency", "high"})
_UNACKED: Final = frozenset({"UNACK", "RTN_UNACK"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """An alert as last written, with where it stood and the encoded item every console gets."""

    alert: Alert
    epoch: int
    partition: int
    offset: int
    causation_id: str | None
    traceparent: str | None
    item: Raw
    ask: bool

    @property
    def emergency(self) -> bool:
        return self.alert.priority == "emergency"

    @property
    def size_bytes(self) -> int:
        return len(bytes(self.item))


class AlertView:
    """Every alert that is not tombstoned, by id. Bounded by what alerting keeps."""

    def __init__(self) -> None:
        self._alerts: dict[str, Held] = {}
        self._epochs: dict[int, int] = {}
        self._next: dict[int, int] = {}
        self._marks: dict[int, deque[tuple[int, int]]] = {}
        self.fenced = 0

    def __len__(self) -> int:
        return len(self._alerts)

    def get(self, alert_id: str) -> Held | None:
        return self._alerts.get(alert_id)

    def positions(self) -> dict[str, int]:
        """Return the next offset of each partition, as a cursor writes it."""
        return {str(partition): offset for partition, offset in sorted(self._next.items())}

    def apply(self, record: Record) -> Held | None:
        """Take one record of `alerts`.

        Returns:
            what the record says now, also a refusal that changed no alert; None for a fence, a
            tombstone, or a record of a fenced owner.

        Raises:
            ContractError: the record is not what `alerts` carries.
        """
        self._advance(record)
        if record.value is None:
            envelope, body = Envelope.from_headers(record.headers), None
        else:
            envelope, body = codec.decode_event(record.headers, record.value)
        epoch = envelope.epoch or 0
        highest = self._epochs.get(record.partition, 0)
        if epoch < highest:
            self.fenced += 1
            return None
        self._epochs[record.partition] = epoch
        if body is None:
            self._alerts.pop(record.key or "", None)
        if not isinstance(body, Alert):
            return None
        before = self._alerts.get(body.alert_id)
        held = _held(body, before, record, epoch, causation_id=envelope.causationid, traceparent=envelope.traceparent)
        self._alerts[body.alert_id] = held
        return held

    def snapshot(self, caller: Caller, jurisdictions: Iterable[str], now_us: int) -> list[Held]:
        """Return what this person may see, emergency first, then the newest."""
        wanted = frozenset(jurisdictions)
        seen = [
            held
            for held in self._alerts.values()
            if may_see(caller, held.alert, wanted)
            and (held.alert.closed_us is None or now_us - held.alert.closed_us < CLOSED_SHOWN_US)
        ]
        return sorted(seen, key=_order)

    def changed_since(self, cursor: Cursor, now_ms: int) -> list[Held] | None:
        """Return the alerts written at or after a cursor, or None where only a snapshot will do.

        That is a cursor older than 24 h or of partitions this topic does not have.
        """
        starts = {int(partition): offset for partition, offset in cursor.at.items() if partition.isdigit()}
        if starts.keys() != self._next.keys() or any(
            offset < self._horizon(partition, now_ms) for partition, offset in starts.items()
        ):
            return None
        return sorted(
            (held for held in self._alerts.values() if held.offset >= starts[held.partition]),
            key=lambda held: (held.partition, held.offset),
        )

    def ahead(self, cursor: Cursor) -> bool:
        """Tell whether a cursor has seen more of our partitions than this replica."""
        return any(
            partition.isdigit() and offset > self._next.get(int(partition), offset)
            for partition, offset in cursor.at.items()
        )

    def start_at(self, partition: int, offset: int) -> None:
        """Begin a partition, so that a cursor names it also while it is empty."""
        self._next.setdefault(partition, offset)

    def _advance(self, record: Record) -> None:
        self._next[record.partition] = record.offset + 1
        marks = self._marks.setdefault(record.partition, deque(maxlen=CURSOR_AGE_MAX_MS // _MARK_EVERY_MS + 2))
        if not marks or record.timestamp_ms - marks[-1][0] >= _MARK_EVERY_MS:
            marks.append((record.timestamp_ms, record.offset))

    def _horizon(self, partition: int, now_ms: int) -> int:
        """Return the first offset known to be at most 24 h old."""
        for timestamp_ms, offset in self._marks.get(partition, ()):
            if now_ms - timestamp_ms <= CURSOR_AGE_MAX_MS:
                return offset
        return 0


def may_see(caller: Caller, alert: Alert, jurisdictions: frozenset[str] = frozenset()) -> bool:
    """Tell whether an alert is this person's to see; filters can only narrow."""
    return caller.may_see(alert.jurisdiction) and (not jurisdictions or alert.jurisdiction in jurisdictions)


def pages(held: list[Held], size: int = 200) -> Iterator[list[Held]]:
    """Cut a list into the frames of a snapshot; at least one, so that an empty list is also said."""
    for start in range(0, max(1, len(held)), size):
        yield held[start : start + size]


def _held(
    alert: Alert, before: Held | None, record: Record, epoch: int, *, causation_id: str | None, traceparent: str | None
) -> Held:
    ask = _asks(alert, before)
    item = EventItem(
        tx=f"{alert.alert_id}/{alert.version}",
        alert_id=alert.alert_id,
        epoch=epoch,
        version=alert.version,
        change="created" if before is None else "updated",
        ask=ask,
        alert=alert,
    )
    return Held(
        alert=alert,
        epoch=epoch,
        partition=record.partition,
        offset=record.offset,
        causation_id=causation_id,
        traceparent=traceparent,
        item=Raw(msgspec.json.encode(item)),
        ask=ask,
    )


def _asks(alert: Alert, before: Held | None) -> bool:
    """Receipts are wanted for the first showing and each time it sounds again."""
    if alert.priority not in _ASKED_FOR or alert.isa.state not in _UNACKED:
        return False
    if before is None or before.alert.isa.state not in _UNACKED:
        return True
    return _RANK[alert.priority] < _RANK[before.alert.priority] or alert.occurrence.n > before.alert.occurrence.n


def _order(held: Held) -> tuple[int, int]:
    return _RANK[held.alert.priority], -held.alert.occurrence.last_us
