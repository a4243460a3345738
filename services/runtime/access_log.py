"""Writes who saw or did what to the `audit` topic: at least once, in order, without delaying the look.

Bounded: when Kafka has been away so long that the queue is full, `full` is true and a service must
refuse further looks, since every look at video is in the audit log (design.md, invariant 10).
"""

import asyncio
import uuid
from collections import deque
from typing import Final

import structlog

from services.contracts import codec
from services.contracts.audit import Access
from services.contracts.envelope import Envelope, rfc3339
from services.contracts.topics import AUDIT
from services.runtime.clock import Clock
from services.runtime.errors import PoisonMessage, RetryLater
from services.runtime.kafka_port import Outgoing, Producer

ENTRIES_MAX: Final = 10_000
RETRY_S: Final = 1.0

log = structlog.get_logger()


class AccessLog:
    """A queue and the task `run`, which drains it; `flush` waits until it is empty."""

    def __init__(self, producer: Producer, *, clock: Clock, service: str) -> None:
        self._producer = producer
        self._clock = clock
        self._source = f"/services/{service}"
        self._pending: deque[tuple[str, Access]] = deque()
        self._wake = asyncio.Event()
        self._empty = asyncio.Event()
        self._empty.set()

    @property
    def full(self) -> bool:
        return len(self._pending) >= ENTRIES_MAX

    def __len__(self) -> int:
        return len(self._pending)

    def write(self, access: Access) -> None:
        """Queue a record. A denied look is queued also when the queue is full, up to twice the bound."""
        if len(self._pending) >= 2 * ENTRIES_MAX:
            log.error("access_log.lost", action=access.action, result=access.result)
            return
        self._pending.append((str(uuid.uuid4()), access))
        self._empty.clear()
        self._wake.set()

    async def run(self) -> None:
        """Send until cancelled; the id stays the same over retries, so that readers drop a repeat."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._pending:
                event_id, access = self._pending[0]
                try:
                    await self._producer.send(self._outgoing(event_id, access))
                except RetryLater:
                    await self._clock.sleep(RETRY_S)
                    continue
                except PoisonMessage as error:
                    log.error("access_log.refused", action=access.action, reason=error.reason)
                self._pending.popleft()
            self._empty.set()

    async def flush(self) -> None:
        """Wait until all is written; the caller sets the deadline."""
        await self._empty.wait()

    def _outgoing(self, event_id: str, access: Access) -> Outgoing:
        envelope = Envelope(
            id=event_id,
            source=self._source,
            type=Access.TYPE,
            subject=access.account,
            time=rfc3339(access.at_us),
            partitionkey=access.account,
        )
        return Outgoing(
            topic=AUDIT.name,
            key=access.account,
            value=codec.encode(access),
            headers=envelope.to_headers(),
            timestamp_ms=self._clock.now_us() // 1000,
        )
