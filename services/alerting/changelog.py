"""The only writer of `alerts` and `alert-events`, and what a partition of `alerts` adds up to.

Write order: the event, then the alert, then memory; the commit comes last, elsewhere. A crash between
any two repeats the same ids, and readers drop them.
"""

from collections.abc import Callable
from random import Random
from typing import Final

import structlog

from services.alerting.change import Change
from services.alerting.metrics import AlertingMetrics
from services.alerting.state import PartitionState
from services.contracts import codec
from services.contracts.alert import Alert, AlertEvent, PartitionFence
from services.contracts.claim import Claim
from services.contracts.envelope import Envelope, rfc3339
from services.contracts.errors import ContractError
from services.contracts.topics import ALERT_EVENTS, ALERTS
from services.runtime.clock import Clock
from services.runtime.errors import OwnershipLost, RetryLater
from services.runtime.kafka_port import Outgoing, Placed, Producer, Record
from services.runtime.retry import BackOff

log = structlog.get_logger()
SOURCE: Final = "/services/alerting"
"""The same for every process, since `source` + `id` is what a replay is recognised by."""


class Partition:
    """One alert partition of ours. Life: claimed, fenced, restored, serving; lost when a higher claim stands."""

    def __init__(self, index: int, claim: Claim, state: PartitionState) -> None:
        self.index = index
        self.claim = claim
        self.state = state
        self.position = 0
        self.restored = False
        self.serving = False
        self.lost = False
        self.lost_ns = 0

    def require(self) -> None:
        """Raise OwnershipLost when another process decides this partition."""
        if self.lost:
            raise OwnershipLost(f"alert partition {self.index} has another owner")


class Changelog:
    """Writes changes, resending for as long as the partition is ours."""

    def __init__(self, producer: Producer, clock: Clock, metrics: AlertingMetrics) -> None:
        self._producer = producer
        self._clock = clock
        self._metrics = metrics
        self._back_off = BackOff(first_s=0.05, most_s=2.0)
        self._random = Random()  # noqa: S311 - jitter is no secret
        self.on_put: Callable[[Partition], None] = lambda _: None

    async def write(self, partition: Partition, change: Change) -> None:
        """Write one change and take it into memory.

        Raises:
            OwnershipLost: the partition has gone; nothing more is written.
        """
        if change.change is not None:
            await self._send(partition, self._event(partition, change))
            self._metrics.changes.labels(change.change).inc()
        if change.state_changes:
            await self._send(partition, self._state(partition, change))
        partition.state.put(change.alert)
        self.on_put(partition)

    async def write_again(self, partition: Partition, key: str) -> None:
        """Write our own state of a key, so that compaction cannot keep what a former owner wrote behind us."""
        self._metrics.rewritten.inc()
        if key == fence_key(partition.index):
            await self.fence(partition)
            return
        alert = partition.state.get(key)
        if alert is None:
            await self._tombstone(partition, key, partition.state.tombstone_version(key) or 0)
            return
        envelope = self._envelope(partition, f"{key}/{alert.version}/{partition.claim.epoch}", Alert.TYPE, alert.root)
        await self._send(partition, self._outgoing(partition, ALERTS.name, key, codec.encode(alert), envelope))

    async def bury(self, partition: Partition, key: str) -> None:
        """Write the tombstone of an alert and forget it."""
        version = partition.state.tombstone_version(key)
        if version is not None:
            await self._tombstone(partition, key, version)
            partition.state.remove(key)

    async def fence(self, partition: Partition) -> Placed:
        """Write the first record of a new owner; return where it stands in `alerts`."""
        claim = partition.claim
        body = codec.encode(PartitionFence(partition=partition.index, owner=claim.owner, started_us=claim.started_us))
        key = fence_key(partition.index)
        envelope = self._envelope(partition, f"{key}/{claim.epoch}", PartitionFence.TYPE, key)
        await self._send(partition, self._outgoing(partition, ALERT_EVENTS.name, key, body, envelope))
        return await self._send(partition, self._outgoing(partition, ALERTS.name, key, body, envelope))

    async def _tombstone(self, partition: Partition, key: str, version: int) -> None:
        envelope = self._envelope(partition, f"{key}/{version}/tombstone", Alert.TYPE, key)
        await self._send(partition, self._outgoing(partition, ALERTS.name, key, None, envelope))

    async def _send(self, partition: Partition, record: Outgoing) -> Placed:
        attempt = 0
        while True:
            partition.require()
            try:
                return await self._producer.send(record)
            except RetryLater as error:
                attempt += 1
                self._metrics.resends.inc()
                log.warning("changelog.send_failed", topic=record.topic, attempt=attempt, error=type(error).__name__)
            await self._clock.sleep(self._back_off.wait_s(attempt, self._random))

    def _event(self, partition: Partition, change: Change) -> Outgoing:
        alert = change.alert
        if change.change is None:
            raise AssertionError("an answer given again is no event")
        body = AlertEvent(
            alert_id=alert.alert_id, version=change.shown_version or alert.version, change=change.change,
            actor=change.actor, reason=change.reason, at_us=change.at_us, state=alert.isa.state,
            priority=alert.priority, facts=change.facts,
        )  # fmt: skip
        event_type = codec.alert_event_type(change.change)
        envelope = self._envelope(partition, change.event_id, event_type, alert.root, change)
        return self._outgoing(partition, ALERT_EVENTS.name, alert.root, codec.encode(body), envelope)

    def _state(self, partition: Partition, change: Change) -> Outgoing:
        alert = change.alert
        envelope = self._envelope(partition, change.event_id, Alert.TYPE, alert.root, change)
        return self._outgoing(partition, ALERTS.name, alert.alert_id, codec.encode(alert), envelope)

    def _envelope(
        self, partition: Partition, event_id: str, event_type: str, root: str, change: Change | None = None
    ) -> Envelope:
        cause = None if change is None else change.cause
        at_us = self._clock.now_us() if change is None else change.at_us
        return Envelope(
            id=event_id, source=SOURCE, type=event_type,
            subject=None if change is None else change.alert.alert_id, time=rfc3339(at_us), partitionkey=root,
            epoch=partition.claim.epoch, correlationid=None if cause is None else cause.correlation_id,
            causationid=None if cause is None else cause.event_id,
            traceparent=None if cause is None else cause.traceparent,
        )  # fmt: skip

    def _outgoing(
        self, partition: Partition, topic: str, key: str, value: bytes | None, envelope: Envelope
    ) -> Outgoing:
        return Outgoing(
            topic=topic, key=key, value=value, headers=envelope.to_headers(),
            timestamp_ms=self._clock.now_us() // 1000, partition=partition.index,
        )  # fmt: skip


class Fold:
    """What the records of one partition of `alerts` add up to: the newest of each key that no fence excludes.

    Holds a record per key. A record behind one of a higher epoch is a former owner's: its key is
    listed in `stale`, to be written again.
    """

    def __init__(self) -> None:
        self._newest: dict[str, Record] = {}
        self._epoch = 0
        self.stale: set[str] = set()
        self.unreadable = 0

    def take(self, record: Record) -> None:
        key = record.key or ""
        epoch = epoch_of(record)
        if epoch < self._epoch:
            self.stale.add(key)
            return
        self._epoch = epoch
        self.stale.discard(key)
        if record.value is None:
            self._newest.pop(key, None)
        else:
            self._newest[key] = record

    def alerts(self) -> list[Alert]:
        """Return the alerts; what does not decode is counted and left out."""
        found = []
        for record in self._newest.values():
            try:
                body = codec.decode_event(record.headers, record.value).body
            except ContractError as error:
                self.unreadable += 1
                log.error("changelog.unreadable", partition=record.partition, offset=record.offset, error=str(error))
                continue
            if isinstance(body, Alert):
                found.append(body)
        return found


def fence_key(partition: int) -> str:
    """Return the key of a partition's fence."""
    return f"fence/{partition}"


def epoch_of(record: Record) -> int:
    """Return the epoch a record was written under; 0 where it says none."""
    text = next((value for name, value in record.headers if name == "ce_epoch"), b"0")
    return int(text) if text.isdigit() else 0
