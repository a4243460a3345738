"""The two producers: small records, and one closed batch per video fragment (hotpath.md 7).

Order per partition is kept by a lane: records enter aiokafka one at a time and in order of arrival.
Every acknowledgement has a deadline, kept by one reaper for all sends, since a timer for each would
cost more than the send's own bookkeeping.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Mapping, MutableMapping
from typing import Any, Final

import structlog
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError, ProducerClosed

from services.runtime.clock import Clock
from services.runtime.credit import Credit
from services.runtime.errors import PoisonMessage, RetryLater, SendUnknown
from services.runtime.kafka import translate
from services.runtime.kafka.client_settings import ProducerSettings
from services.runtime.kafka_port import Outgoing, Placed
from services.runtime.partitioner import partition_of

log = structlog.get_logger()
REAP_EVERY_S: Final = 1.0
KEYS_REMEMBERED_MAX: Final = 16_384


def checked_size(record: Outgoing, limits: ProducerSettings) -> int:
    """Return the record's bytes: key, value and headers.

    Raises:
        PoisonMessage: above a limit (guard 7).
    """
    value = record.value
    value_bytes = 0 if value is None else len(value)
    header_bytes = 0
    for name, content in record.headers:
        header_bytes += len(name) + len(content)
    if value_bytes > limits.value_bytes_max:
        raise PoisonMessage(f"{record.topic}: value of {value_bytes} bytes, at most {limits.value_bytes_max}")
    if header_bytes > limits.header_bytes_max:
        raise PoisonMessage(f"{record.topic}: headers of {header_bytes} bytes, at most {limits.header_bytes_max}")
    size = value_bytes + header_bytes + len(record.key)
    if size > limits.record_bytes_max:
        raise PoisonMessage(f"{record.topic}: record of {size} bytes, at most {limits.record_bytes_max}")
    return size


class Partitions:
    """How many partitions each topic has, and where keys go. Counts never change (kafka.md 6, rule 1)."""

    def __init__(self, counts: MutableMapping[str, int]) -> None:
        self.counts = counts
        self._known: dict[tuple[str, str], int] = {}

    def of(self, topic: str, key: str) -> int:
        """Return the partition of a key; hashing in Python costs 5 us, so it is remembered.

        Raises:
            LookupError: nobody has asked for this topic yet.
        """
        found = self._known.get((topic, key))
        if found is None:
            if topic not in self.counts:
                raise LookupError(f"ask Kafka.partitions({topic!r}) first")
            if len(self._known) >= KEYS_REMEMBERED_MAX:
                self._known.clear()
            found = self._known[topic, key] = partition_of(key, self.counts[topic])
        return found


class AioProducer:
    """The part common to both; `_enqueue` hands one record to aiokafka."""

    def __init__(
        self, make: Callable[[], AIOKafkaProducer], settings: ProducerSettings, *, partitions: Partitions, clock: Clock
    ) -> None:
        self._make = make
        self._client: Any = make()
        self._broken = False
        self._settings = settings
        self._partitions = partitions
        self._clock = clock
        self._credit = Credit(settings.credit_bytes)
        self._deadline_ns = round(settings.deadline_s * 1e9)
        self._lanes: dict[tuple[str, int], Credit] = {}
        self._deadlines: dict[asyncio.Future[Any], int] = {}
        self._limbo: deque[tuple[int, int]] = deque()
        self._sent = 0
        self._unknown = 0

    async def open(self) -> None:
        await translate.start(self._client, "producer")

    async def close(self) -> None:
        await translate.stop(self._client, "producer")

    async def send(self, record: Outgoing) -> Placed:
        size = checked_size(record, self._settings)
        deadline_ns = self._clock.monotonic_ns() + self._deadline_ns
        if not self._credit.take_now(size):
            await self._turn(self._credit, size, record.topic)
        try:
            future = await self._in_order(record)
        except BaseException:
            self._credit.give(size)
            raise
        return await self._acknowledged(future, record.topic, size, deadline_ns)

    def partition_for(self, topic: str, key: str) -> int:
        return self._partitions.of(topic, key)

    def statistics(self) -> Mapping[str, int]:
        return {
            "outstanding_bytes": self._credit.taken,
            "capacity_bytes": self._credit.capacity,
            "waiting": self._credit.waiters,
            "sent": self._sent,
            "unknown": self._unknown,
        }

    async def _turn(self, credit: Credit, amount: int, topic: str) -> None:
        try:
            async with asyncio.timeout(self._settings.deadline_s):
                await credit.take(amount)
        except TimeoutError as error:
            self._unknown += 1
            raise SendUnknown(f"{topic}: no room before the deadline") from error

    async def _in_order(self, record: Outgoing) -> asyncio.Future[Any]:
        topic = record.topic
        if topic not in self._partitions.counts:
            await self._learn(topic)
        partition = record.partition
        if partition is None:
            partition = self._partitions.of(topic, record.key)
        elif not 0 <= partition < self._partitions.counts[topic]:
            raise PoisonMessage(f"{topic}: there is no partition {partition}")
        lane = self._lanes.get((topic, partition))
        if lane is None:
            lane = self._lanes[topic, partition] = Credit(1)
        if not lane.take_now(1):
            await self._turn(lane, 1, topic)
        try:
            return await self._enqueue(record, partition)
        except KafkaError as error:
            raise self._ours(error, topic) from error
        finally:
            lane.give(1)

    async def _enqueue(self, record: Outgoing, partition: int) -> asyncio.Future[Any]:
        raise NotImplementedError

    async def _learn(self, topic: str) -> None:
        found = await translate.answered(self._client.partitions_for(topic), f"partitions of {topic}")
        self._partitions.counts[topic] = len(found)

    async def _acknowledged(
        self, future: asyncio.Future[Any], topic: str, size: int, deadline_ns: int
    ) -> Placed:  # fmt: skip
        self._deadlines[future] = deadline_ns
        try:
            done = await future
        except asyncio.CancelledError:
            # aiokafka still holds the bytes for as long as it may retry (guard 8).
            self._limbo.append((self._clock.monotonic_ns() + self._deadline_ns, size))
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            self._unknown += 1
            raise SendUnknown(f"{topic}: no acknowledgement before the deadline") from None
        except KafkaError as error:
            self._credit.give(size)
            raise self._ours(error, topic) from error
        finally:
            del self._deadlines[future]
        self._credit.give(size)
        self._sent += 1
        return Placed(done.partition, done.offset)

    def _ours(self, error: KafkaError, topic: str) -> Exception:
        if type(error) in (KafkaError, ProducerClosed):
            self._broken = True  # its sender task has died: every later send would fail as well
        ours = translate.send_error(error, topic)
        if isinstance(ours, SendUnknown):
            self._unknown += 1
        return ours

    async def reap(self) -> None:
        """End waits that are past their deadline; runs as long as the producer is open."""
        while True:
            await self._clock.sleep(REAP_EVERY_S)
            now_ns = self._clock.monotonic_ns()
            for future, deadline_ns in list(self._deadlines.items()):
                if deadline_ns <= now_ns:
                    future.cancel()
            while self._limbo and self._limbo[0][0] <= now_ns:
                self._credit.give(self._limbo.popleft()[1])
            if self._broken:
                await self._replace()

    async def _replace(self) -> None:
        log.warning("kafka.producer_replaced")
        fresh = self._make()
        try:
            await translate.start(fresh, "producer")
        except RetryLater:
            return  # with the next round
        old, self._client, self._broken = self._client, fresh, False
        await translate.stop(old, "producer")


class RecordProducer(AioProducer):
    """Small records; aiokafka batches what stands in one partition."""

    async def _enqueue(self, record: Outgoing, partition: int) -> asyncio.Future[Any]:
        value = record.value
        future: asyncio.Future[Any] = await self._client.send(
            record.topic,
            value if value is None or isinstance(value, bytes) else bytes(value),
            key=record.key.encode(),
            partition=partition,
            timestamp_ms=record.timestamp_ms,
            headers=list(record.headers),
        )
        return future


class VideoProducer(AioProducer):
    """One closed batch per fragment. The builder takes any buffer and copies it once, at `append`."""

    async def _enqueue(self, record: Outgoing, partition: int) -> asyncio.Future[Any]:
        client = self._client
        batch = client.create_batch()
        batch.append(
            timestamp=record.timestamp_ms, key=record.key.encode(), value=record.value, headers=list(record.headers)
        )
        batch.close()
        future: asyncio.Future[Any] = await client.send_batch(batch, record.topic, partition=partition)
        return future
