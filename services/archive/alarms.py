"""Archive's own faults as alarms of class `health`, root `system`."""

from typing import Final

import structlog

from services.runtime.clock import Clock
from services.runtime.errors import PoisonMessage, RetryLater
from services.runtime.kafka_port import Producer
from services.runtime.system_alarm import system_alarm

REPEAT_US: Final = 60_000_000

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
            token = {"token": f"{self._name}/{value}"}
            await self._producer.send(system_alarm("archive", fault, token, now_us=now_us))
        except (RetryLater, PoisonMessage):
            log.exception("alarms.not_sent", fault=fault)
