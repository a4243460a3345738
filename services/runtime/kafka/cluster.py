"""AioKafka: opens producers, readers and groups of one cluster, and looks after topics."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, Final

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.coordinator.assignors.sticky.sticky_assignor import StickyPartitionAssignor

from services.runtime.clock import Clock
from services.runtime.errors import PoisonMessage, RetryLater, SettingsError
from services.runtime.kafka import flat_produce, translate
from services.runtime.kafka.client_settings import GROUPS, PATIENT_READER, PRODUCERS, READER, GroupSettings
from services.runtime.kafka.group import AioGroup
from services.runtime.kafka.producer import AioProducer, Partitions, RecordProducer, VideoProducer
from services.runtime.kafka.reader import AioReader
from services.runtime.kafka_port import (
    GroupConsumer,
    GroupListener,
    GroupProfile,
    Place,
    Producer,
    ProducerProfile,
    Reader,
    Start,
    TopicSpec,
)
from services.runtime.waits import beside

ADMIN_TIMEOUT_MS: Final = 15_000
CREATE_S: Final = 30.0
LEADERS_EVERY_S: Final = 0.1
LEADERS_TRIES: Final = 300
_EXISTS: Final = 36
_CODES: Final = {17: "the name is not allowed", 37: "the partition count", 38: "the replication factor",
                 40: "a setting", 44: "a policy of the cluster"}  # fmt: skip
_KINDS: Final[Mapping[ProducerProfile, type[AioProducer]]] = {
    ProducerProfile.RECORDS: RecordProducer,
    ProducerProfile.VIDEO: VideoProducer,
}


class AioKafka:
    """One cluster, by its bootstrap address. `rack` is the zone, for fetches from a near replica."""

    def __init__(self, bootstrap: str, *, clock: Clock, client_id: str, rack: str | None = None) -> None:
        self._common: dict[str, Any] = {"bootstrap_servers": bootstrap, "client_id": client_id}
        self._clock = clock
        self._rack = rack
        self._counts: dict[str, int] = {}

    # The clients, built but not started

    def new_producer(self, profile: ProducerProfile) -> AIOKafkaProducer:
        producer = AIOKafkaProducer(**self._common, **PRODUCERS[profile].client())
        if profile is ProducerProfile.VIDEO:
            flat_produce.use(producer)
        return producer

    def new_reader(self, offsets_group: str | None, *, patient: bool = False) -> AIOKafkaConsumer:
        settings = PATIENT_READER if patient else READER
        return AIOKafkaConsumer(
            **self._common, **settings.client(), group_id=offsets_group, client_rack=self._rack
        )  # fmt: skip

    def new_member(
        self, group: str, settings: GroupSettings, assignor: type[StickyPartitionAssignor]
    ) -> AIOKafkaConsumer:
        return AIOKafkaConsumer(
            **self._common, **settings.client(), group_id=group, client_rack=self._rack,
            partition_assignment_strategy=(assignor,),
        )  # fmt: skip

    # The port

    @asynccontextmanager
    async def producer(self, profile: ProducerProfile) -> AsyncIterator[Producer]:
        opened = _KINDS[profile](
            partial(self.new_producer, profile), PRODUCERS[profile],
            partitions=Partitions(self._counts), clock=self._clock,
        )  # fmt: skip
        await opened.open()
        try:
            await self._learn_counts()
            async with beside(opened.reap(), name="kafka-send-deadlines"):
                yield opened
        finally:
            await opened.close()

    @asynccontextmanager
    async def reader(
        self,
        starts: Mapping[Place, int | Start] | None = None,
        *,
        offsets_group: str | None = None,
        patient: bool = False,
    ) -> AsyncIterator[Reader]:
        make = partial(self.new_reader, offsets_group, patient=patient)
        opened = AioReader(make, clock=self._clock, name=f"reader {offsets_group or ''}")
        await opened.open(starts or {})
        try:
            yield opened
        finally:
            await opened.close()

    @asynccontextmanager
    async def group(
        self, group: str, topics: Sequence[str], profile: GroupProfile, listener: GroupListener
    ) -> AsyncIterator[GroupConsumer]:
        for topic in topics:
            await self.partitions(topic)
        opened = AioGroup(
            partial(self.new_member, group), topics=topics, settings=GROUPS[profile],
            listener=listener, clock=self._clock, name=group, answers=self.answers,
        )  # fmt: skip
        try:
            await opened.open()
            yield opened
        finally:
            await opened.close()

    async def partitions(self, topic: str) -> int:
        if topic not in self._counts:
            await self._learn_counts()
        if topic not in self._counts:
            raise PoisonMessage(f"there is no topic {topic}")
        return self._counts[topic]

    async def whole(self, *topics: str, start: Start = Start.BEGINNING) -> Mapping[Place, Start]:
        return {Place(topic, partition): start for topic in topics for partition in range(await self.partitions(topic))}

    async def cluster_id(self) -> str:
        async with self._admin() as admin:
            found = await translate.answered(admin.describe_cluster(), "describe_cluster")
            return str(found["cluster_id"])

    async def create_topics(self, specs: Sequence[TopicSpec]) -> None:
        async with self._admin() as admin:
            there = await self._described(admin)
            missing = [spec for spec in specs if spec.name not in there]
            if missing:
                await self._create(admin, missing)
                there = await self._with_leaders(admin, missing)
        for spec in specs:
            if there[spec.name] != spec.partitions:
                raise SettingsError(f"topic {spec.name} has {there[spec.name]} partitions, not {spec.partitions}")
        self._counts.update(there)

    async def answers(self) -> bool:
        """Tell through a fresh connection whether the cluster is there."""
        try:
            async with self._admin() as admin:
                await self._described(admin)
        except RetryLater:
            return False
        return True

    # Administration

    @asynccontextmanager
    async def _admin(self) -> AsyncIterator[Any]:
        admin = AIOKafkaAdminClient(**self._common, request_timeout_ms=ADMIN_TIMEOUT_MS)
        closing: Any = _Closed(admin)
        await translate.start(closing, "admin")
        try:
            yield admin
        finally:
            await translate.stop(closing, "admin")

    async def _learn_counts(self) -> None:
        async with self._admin() as admin:
            self._counts.update(await self._described(admin))

    @staticmethod
    async def _described(admin: Any) -> dict[str, int]:
        """Return the partition count of each topic whose partitions all have a leader."""
        topics = await translate.answered(admin.describe_topics(), "describe_topics")
        return {
            topic["topic"]: len(topic["partitions"])
            for topic in topics
            if topic["partitions"] and all(part["leader"] >= 0 for part in topic["partitions"])
        }

    @staticmethod
    async def _create(admin: Any, specs: Sequence[TopicSpec]) -> None:
        wanted = [
            NewTopic(spec.name, spec.partitions, spec.replication, topic_configs=dict(spec.settings)) for spec in specs
        ]
        answer = await translate.answered(admin.create_topics(wanted), "create_topics", deadline_s=CREATE_S)
        for name, code, *_ in answer.topic_errors:  # it never raises: stack.md, Surprises
            if code not in (0, _EXISTS):
                raise SettingsError(f"topic {name}: the broker refuses {_CODES.get(code, f'it with code {code}')}")

    async def _with_leaders(self, admin: Any, specs: Sequence[TopicSpec]) -> dict[str, int]:
        for _ in range(LEADERS_TRIES):
            there = await self._described(admin)
            if all(spec.name in there for spec in specs):
                return there
            await self._clock.sleep(LEADERS_EVERY_S)
        raise RetryLater("new topics have no leader yet")


class _Closed:
    """The admin client, stopped like the others."""

    def __init__(self, admin: AIOKafkaAdminClient) -> None:
        self._admin: Any = admin

    async def start(self) -> None:
        await self._admin.start()

    async def stop(self) -> None:
        await self._admin.close()
