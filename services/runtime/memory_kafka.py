"""Kafka in memory, for tests: the same port, the same partitioner, no broker.

Holds no durability, no compaction and no latency. What it adds for tests: `truncate` (a power cut),
`drop_before` (retention), `away` (no broker answers) and `lose_next_acknowledgement`.
tests/conformance runs one suite on this and on the real adapter.
"""

import asyncio
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from typing import Final

from services.runtime.clock import Clock
from services.runtime.errors import (
    ClockAhead,
    OffsetsLost,
    OwnershipLost,
    PoisonMessage,
    RetryLater,
    SendUnknown,
    SettingsError,
)
from services.runtime.kafka_port import (
    Assigned,
    GroupConsumer,
    GroupListener,
    GroupProfile,
    Outgoing,
    Place,
    Placed,
    Producer,
    ProducerProfile,
    Reader,
    Record,
    Start,
    TopicSpec,
)
from services.runtime.partitioner import partition_of
from services.runtime.waits import cancelled, within

POLL_BYTES_MAX: Final = 1024 * 1024
ASSIGN_AGAIN_S: Final = 1.0
_AHEAD_MS_MAX: Final = 3_600_000
_MESSAGE_BYTES_MAX: Final = 1024 * 1024
_RECORD_LIMITS: Final = {ProducerProfile.RECORDS: (256 * 1024, 256 * 1024, 256 * 1024),
                         ProducerProfile.VIDEO: (1024 * 1024, 6 * 1024, 1032 * 1024)}  # fmt: skip


def record_bytes(record: Outgoing | Record) -> int:
    """Return key, value and headers in bytes."""
    headers = sum(len(name) + len(content) for name, content in record.headers)
    return len(record.key or "") + len(record.value or b"") + headers


@dataclass(slots=True)
class _Log:
    """One partition. `records[0]` stands at `beginning`."""

    beginning: int = 0
    records: list[Record] = field(default_factory=list)

    @property
    def end(self) -> int:
        return self.beginning + len(self.records)

    def read(self, offset: int, bytes_max: int) -> list[Record]:
        taken: list[Record] = []
        for record in self.records[offset - self.beginning :]:
            taken.append(record)
            bytes_max -= record_bytes(record)
            if bytes_max <= 0:
                break
        return taken


@dataclass(slots=True)
class _Topic:
    spec: TopicSpec
    logs: list[_Log]

    @property
    def message_bytes_max(self) -> int:
        return int(self.spec.settings.get("max.message.bytes", _MESSAGE_BYTES_MAX))


class MemoryKafka:
    """One cluster. `away` True: sends, commits and look-ups fail as with no broker, polls stay empty."""

    def __init__(self, *, clock: Clock) -> None:
        self.clock = clock
        self.away = False
        self._topics: dict[str, _Topic] = {}
        self._committed: dict[str, dict[Place, int]] = {}
        self._groups: dict[str, _Group] = {}
        self._wakes: set[asyncio.Event] = set()
        self._lost_acknowledgements = 0

    # For tests

    def truncate(self, place: Place, offset: int) -> None:
        """Forget what stands at `offset` and after, as a power cut does; committed offsets stay."""
        log = self.log(place)
        del log.records[max(0, offset - log.beginning) :]
        self.wake()

    def drop_before(self, place: Place, offset: int) -> None:
        """Forget what stands before `offset`, as retention does."""
        log = self.log(place)
        dropped = min(max(0, offset - log.beginning), len(log.records))
        del log.records[:dropped]
        log.beginning += dropped
        self.wake()

    def lose_next_acknowledgement(self) -> None:
        """Let the next send be stored and end in SendUnknown."""
        self._lost_acknowledgements += 1

    def records(self, topic: str) -> list[Record]:
        """Return all that stands in a topic, partition by partition."""
        return [record for log in self._topic(topic).logs for record in log.records]

    def committed(self, group: str) -> Mapping[Place, int]:
        return dict(self._committed.get(group, {}))

    # The port

    @asynccontextmanager
    async def producer(self, profile: ProducerProfile) -> AsyncIterator[Producer]:
        await self.pause()
        yield _Producer(self, profile)

    @asynccontextmanager
    async def reader(
        self,
        starts: Mapping[Place, int | Start] | None = None,
        *,
        offsets_group: str | None = None,
        patient: bool = False,  # noqa: ARG002 - nothing waits at a broker here
    ) -> AsyncIterator[Reader]:
        await self.pause()
        reader = _Reader(self, offsets_group)
        await reader.assign(starts or {})
        with self._woken(reader.woken):
            yield reader

    @asynccontextmanager
    async def group(
        self, group: str, topics: Sequence[str], profile: GroupProfile, listener: GroupListener
    ) -> AsyncIterator[GroupConsumer]:
        del profile
        await self.pause()
        members = self._groups.setdefault(group, _Group(self, group))
        member = _Member(self, members, topics, listener)
        with self._woken(member.woken):
            await members.join(member)
            try:
                yield member
            finally:
                await members.leave(member)

    async def partitions(self, topic: str) -> int:
        await self.pause()
        return len(self._topic(topic).logs)

    async def whole(self, *topics: str, start: Start = Start.BEGINNING) -> Mapping[Place, Start]:
        return {Place(topic, index): start for topic in topics for index in range(await self.partitions(topic))}

    async def cluster_id(self) -> str:
        await self.pause()
        return "memory"

    async def create_topics(self, specs: Sequence[TopicSpec]) -> None:
        await self.pause()
        for spec in specs:
            there = self._topics.setdefault(spec.name, _Topic(spec, [_Log() for _ in range(spec.partitions)]))
            if len(there.logs) != spec.partitions:
                raise SettingsError(f"topic {spec.name} has {len(there.logs)} partitions, not {spec.partitions}")

    # For the parts below

    async def pause(self) -> None:
        """Let others run, as every call to a broker does.

        Raises:
            RetryLater: the cluster is away.
        """
        await asyncio.sleep(0)
        if self.away:
            raise RetryLater("no broker answered")

    def log(self, place: Place) -> _Log:
        return self._topic(place.topic).logs[place.partition]

    def offsets(self, group: str) -> dict[Place, int]:
        return self._committed.setdefault(group, {})

    def wake(self) -> None:
        for event in self._wakes:
            event.set()

    def append(self, record: Outgoing) -> Placed:
        """Store a record and wake all readers."""
        topic = self._topic(record.topic)
        if record_bytes(record) > topic.message_bytes_max:
            raise PoisonMessage(f"{record.topic}: larger than the topic takes")
        if record.timestamp_ms > self.clock.now_us() // 1000 + _AHEAD_MS_MAX:
            raise ClockAhead(f"{record.topic}: the broker refused the record's time")
        partition = partition_of(record.key, len(topic.logs)) if record.partition is None else record.partition
        if not 0 <= partition < len(topic.logs):
            raise PoisonMessage(f"{record.topic}: there is no partition {partition}")
        log = topic.logs[partition]
        offset = log.end
        log.records.append(_stored(record, partition, offset))
        self.wake()
        if self._lost_acknowledgements:
            self._lost_acknowledgements -= 1
            raise SendUnknown(f"{record.topic}: acknowledgement lost")
        return Placed(partition, offset)

    def places(self, topics: Iterable[str]) -> list[Place]:
        return [Place(topic, index) for topic in topics for index in range(len(self._topic(topic).logs))]

    def _topic(self, name: str) -> _Topic:
        if name not in self._topics:
            raise PoisonMessage(f"there is no topic {name}")
        return self._topics[name]

    @contextmanager
    def _woken(self, event: asyncio.Event) -> Iterator[None]:
        self._wakes.add(event)
        try:
            yield
        finally:
            self._wakes.discard(event)


def _stored(record: Outgoing, partition: int, offset: int) -> Record:
    value = record.value
    return Record(
        topic=record.topic,
        partition=partition,
        offset=offset,
        timestamp_ms=record.timestamp_ms,
        key=record.key,
        value=None if value is None else bytes(value),
        headers=tuple(record.headers),
    )


class _Producer:
    def __init__(self, kafka: MemoryKafka, profile: ProducerProfile) -> None:
        self._kafka = kafka
        self._limits = _RECORD_LIMITS[profile]
        self._sent = 0
        self._unknown = 0

    async def send(self, record: Outgoing) -> Placed:
        value_max, headers_max, record_max = self._limits
        headers = sum(len(name) + len(content) for name, content in record.headers)
        if len(record.value or b"") > value_max or headers > headers_max or record_bytes(record) > record_max:
            raise PoisonMessage(f"{record.topic}: larger than our own limits")
        try:
            placed = self._kafka.append(record) if not self._kafka.away else None
        except SendUnknown:
            self._unknown += 1
            raise
        finally:
            await asyncio.sleep(0)
        if placed is None:
            self._unknown += 1
            raise SendUnknown(f"{record.topic}: no broker answered")
        self._sent += 1
        return placed

    def partition_for(self, topic: str, key: str) -> int:
        return partition_of(key, len(self._kafka.places((topic,))))

    def statistics(self) -> Mapping[str, int]:
        return {"outstanding_bytes": 0, "capacity_bytes": 0, "waiting": 0, "sent": self._sent,
                "unknown": self._unknown}  # fmt: skip


class _Positions:
    """What readers and members have in common: reading on from positions, waking at once."""

    def __init__(self, kafka: MemoryKafka) -> None:
        self.kafka = kafka
        self.woken = asyncio.Event()
        self.at: dict[Place, int] = {}

    async def read(self, timeout_s: float, places: Iterable[Place]) -> list[Record]:
        """Return what stands at the positions, or wait for it.

        Raises:
            OffsetsLost: a position is outside its log.
        """
        await asyncio.sleep(0)
        self.woken.clear()
        records = self._take(places)
        if not records and timeout_s > 0:
            with suppress(TimeoutError):
                await within(timeout_s, self.woken.wait(), clock=self.kafka.clock)
            records = self._take(places)
        return records

    def _take(self, places: Iterable[Place]) -> list[Record]:
        if self.kafka.away:
            return []
        records: list[Record] = []
        for place in places:
            if place not in self.at:
                continue
            log, wanted = self.kafka.log(place), self.at[place]
            if not log.beginning <= wanted <= log.end:
                if records:
                    break
                self.at[place] = log.beginning
                raise OffsetsLost(place.topic, place.partition, wanted, log.beginning)
            taken = log.read(wanted, POLL_BYTES_MAX)
            self.at[place] = wanted + len(taken)
            records += taken
        return records


class _Reader(_Positions):
    def __init__(self, kafka: MemoryKafka, offsets_group: str | None) -> None:
        super().__init__(kafka)
        self._group = offsets_group
        self._targets: dict[Place, int] = {}

    async def poll(self, *, timeout_s: float) -> Sequence[Record]:
        return await self.read(timeout_s, list(self.at))

    def positions(self) -> Mapping[Place, int]:
        return dict(self.at)

    def caught_up(self) -> bool:
        return all(self.at[place] >= target for place, target in self._targets.items())

    async def assign(self, starts: Mapping[Place, int | Start]) -> None:
        await self.kafka.pause()
        before, self.at = self.at, {}
        for place, start in starts.items():
            log = self.kafka.log(place)
            offset = start if isinstance(start, int) else log.beginning if start is Start.BEGINNING else log.end
            self.at[place] = before.get(place, offset)
        self._targets = {place: self.kafka.log(place).end for place in starts}

    async def commit(self, positions: Mapping[Place, int]) -> None:
        await self.kafka.pause()
        if self._group is None:
            raise ValueError("the reader was opened without an offsets_group")
        if positions.keys() - self.at.keys():
            raise OwnershipLost("commit: a partition is not assigned")
        self.kafka.offsets(self._group).update(positions)

    async def committed(self, places: Sequence[Place]) -> Mapping[Place, int | None]:
        await self.kafka.pause()
        if self._group is None:
            raise ValueError("the reader was opened without an offsets_group")
        return {place: self.kafka.offsets(self._group).get(place) for place in places}


class _Group:
    """The members of one group; every join and leave revokes all and assigns anew, as aiokafka does."""

    def __init__(self, kafka: MemoryKafka, name: str) -> None:
        self.name = name
        self._kafka = kafka
        self._members: list[_Member] = []
        self._changing = asyncio.Lock()

    async def join(self, member: "_Member") -> None:
        async with self._changing:
            await self._revoke()
            self._members.append(member)
            self._assign()

    async def leave(self, member: "_Member") -> None:
        async with self._changing:
            await member.stop()
            self._members.remove(member)
            await self._revoke()
            self._assign()

    async def _revoke(self) -> None:
        for member in self._members:
            await member.revoke()

    def _assign(self) -> None:
        shares: dict[_Member, list[Place]] = {member: [] for member in self._members}
        topics = dict.fromkeys(topic for member in self._members for topic in member.topics)
        for index, place in enumerate(self._kafka.places(topics)):
            able = [member for member in self._members if place.topic in member.topics]
            shares[able[index % len(able)]].append(place)
        for member, places in shares.items():
            member.assign(places)


class _Member(_Positions):
    def __init__(self, kafka: MemoryKafka, group: _Group, topics: Sequence[str], listener: GroupListener) -> None:
        super().__init__(kafka)
        self.topics = tuple(topics)
        self._group = group
        self._listener = listener
        self._owned: frozenset[Place] = frozenset()
        self._starting: asyncio.Task[None] | None = None
        self._seen_ends: dict[Place, int] = {}

    def assign(self, places: Sequence[Place]) -> None:
        self._owned = frozenset(places)
        self._starting = asyncio.create_task(self._take_up(places), name="memory-kafka-assigned")

    async def _take_up(self, places: Sequence[Place]) -> None:
        starts = await self._starts(places)
        self.at = {place: starts[place] for place in places}
        self.woken.set()

    async def _starts(self, places: Sequence[Place]) -> Mapping[Place, int]:
        offsets = self.kafka.offsets(self._group.name)
        while True:
            assigned = [
                Assigned(
                    place=place,
                    committed=offsets.get(place),
                    beginning=self.kafka.log(place).beginning,
                    end=self.kafka.log(place).end,
                )
                for place in places
            ]
            with suppress(RetryLater):
                return await self._listener.assigned(assigned)
            await self.kafka.clock.sleep(ASSIGN_AGAIN_S)

    async def revoke(self) -> None:
        owned, interrupted = self._owned, await self.stop()
        if owned and not interrupted:
            with suppress(OwnershipLost, RetryLater):
                await self._listener.revoked(owned)
        self._owned = frozenset()
        self.at = {}

    async def stop(self) -> bool:
        """End a running `assigned`; return whether there was one."""
        task, self._starting = self._starting, None
        if task is None or task.done():
            return False
        await cancelled(task)
        return True

    async def poll(self, *, timeout_s: float, hold: frozenset[Place] = frozenset()) -> Sequence[Record]:
        if self._starting is not None and self._starting.done():
            self._starting.result()
        records = await self.read(timeout_s, sorted(self._owned - hold))
        for place in self.at.keys() - hold:
            self._seen_ends[place] = self.kafka.log(place).end
        return records

    async def commit(self, positions: Mapping[Place, int]) -> None:
        await self.kafka.pause()
        if positions.keys() - self._owned:
            raise OwnershipLost("commit: a partition is not ours")
        self.kafka.offsets(self._group.name).update(positions)

    async def seek(self, place: Place, offset: int) -> None:
        if place not in self._owned:
            raise OwnershipLost(f"seek: {place.topic}/{place.partition} is not ours")
        self.at[place] = offset
        self.woken.set()

    async def offset_for_time(self, place: Place, timestamp_ms: int) -> int | None:
        await self.kafka.pause()
        found = (record.offset for record in self.kafka.log(place).records if record.timestamp_ms >= timestamp_ms)
        return next(found, None)

    def assignment(self) -> frozenset[Place]:
        return self._owned

    def end(self, place: Place) -> int | None:
        return self._seen_ends.get(place) if place in self._owned else None
