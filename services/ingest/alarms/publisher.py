"""Records of the alarm door -> `alarms`; onto the press spool when Kafka does not answer in time.

A press is acknowledged when all replicas have it, or when it is on the disk. Once something is spooled
all that comes later queues behind it, so that the order of the door is the order of the log.
"""

import asyncio
import random
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Final, Literal, TypeVar

import structlog

from services.ingest import metrics
from services.ingest.alarms.spool import AlarmSpool, Statistics
from services.runtime.clock import Clock
from services.runtime.errors import ClockAhead, PoisonMessage, RetryLater
from services.runtime.kafka_port import Kafka, Outgoing, Producer, ProducerProfile

log = structlog.get_logger()

T = TypeVar("T")
Kept = Literal["acked", "spooled"]
ANSWER_S: Final = 2.0
_RETRY_S_MAX: Final = 5.0


class AlarmPublisher:
    """`run` opens the producer and drains the spool; `publish` may be called from the first moment on.

    Everything but `statistics` runs on the alarm loop. `disk` has one worker: it orders the spool.
    """

    def __init__(self, kafka: Kafka, spool: AlarmSpool, *, disk: Executor, clock: Clock) -> None:
        self._kafka = kafka
        self._spool = spool
        self._disk = disk
        self._clock = clock
        self._producer: Producer | None = None
        self._waiting = spool.statistics().waiting
        self._work = asyncio.Event()
        self._late: set[asyncio.Task[object]] = set()

    async def publish(self, record: Outgoing) -> Kept:
        """Return once the record can no longer be lost.

        Raises:
            RetryLater: neither Kafka nor the spool has it; do not acknowledge.
            PoisonMessage: no topic can take it.
        """
        if self._producer is None or self._waiting:
            await self._to_spool(record)
            return "spooled"
        if await self._answered(self._producer, record):
            metrics.ALARMS_PUBLISHED.labels("acked").inc()
            return "acked"
        await self._to_spool(record)
        return "spooled"

    async def run(self) -> None:
        """Keep a producer and drain what is spooled, until cancelled."""
        attempt = 0
        while True:
            try:
                async with self._kafka.producer(ProducerProfile.RECORDS) as producer:
                    self._producer = producer
                    attempt = 0
                    await self._drain(producer)
            except RetryLater as error:
                log.warning("alarms.kafka_unreachable", reason=str(error), waiting=self._waiting)
            finally:
                self._producer = None
            attempt += 1
            await self._clock.sleep(_jittered(attempt))

    def statistics(self) -> Statistics:
        return self._spool.statistics()

    async def _answered(self, producer: Producer, record: Outgoing) -> bool:
        """Tell whether Kafka took the record before the door's limit."""
        send = asyncio.ensure_future(producer.send(record))
        limit = asyncio.ensure_future(self._clock.sleep(ANSWER_S))
        try:
            await asyncio.wait({send, limit}, return_when=asyncio.FIRST_COMPLETED)
            if not send.done():
                # It may still arrive: then the spooled copy is a duplicate with the same id.
                self._late.add(send)
                send.add_done_callback(self._late_answer)
                return False
            await send
        except ClockAhead:
            metrics.ALARMS_CLOCK_AHEAD.inc()
            return False
        except RetryLater:
            return False
        finally:
            limit.cancel()
        return True

    def _late_answer(self, send: "asyncio.Task[object]") -> None:
        self._late.discard(send)
        failed = not send.cancelled() and send.exception() is not None
        metrics.ALARMS_LATE_ANSWERS.labels("failed" if failed else "acked").inc()

    async def _to_spool(self, record: Outgoing) -> None:
        self._waiting += 1
        try:
            await self._on_disk(lambda: self._spool.append(record))
        except BaseException:
            self._waiting -= 1
            raise
        metrics.ALARMS_PUBLISHED.labels("spooled").inc()
        self._report()
        self._work.set()

    async def _drain(self, producer: Producer) -> None:
        attempt = 0
        while True:
            record = await self._on_disk(self._spool.first)
            if record is None:
                self._work.clear()
                await self._work.wait()
                continue
            try:
                await producer.send(record)
            except PoisonMessage as error:
                log.exception("alarms.spooled_record_refused", reason=error.reason)
                metrics.ALARMS_PUBLISHED.labels("refused").inc()
            except RetryLater as error:
                attempt += 1
                log.warning("alarms.drain_waits", reason=str(error), waiting=self._waiting)
                await self._clock.sleep(_jittered(attempt))
                continue
            attempt = 0
            await self._on_disk(self._spool.sent)
            self._waiting -= 1
            metrics.ALARMS_PUBLISHED.labels("drained").inc()
            self._report()

    async def _on_disk(self, act: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._disk, act)

    def _report(self) -> None:
        now = self._spool.statistics()
        metrics.ALARM_SPOOL_BYTES.set(now.used_bytes)
        metrics.ALARM_SPOOL_RECORDS.set(now.waiting)


def _jittered(attempt: int) -> float:
    return random.uniform(0.5, 1.0) * min(_RETRY_S_MAX, 0.5 * 2.0 ** min(attempt, 6))  # noqa: S311 - jitter, no secret
