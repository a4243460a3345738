"""aiokafka's errors and records to ours, and the deadlines of table 3.1 of kafka.md."""

import asyncio
from collections.abc import Awaitable, Mapping
from typing import Any, Final, Protocol, TypeVar

import structlog
from aiokafka import ConsumerRecord, TopicPartition
from aiokafka.errors import (
    CommitFailedError,
    IllegalStateError,
    InvalidTimestampError,
    KafkaError,
    MessageSizeTooLargeError,
    RecordListTooLargeError,
)

from services.runtime.errors import ClockAhead, OwnershipLost, PoisonMessage, RetryLater, SendUnknown
from services.runtime.kafka.client_settings import CALL_S, LEFT_S, START_S, STOP_S
from services.runtime.kafka_port import Place, Record

log = structlog.get_logger()
T = TypeVar("T")
_ending: Final[set["asyncio.Task[None]"]] = set()
"""Stops under way, so that an abandoned one is not collected while it runs."""


class Client(Protocol):
    """What every aiokafka client can do."""

    async def start(self) -> None: ...

    async def stop(self) -> None: ...


def send_error(error: Exception, topic: str) -> Exception:
    """Return what the sender does next about an error of a send."""
    name = type(error).__name__
    if isinstance(error, InvalidTimestampError):
        return ClockAhead(f"{topic}: the broker refused the record's time")
    if isinstance(error, MessageSizeTooLargeError | RecordListTooLargeError):
        return PoisonMessage(f"{topic}: larger than the topic takes")
    return SendUnknown(f"{topic}: {name}")


async def commit(client: Any, positions: Mapping[Place, int]) -> None:
    """Commit next offsets.

    Raises:
        OwnershipLost: the partition is another member's now.
        RetryLater: no answer in time.
    """
    offsets = {to_raw(place): offset for place, offset in positions.items()}
    try:
        async with asyncio.timeout(CALL_S):
            await client.commit(offsets)
    except (CommitFailedError, IllegalStateError) as error:
        raise OwnershipLost(f"commit: {type(error).__name__}") from error
    except (TimeoutError, KafkaError) as error:
        raise RetryLater(f"commit: {type(error).__name__}") from error


async def answered(call: Awaitable[T], what: str, *, deadline_s: float = CALL_S) -> T:
    """Wait for an answer of the cluster.

    Raises:
        RetryLater: an error, or none in time.
    """
    try:
        async with asyncio.timeout(deadline_s):
            return await call
    except (TimeoutError, KafkaError) as error:
        raise RetryLater(f"{what}: {type(error).__name__}") from error


async def start(client: Client, what: str) -> None:
    """Start a client, or stop it again.

    Never cancelled while it may still end by itself: aiokafka forgets to close a connection whose
    first answer is no longer waited for.

    Raises:
        RetryLater: no broker answered in time, or a topic is missing.
    """
    starting = asyncio.create_task(client.start(), name=f"start of {what}")
    try:
        await answered(asyncio.shield(starting), f"start of {what}", deadline_s=START_S)
    except BaseException:
        await _ended_or_cut(starting)
        await stop(client, what)
        raise


async def _ended_or_cut(starting: "asyncio.Task[None]") -> None:
    """Wait for a start nobody waits for any more, cancel it at the deadline, and look at its error."""
    _ending.add(starting)
    starting.add_done_callback(_ended)
    try:
        await asyncio.wait((starting,), timeout=LEFT_S)
    finally:
        starting.cancel()


async def stop(client: Client, what: str) -> None:
    """Stop a client; after the deadline it is abandoned and the process must end soon (guard 1).

    In a task of its own: with its broker away aiokafka's `stop` swallows the cancellation that
    `asyncio.timeout` sends, and would be waited for without end.
    """
    ending = asyncio.create_task(client.stop(), name=f"stop of {what}")
    _ending.add(ending)
    ending.add_done_callback(_ended)
    try:
        await asyncio.wait((ending,), timeout=STOP_S)
    finally:
        ending.cancel()
    if not ending.done():
        log.warning("kafka.client_abandoned", client=what, error="TimeoutError")
    elif ending.cancelled():
        # Its stop waited for a task of its own that it had cancelled itself.
        log.warning("kafka.client_abandoned", client=what, error="CancelledError")
    elif isinstance(error := ending.exception(), KafkaError):
        log.warning("kafka.client_abandoned", client=what, error=type(error).__name__)
    elif error is not None:
        raise error


def _ended(task: "asyncio.Task[None]") -> None:
    _ending.discard(task)
    if not task.cancelled():
        task.exception()  # looked at: an abandoned client's last words are of no use


def to_record(raw: "ConsumerRecord[Any, Any]") -> Record:
    """Return our record of one as read."""
    key = raw.key
    return Record(
        topic=raw.topic,
        partition=raw.partition,
        offset=raw.offset,
        timestamp_ms=raw.timestamp,
        key=None if key is None else key.decode(errors="replace"),
        value=raw.value,
        headers=raw.headers,  # a tuple already
    )


def to_place(raw: TopicPartition) -> Place:
    return Place(raw.topic, raw.partition)


def to_raw(place: Place) -> TopicPartition:
    return TopicPartition(place.topic, place.partition)
