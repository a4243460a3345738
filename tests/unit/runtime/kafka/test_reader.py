"""What a reader does when its client fails; the rest is in tests/conformance."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from aiokafka import TopicPartition
from aiokafka.errors import KafkaConnectionError, KafkaError

from services.runtime.clock import FakeClock, settle
from services.runtime.errors import RetryLater
from services.runtime.kafka.reader import AioReader
from services.runtime.kafka_port import Place

RAW = TopicPartition("t", 0)
PLACE = Place("t", 0)


class Consumer:
    def __init__(self, error: Exception | None) -> None:
        self.start_error = error
        self.fetch_error: Exception | None = None
        self.at: dict[TopicPartition, int] = {}

    async def start(self) -> None:
        if self.start_error is not None:
            raise self.start_error

    async def stop(self) -> None:
        pass

    def assign(self, raws: Sequence[TopicPartition]) -> None:
        del raws

    def seek(self, raw: TopicPartition, offset: int) -> None:
        self.at[raw] = offset

    async def end_offsets(self, raws: Sequence[TopicPartition]) -> dict[TopicPartition, int]:
        return dict.fromkeys(raws, 7)

    async def getmany(self, *, timeout_ms: int) -> dict[TopicPartition, list[Any]]:
        del timeout_ms
        if self.fetch_error is not None:
            raise self.fetch_error
        return {}

    async def position(self, raw: TopicPartition) -> int:
        return self.at[raw]


async def test_a_failed_client_is_replaced_where_it_stood_as_soon_as_the_cluster_is_there() -> None:
    clock = FakeClock()
    consumers = [Consumer(None), Consumer(KafkaConnectionError()), Consumer(None)]
    made = iter(consumers)
    reader = AioReader(lambda: next(made), clock=clock, name="test")
    await reader.open({PLACE: 5})
    consumers[0].fetch_error = KafkaError("unexpected")
    assert await reader.poll(timeout_s=0) == []
    with pytest.raises(RetryLater):
        await reader.commit({PLACE: 5})
    waiting = asyncio.create_task(reader.poll(timeout_s=0))
    await settle()
    assert not waiting.done(), "a dead cluster is not asked in a tight loop"
    await clock.advance(1)
    assert await waiting == []
    assert await reader.poll(timeout_s=0) == []
    assert consumers[2].at == {RAW: 5}
    assert reader.positions() == {PLACE: 5}
    await reader.close()
