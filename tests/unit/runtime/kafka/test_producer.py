"""The producers' own work: limits, credit, order and deadlines, on a client that answers as told."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any, NamedTuple

import pytest
from aiokafka.errors import (
    InvalidTimestampError,
    KafkaError,
    KafkaTimeoutError,
    MessageSizeTooLargeError,
    NodeNotReadyError,
    NotEnoughReplicasError,
)

from services.runtime.clock import FakeClock, settle
from services.runtime.errors import ClockAhead, PoisonMessage, SendUnknown
from services.runtime.kafka.client_settings import PRODUCERS
from services.runtime.kafka.producer import AioProducer, Partitions, RecordProducer, VideoProducer
from services.runtime.kafka_port import Outgoing, ProducerProfile
from services.runtime.waits import beside


class Answer(NamedTuple):
    partition: int
    offset: int


class Batch:
    def __init__(self) -> None:
        self.record: dict[str, Any] = {}
        self.closed = False

    def append(self, **record: Any) -> object:
        self.record = record | {"value": bytes(record["value"])}
        return self

    def close(self) -> None:
        self.closed = True


class Client:
    """An aiokafka producer whose acknowledgements the test gives."""

    def __init__(self) -> None:
        self.pending: list[asyncio.Future[Any]] = []
        self.batches: list[Batch] = []
        self.values: list[bytes] = []
        self.error: Exception | None = None
        self.starts = 0

    async def start(self) -> None:
        self.starts += 1

    async def stop(self) -> None:
        pass

    async def partitions_for(self, topic: str) -> set[int]:
        del topic
        return {0, 1, 2}

    def create_batch(self) -> Batch:
        return Batch()

    async def send_batch(self, batch: Batch, topic: str, *, partition: int) -> asyncio.Future[Any]:
        assert batch.closed, "an open batch would linger and take others in"
        self.batches.append(batch)
        return self._queued(batch.record["value"], topic, partition)

    async def send(self, topic: str, value: bytes, *, partition: int, **_: Any) -> asyncio.Future[Any]:
        return self._queued(value, topic, partition)

    def _queued(self, value: bytes, topic: str, partition: int) -> asyncio.Future[Any]:
        del topic, partition
        if self.error is not None:
            raise self.error
        self.values.append(value)
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self.pending.append(future)
        return future

    def acknowledge(self) -> None:
        self.pending.pop(0).set_result(Answer(1, 42))


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def client() -> Client:
    return Client()


@pytest.fixture
async def video(client: Client, clock: FakeClock) -> AsyncIterator[AioProducer]:
    opened = VideoProducer(
        lambda: client, PRODUCERS[ProducerProfile.VIDEO], partitions=Partitions({"video": 3}), clock=clock
    )
    async with beside(opened.reap(), name="reaper"):
        yield opened


@pytest.fixture
async def small(client: Client, clock: FakeClock) -> AsyncIterator[AioProducer]:
    opened = RecordProducer(lambda: client, PRODUCERS[ProducerProfile.RECORDS], partitions=Partitions({}), clock=clock)
    async with beside(opened.reap(), name="reaper"):
        yield opened


def fragment(value: bytes | memoryview = b"v", key: str = "camera-1") -> Outgoing:
    return Outgoing(topic="video", key=key, value=value, headers=(("ce_id", b"1"),), timestamp_ms=1)


async def test_a_fragment_is_one_closed_batch(video: AioProducer, client: Client) -> None:
    sending = asyncio.create_task(video.send(fragment(memoryview(b"abc")[1:])))
    await settle()
    [batch] = client.batches
    assert batch.record == {"timestamp": 1, "key": b"camera-1", "value": b"bc", "headers": [("ce_id", b"1")]}
    client.acknowledge()
    assert (await sending).offset == 42


async def test_a_send_waits_for_credit_before_it_touches_the_client(video: AioProducer, client: Client) -> None:
    mib = b"v" * (1024 * 1024 - 100)
    sending = [asyncio.create_task(video.send(fragment(mib))) for _ in range(10)]
    await settle()
    assert len(client.batches) == 8
    assert video.statistics()["outstanding_bytes"] <= 8 * 1024 * 1024
    assert video.statistics()["waiting"] == 2
    client.acknowledge()
    await settle()
    assert len(client.batches) == 9
    for task in sending:
        task.cancel()


async def test_no_acknowledgement_in_twenty_seconds_is_unknown(
    video: AioProducer, client: Client, clock: FakeClock
) -> None:  # fmt: skip
    sending = asyncio.create_task(video.send(fragment()))
    await settle()
    await clock.advance(19)
    assert not sending.done()
    await clock.advance(2)
    with pytest.raises(SendUnknown):
        await sending
    assert video.statistics()["unknown"] == 1
    assert client.pending[0].cancelled()


async def test_an_unknown_send_keeps_its_credit_while_the_client_may_hold_the_bytes(
    video: AioProducer, clock: FakeClock
) -> None:  # fmt: skip
    sending = asyncio.create_task(video.send(fragment(b"v" * 1000)))
    await settle()
    await clock.advance(21)
    assert sending.done()
    assert video.statistics()["outstanding_bytes"] > 1000
    await clock.advance(22)
    assert video.statistics()["outstanding_bytes"] == 0
    assert isinstance(sending.exception(), SendUnknown)


async def test_a_cancelled_caller_stays_cancelled(video: AioProducer) -> None:
    sending = asyncio.create_task(video.send(fragment()))
    await settle()
    sending.cancel()
    await settle()
    assert sending.cancelled()
    assert video.statistics()["unknown"] == 0


@pytest.mark.parametrize(
    ("error", "ours"),
    [
        pytest.param(InvalidTimestampError(), ClockAhead, id="a time stamp ahead"),
        pytest.param(MessageSizeTooLargeError(), PoisonMessage, id="larger than the topic takes"),
        pytest.param(NotEnoughReplicasError(), SendUnknown, id="too few replicas"),
        pytest.param(NodeNotReadyError(), SendUnknown, id="broker dead"),
        pytest.param(KafkaTimeoutError(), SendUnknown, id="too slow"),
    ],
)
async def test_errors_say_what_the_sender_does_next(
    video: AioProducer, client: Client, error: Exception, ours: type[Exception]
) -> None:  # fmt: skip
    sending = asyncio.create_task(video.send(fragment()))
    await settle()
    client.pending[0].set_exception(error)
    with pytest.raises(ours):
        await sending
    client.error = error
    with pytest.raises(ours):
        await video.send(fragment())
    assert video.statistics()["outstanding_bytes"] == 0


async def test_the_partitions_of_a_new_topic_are_learned_with_the_first_send(
    small: AioProducer, client: Client
) -> None:  # fmt: skip
    with pytest.raises(LookupError):
        small.partition_for("alarms", "k")
    sending = asyncio.create_task(small.send(Outgoing(topic="alarms", key="k", value=b"", headers=(), timestamp_ms=0)))
    await settle()
    client.acknowledge()
    await sending
    assert small.partition_for("alarms", "k") in range(3)


async def test_a_buffer_that_is_not_bytes_is_copied_for_the_record_producer(
    small: AioProducer, client: Client
) -> None:  # fmt: skip
    buffer = bytearray(b"abc")
    record = Outgoing(topic="alarms", key="k", value=memoryview(buffer), headers=(), timestamp_ms=0)
    sending = asyncio.create_task(small.send(record))
    await settle()
    buffer[0] = 0
    assert client.values == [b"abc"]
    client.acknowledge()
    await sending


async def test_a_client_whose_sender_died_is_replaced(video: AioProducer, client: Client, clock: FakeClock) -> None:
    client.error = KafkaError("Unexpected error during batch delivery")
    with pytest.raises(SendUnknown):
        await video.send(fragment())
    await clock.advance(1)
    assert client.starts == 1
    client.error = None
    sending = asyncio.create_task(video.send(fragment()))
    await settle()
    client.acknowledge()
    await sending
