"""Writes who saw or did what to the `audit` topic, and returns when Kafka has it: the look comes after.

Every look at video is in the audit log (design.md, invariant 10), so that nothing is kept in memory here
while a picture is already shown.
"""

import uuid
from typing import Final

from services.contracts import codec
from services.contracts.audit import Access
from services.contracts.envelope import Envelope, rfc3339
from services.contracts.topics import AUDIT
from services.runtime.clock import Clock
from services.runtime.errors import RetryLater
from services.runtime.kafka_port import Outgoing, Producer

RETRY_S: Final = 1.0


class AccessLog:
    """`len` is the number of records that are waiting for Kafka."""

    def __init__(self, producer: Producer, *, clock: Clock, service: str) -> None:
        self._producer = producer
        self._clock = clock
        self._source = f"/services/{service}"
        self._waiting = 0

    def __len__(self) -> int:
        return self._waiting

    async def write(self, access: Access, *, event_id: str | None = None) -> None:
        """Try until Kafka has the record; the caller sets the deadline, by cancelling.

        The id stays the same over retries, so that readers drop a repeat.

        Raises:
            PoisonMessage: Kafka will never take it.
        """
        record = self._outgoing(event_id or str(uuid.uuid4()), access)
        self._waiting += 1
        try:
            while True:
                try:
                    await self._producer.send(record)
                except RetryLater:
                    await self._clock.sleep(RETRY_S)
                else:
                    return
        finally:
            self._waiting -= 1

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
