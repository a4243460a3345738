"""Who owns which camera and which alert partition: the `claims` topic, read whole and written to.

A claim fences by its epoch (kafka.md 10.4). Held in memory: one claim per key, so as many as there
are cameras and alert partitions (10,000 take 6 MB). Works without Kafka as far as that is possible:
it opens at once, reads when the cluster answers, and `claim` raises RetryLater meanwhile.
"""

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from random import Random
from typing import Final

import structlog

from services.contracts.claim import Claim
from services.contracts.codec import decode, encode
from services.contracts.envelope import Envelope, rfc3339
from services.contracts.epoch import next_epoch
from services.contracts.errors import ContractError
from services.contracts.topics import CLAIMS
from services.runtime.clock import Clock
from services.runtime.errors import OffsetsLost, RetryLater, SendUnknown
from services.runtime.kafka_port import Kafka, Outgoing, Producer, ProducerProfile, Reader, Record
from services.runtime.metrics import CLAIMS_UNREADABLE_TOTAL
from services.runtime.retry import BackOff
from services.runtime.waits import beside, within

log = structlog.get_logger()
POLL_S: Final = 0.5
FRESH_NS: Final = 3_000_000_000
"""A pause of the whole process longer than this may have cost its claims (rule 9: a zombie)."""
READ_BACK_S: Final = 10.0
SENDS_MAX: Final = 3
ROUNDS_MAX: Final = 10


class ClaimsLog:
    """All claims. `open` it once per process; every method but `claim` and `caught_up` only looks."""

    def __init__(self, kafka: Kafka, clock: Clock) -> None:
        self._kafka = kafka
        self._clock = clock
        self._current: dict[str, Claim] = {}
        self._callbacks: list[Callable[[Claim], None]] = []
        self._expected: dict[str, asyncio.Future[bool]] = {}
        self._producer: Producer | None = None
        self._caught_up = asyncio.Event()
        self._looked_ns = clock.monotonic_ns()

    @asynccontextmanager
    async def open(self) -> AsyncIterator["ClaimsLog"]:
        """Read all claims, from now until closed. An error in a callback ends the body too."""
        async with beside(self._read_always(), name="claims"):
            yield self

    async def caught_up(self) -> None:
        """Wait until every claim is known that stood in the log; the caller sets the deadline."""
        await self._caught_up.wait()

    def current(self, key: str) -> Claim | None:
        """Return the claim of the highest epoch; of two equal ones the first."""
        return self._current.get(key)

    def superseded(self, claim: Claim) -> bool:
        """Tell whether another claim fences this one."""
        current = self._current.get(claim.key)
        return current is not None and current.claim_id != claim.claim_id and current.epoch >= claim.epoch

    def on_change(self, callback: Callable[[Claim], None]) -> None:
        """Call back with each claim that becomes the current one of its key, also while catching up."""
        self._callbacks.append(callback)

    async def claim(self, key: str, *, owner: str, live_url: str | None) -> Claim:
        """Write a claim and read the log up to it; again, if an equal or higher one stands before it.

        Raises:
            RetryLater: not written, or not read back in time. It may still come to stand in the log.
        """
        if self._producer is None or not self._caught_up.is_set():
            raise RetryLater("the claims are not read to their end yet")
        for _ in range(ROUNDS_MAX):
            claim = self._next(key, owner=owner, live_url=live_url)
            if await self._stands(claim, self._producer):
                return claim
        raise RetryLater(f"{ROUNDS_MAX} claims of one key were overtaken")

    def _next(self, key: str, *, owner: str, live_url: str | None) -> Claim:
        now_us = self._clock.now_us()
        before = self._current.get(key)
        return Claim(
            key=key,
            epoch=next_epoch(now_us, None if before is None else before.epoch),
            owner=owner,
            claim_id=uuid.uuid4().hex,
            live_url=live_url,
            started_us=now_us,
        )

    async def _stands(self, claim: Claim, producer: Producer) -> bool:
        """Write, and return whether nothing equal or higher stood before it."""
        read_back = self._expected[claim.claim_id] = asyncio.get_running_loop().create_future()
        try:
            await self._write(claim, producer)
            return await within(READ_BACK_S, read_back, clock=self._clock)
        except TimeoutError as error:
            raise RetryLater("a claim was written and not read back in time") from error
        finally:
            del self._expected[claim.claim_id]

    async def _write(self, claim: Claim, producer: Producer) -> None:
        record = _outgoing(claim)
        for attempt in range(1, SENDS_MAX + 1):
            try:
                await producer.send(record)
            except SendUnknown:  # a second copy does no harm: it has the same claim_id
                if attempt == SENDS_MAX:
                    raise
            else:
                return

    async def _read_always(self) -> None:
        back_off, attempt, random = BackOff(first_s=0.2, most_s=5.0), 0, Random()  # noqa: S311 - jitter is no secret
        while True:
            try:
                async with (
                    self._kafka.producer(ProducerProfile.RECORDS) as producer,
                    self._kafka.reader(await self._kafka.whole(CLAIMS.name), patient=True) as reader,
                ):
                    self._producer, attempt = producer, 0
                    await self._read(reader)
            except RetryLater as error:
                attempt += 1
                log.warning("claims.unreachable", error=str(error))
            finally:
                self._producer = None
                self._caught_up.clear()
            await self._clock.sleep(back_off.wait_s(max(1, attempt), random))

    async def _read(self, reader: Reader) -> None:
        self._looked_ns = self._clock.monotonic_ns()
        while True:
            if reader.caught_up():
                self._caught_up.set()
            try:
                records = await reader.poll(timeout_s=POLL_S)
            except OffsetsLost as error:  # the log went back, or was compacted away: read on from its beginning
                log.warning("claims.offsets_lost", wanted=error.wanted, beginning=error.beginning)
                records = []
            for record in records:
                self._take(record)
            await self._after_a_stop(reader)

    async def _after_a_stop(self, reader: Reader) -> None:
        now_ns = self._clock.monotonic_ns()
        stopped, self._looked_ns = now_ns - self._looked_ns > FRESH_NS, now_ns
        if stopped:
            log.warning("claims.process_was_stopped")
            self._caught_up.clear()
            await reader.assign(await self._kafka.whole(CLAIMS.name))

    def _take(self, record: Record) -> None:
        if record.value is None:
            self._current.pop(record.key or "", None)
            return
        try:
            claim = decode(record.value, Claim)
        except ContractError as error:
            CLAIMS_UNREADABLE_TOTAL.inc()
            log.error("claims.unreadable", partition=record.partition, offset=record.offset, error=str(error))
            return
        before = self._current.get(claim.key)
        first = before is None or before.epoch < claim.epoch
        if first:
            self._current[claim.key] = claim
        expected = self._expected.get(claim.claim_id)
        if expected is not None and not expected.done():
            expected.set_result(first)
        if first:
            for callback in self._callbacks:
                callback(claim)


def _outgoing(claim: Claim) -> Outgoing:
    envelope = Envelope(
        id=claim.claim_id,
        source=f"/safealley/{claim.owner}",
        type=Claim.TYPE,
        time=rfc3339(claim.started_us),
        partitionkey=claim.key,
        epoch=claim.epoch,
    )
    return Outgoing(
        topic=CLAIMS.name,
        key=claim.key,
        value=encode(claim),
        headers=envelope.to_headers(),
        timestamp_ms=claim.started_us // 1000,
    )
