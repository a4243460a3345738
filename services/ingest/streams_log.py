"""States and gaps -> `streams`: in order, kept while Kafka is away, bounded in bytes.

A gap record is never given up before a state record is: states are told anew, a gap is told once.
"""

import asyncio
from collections import deque
from typing import Final

import structlog

from services.contracts import codec
from services.contracts.envelope import Envelope, rfc3339
from services.contracts.gap import Gap, GapClosed
from services.contracts.stream import StreamState
from services.contracts.topics import STREAMS
from services.ingest import metrics
from services.runtime.clock import Clock
from services.runtime.errors import PoisonMessage, RetryLater
from services.runtime.kafka_port import Kafka, Outgoing, Producer, ProducerProfile

log = structlog.get_logger()

CAPACITY_BYTES: Final = 16 * 1024 * 1024
_RETRY_S: Final = 1.0


class StreamsLog:
    """`write` queues and never blocks; `run` sends until cancelled; `flushed` waits until all is sent."""

    def __init__(self, kafka: Kafka, *, clock: Clock, capacity_bytes: int = CAPACITY_BYTES) -> None:
        self._kafka = kafka
        self._clock = clock
        self._capacity_bytes = capacity_bytes
        self._bytes = 0
        self._states: deque[int] = deque()
        self._queue: dict[int, Outgoing] = {}
        self._next = 0
        self._wake = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()

    def write(self, body: Gap | StreamState) -> None:
        record = _outgoing(body, self._clock.now_us())
        size = len(record.value or b"")
        while self._bytes + size > self._capacity_bytes and self._queue:
            self._give_up_oldest()
        self._queue[self._next] = record
        if isinstance(body, StreamState):
            self._states.append(self._next)
        self._next += 1
        self._bytes += size
        self._report()
        self._idle.clear()
        self._wake.set()

    async def run(self) -> None:
        """Send in order, for ever."""
        while True:
            try:
                async with self._kafka.producer(ProducerProfile.RECORDS) as producer:
                    await self._send_all(producer)
            except RetryLater as error:
                log.warning("streams.kafka_unreachable", reason=str(error), waiting=len(self._queue))
            await self._clock.sleep(_RETRY_S)

    async def flushed(self) -> None:
        """Wait until all is sent; the caller sets the deadline."""
        await self._idle.wait()

    def statistics(self) -> dict[str, int]:
        return {"waiting": len(self._queue), "bytes": self._bytes, "capacity_bytes": self._capacity_bytes}

    async def _send_all(self, producer: Producer) -> None:
        while True:
            if not self._queue:
                self._idle.set()
                self._wake.clear()
                await self._wake.wait()
                continue
            number = next(iter(self._queue))
            record = self._queue[number]
            try:
                await producer.send(record)
            except PoisonMessage as error:
                log.error("streams.record_refused", key=record.key, reason=error.reason)
                metrics.RECORDS_DROPPED.inc()
            except RetryLater as error:
                log.info("streams.send_again", reason=type(error).__name__, waiting=len(self._queue))
                await self._clock.sleep(_RETRY_S)
                continue
            self._forget(number)

    def _give_up_oldest(self) -> None:
        while self._states and self._states[0] not in self._queue:
            self._states.popleft()
        number = self._states.popleft() if self._states else next(iter(self._queue))
        log.error("streams.record_given_up", key=self._queue[number].key)
        metrics.RECORDS_DROPPED.inc()
        self._forget(number)

    def _forget(self, number: int) -> None:
        record = self._queue.pop(number, None)
        if record is not None:
            self._bytes -= len(record.value or b"")
        if self._states and self._states[0] == number:
            self._states.popleft()
        self._report()

    def _report(self) -> None:
        metrics.RECORDS_BUFFERED.set(len(self._queue))


def _outgoing(body: Gap | StreamState, now_us: int) -> Outgoing:
    if isinstance(body, Gap):
        event_id = f"{body.gap_id}/{'closed' if isinstance(body, GapClosed) else 'opened'}"
    else:
        event_id = f"{body.camera_id}/{body.stream}/{body.since_us}/{body.state}"
    envelope = Envelope(
        id=event_id,
        source=f"/cameras/{body.camera_id}",
        type=body.TYPE,
        subject=body.camera_id,
        time=rfc3339(now_us),
        partitionkey=body.camera_id,
    )
    return Outgoing(
        topic=STREAMS.name,
        key=body.camera_id,
        value=codec.encode(body),
        headers=envelope.to_headers(),
        timestamp_ms=now_us // 1000,
    )
