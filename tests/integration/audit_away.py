"""A Kafka that takes nothing for `audit` while told so."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from services.contracts.topics import AUDIT
from services.runtime.errors import RetryLater
from services.runtime.kafka_port import Outgoing, Placed, Producer, ProducerProfile
from services.runtime.memory_kafka import MemoryKafka


class AuditAway:
    """The same cluster in all else."""

    def __init__(self, kafka: MemoryKafka) -> None:
        self._kafka = kafka
        self.away = True

    def __getattr__(self, name: str) -> Any:
        return getattr(self._kafka, name)

    @asynccontextmanager
    async def producer(self, profile: ProducerProfile) -> AsyncIterator[Any]:
        async with self._kafka.producer(profile) as producer:
            yield _Producer(producer, self)


class _Producer:
    def __init__(self, producer: Producer, cluster: AuditAway) -> None:
        self._producer = producer
        self._cluster = cluster

    def __getattr__(self, name: str) -> Any:
        return getattr(self._producer, name)

    async def send(self, record: Outgoing) -> Placed:
        if self._cluster.away and record.topic == AUDIT.name:
            raise RetryLater("told so")
        return await self._producer.send(record)
