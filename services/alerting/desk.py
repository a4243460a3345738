"""Takes what was read to the rules and what they decide to the changelog: one call per record.

Each runs in the lane of its root, so that it sees the state the one before it left.
"""

import structlog

from services.alerting import commands, timers
from services.alerting.change import Cause
from services.alerting.changelog import Changelog, Partition
from services.alerting.correlator import AlarmReason, Heard, Weighed, correlate
from services.alerting.evidence import Cameras, Reach, evidence
from services.alerting.metrics import AlertingMetrics
from services.alerting.prioritiser import prioritise
from services.alerting.state import Overdue
from services.alerting.timers import Due
from services.contracts import codec
from services.contracts.alarm import AlarmCleared, AlarmHeartbeat, AlarmRaised
from services.contracts.command import OperatorCommand, Receipt
from services.contracts.envelope import Envelope
from services.contracts.errors import ContractError
from services.runtime.clock import Clock
from services.runtime.errors import PoisonMessage
from services.runtime.kafka_port import Record

log = structlog.get_logger()


class Desk:
    """alarms -> correlator -> prioritiser -> lifecycle -> changelog; commands and due times the same way."""

    def __init__(
        self, *, changelog: Changelog, cameras: Cameras, reach: Reach, clock: Clock, metrics: AlertingMetrics
    ) -> None:
        self._changelog = changelog
        self._cameras = cameras
        self._reach = reach
        self._clock = clock
        self._metrics = metrics

    async def alarm(self, partition: Partition, record: Record) -> None:
        """Handle one record of `alarms`.

        Raises:
            PoisonMessage: it does not keep its contract.
            OwnershipLost: the partition has gone.
        """
        envelope, body = _decoded(record)
        if isinstance(body, AlarmHeartbeat):
            self._metrics.alarms.labels("health", "heartbeat").inc()
            return
        if not isinstance(body, AlarmRaised):
            raise PoisonMessage(f"{envelope.type} is no alarm")
        heard = _heard(record, envelope, body)
        now_us = self._clock.now_us()
        urgency = prioritise(body)
        pictures = evidence(self._cameras, self._reach, body.alarm_class, body.device, body.received_us)
        weighed = Weighed(urgency=urgency, pictures=pictures, reach=self._reach)
        changes, reason = correlate(heard, partition.state, weighed, now_us)
        self._metrics.alarms.labels(body.alarm_class, reason).inc()
        for change in changes:
            await self._changelog.write(partition, change)
        if reason is AlarmReason.OPENED:
            self._metrics.priorities.labels(urgency.priority).inc()
            after_s = (self._clock.now_us() - body.received_us) / 1e6
            self._metrics.to_written_seconds.labels(body.alarm_class).observe(max(0.0, after_s))
            log.info("correlator.opened", alert_id=changes[-1].alert.alert_id, device_id=body.device.device_id,
                     priority=urgency.priority, reason=urgency.reason)  # fmt: skip

    async def said(self, partition: Partition, record: Record) -> None:
        """Handle one record of `operator-commands`; raises as `alarm`."""
        envelope, body = _decoded(record)
        if isinstance(body, OperatorCommand):
            await self._command(partition, envelope, body)
        elif isinstance(body, Receipt):
            await self._receipt(partition, envelope, body)
        else:
            raise PoisonMessage(f"{envelope.type} is no command")

    async def fall_due(self, partition: Partition, overdue: Overdue) -> None:
        """Do what fell due, unless it was settled meanwhile."""
        if overdue.what is Due.TOMBSTONE:
            await self._changelog.bury(partition, overdue.alert_id)
            return
        alert = partition.state.still_due(overdue)
        if alert is not None:
            for change in timers.fall_due(alert, overdue.what, self._clock.now_us()):
                await self._changelog.write(partition, change)

    async def _command(self, partition: Partition, envelope: Envelope, command: OperatorCommand) -> None:
        alert = partition.state.get(command.target.id)
        if command.target.kind != "alert" or alert is None:
            self._metrics.commands.labels(command.verb, "unknown_target").inc()
            log.warning("commands.unknown_target", kind=command.target.kind, command_id=command.command_id)
            return
        cause = Cause(
            event_id=command.command_id, correlation_id=envelope.correlationid, traceparent=envelope.traceparent
        )
        change, reason = commands.decide(alert, commands.Asked(command, cause, self._clock.now_us()))
        self._metrics.commands.labels(command.verb, reason).inc()
        if change is not None:
            await self._changelog.write(partition, change)

    async def _receipt(self, partition: Partition, envelope: Envelope, receipt: Receipt) -> None:
        cause = Cause(event_id=envelope.id, traceparent=envelope.traceparent)
        for item in receipt.items:
            alert = partition.state.get(item.alert_id)
            if alert is None:
                self._metrics.receipts.labels(item.kind, "unknown_alert").inc()
                continue
            change, reason = commands.receive(alert, receipt, item, cause, self._clock.now_us())
            self._metrics.receipts.labels(item.kind, reason).inc()
            if change is not None:
                await self._changelog.write(partition, change)


def _decoded(record: Record) -> codec.Event:
    try:
        return codec.decode_event(record.headers, record.value)
    except ContractError as error:
        raise PoisonMessage(str(error)) from error


def _heard(record: Record, envelope: Envelope, alarm: AlarmRaised) -> Heard:
    return Heard(
        alarm=alarm, clears=isinstance(alarm, AlarmCleared) or not alarm.condition.active, source=envelope.source,
        id=envelope.id, root=record.key or alarm.device.site_id, published_us=record.timestamp_ms * 1000,
        cause=Cause(
            event_id=envelope.id, correlation_id=envelope.correlationid, traceparent=envelope.traceparent
        ),
    )  # fmt: skip
