"""Archive's own faults as alarms of class `health`, root `system`."""

import uuid
from typing import Final

import structlog

from services.contracts import codec
from services.contracts.alarm import AlarmRaised, Condition, DeviceAtReceipt
from services.contracts.envelope import Envelope, rfc3339
from services.contracts.topics import ALARMS, SYSTEM_ROOT
from services.runtime.clock import Clock
from services.runtime.errors import PoisonMessage, RetryLater
from services.runtime.kafka_port import Outgoing, Producer

REPEAT_US: Final = 60_000_000
SOURCE: Final = "/services/archive"

log = structlog.get_logger()


class SystemAlarms:
    """Raises each fault at most once a minute; what Kafka does not take is in the log and the metrics."""

    def __init__(self, producer: Producer, *, clock: Clock, name: str) -> None:
        self._producer = producer
        self._clock = clock
        self._name = name
        self._last_us: dict[str, int] = {}

    async def raise_(self, fault: str, value: str | int) -> None:
        """Say a fault such as `log_went_back`; `value` names the partition or counts."""
        now_us = self._clock.now_us()
        log.error("alarms.fault_found", fault=fault, value=value)
        at = f"{fault}/{value}"
        if now_us - self._last_us.get(at, -REPEAT_US) < REPEAT_US:
            return
        self._last_us[at] = now_us
        try:
            await self._producer.send(self._outgoing(fault, value, now_us))
        except (RetryLater, PoisonMessage):
            log.exception("alarms.not_sent", fault=fault)

    def _outgoing(self, fault: str, value: str | int, now_us: int) -> Outgoing:
        body = AlarmRaised(
            alarm_class="health",
            condition=Condition(topic=f"archive/{fault}", active=True, value=value),
            device=DeviceAtReceipt(
                device_id=self._name, site_id=SYSTEM_ROOT, jurisdiction="", lon=0.0, lat=0.0, momentary=True
            ),
            device_time_us=now_us,
            clock_offset_ms=None,
            offline_period="none",
            status="Actual",
            via="console",
            received_us=now_us,
        )
        envelope = Envelope(
            id=str(uuid.uuid4()),
            source=SOURCE,
            type=body.TYPE,
            subject=self._name,
            time=rfc3339(now_us),
            partitionkey=SYSTEM_ROOT,
        )
        return Outgoing(
            topic=ALARMS.name,
            key=SYSTEM_ROOT,
            value=codec.encode(body),
            headers=envelope.to_headers(),
            timestamp_ms=now_us // 1000,
        )
