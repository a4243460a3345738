"""The Kafka that services know: records, producers, readers, groups. No client library here.

Two adapters keep this port: `kafka.py` (aiokafka, with its guard rails) and `memory_kafka.py`
(tests). One suite, tests/conformance, runs on both.
"""

from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple, Protocol

Headers = tuple[tuple[str, bytes], ...]


class Place(NamedTuple):
    """A partition of a topic."""

    topic: str
    partition: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """A record as read. `key` is text: all our keys are UTF-8."""

    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    key: str | None
    value: bytes | None
    headers: Headers

    @property
    def place(self) -> Place:
        return Place(self.topic, self.partition)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outgoing:
    """A record to send. `partition` None: chosen by the key, as every Kafka client does (murmur2)."""

    topic: str
    key: str
    value: bytes | bytearray | memoryview | None
    headers: Headers
    timestamp_ms: int
    partition: int | None = None


class Placed(NamedTuple):
    """Where an acknowledged record stands."""

    partition: int
    offset: int


class ProducerProfile(Enum):
    """Which of the two producers of kafka.md 5.1: small records, or one closed batch per fragment."""

    RECORDS = "records"
    VIDEO = "video"


class GroupProfile(Enum):
    """Fetch sizes and session times of kafka.md 5.2."""

    ALERTING = "alerting"
    ARCHIVE_VIDEO = "archive_video"
    ARCHIVE_RECORDS = "archive_records"
    OWNERSHIP = "ownership"


class Start(Enum):
    """Where a reader without a group begins."""

    BEGINNING = "beginning"
    END = "end"


class Producer(Protocol):
    """Sends with acks=all. Order per key is kept as long as the caller awaits or never resends."""

    async def send(self, record: Outgoing) -> Placed:
        """Wait for byte credit, send, and return when all in-sync replicas have it.

        The value of a VIDEO producer may be a view of a reused buffer: it is copied or sent before
        this returns, never read afterwards.

        Raises:
            SendUnknown: no answer before the deadline; the broker may have it.
            ClockAhead: the broker refused the time stamp.
            PoisonMessage: larger than the topic takes; sending it again cannot succeed.
        """

    def partition_for(self, topic: str, key: str) -> int:
        """Return the partition of a key; the topic's metadata is known once it was sent to or asked for."""

    def statistics(self) -> Mapping[str, int]:
        """Return `outstanding_bytes`, `capacity_bytes`, `waiting`, `sent`, `unknown`."""


class Reader(Protocol):
    """Reads partitions without a group."""

    async def poll(self, *, timeout_s: float) -> Sequence[Record]:
        """Return what has come, in order per partition, or nothing after the timeout.

        Raises:
            OffsetsLost: after it the reader stands at the beginning of that partition.
        """

    def positions(self) -> Mapping[Place, int]:
        """Return the next offset of each partition."""

    def caught_up(self) -> bool:
        """Tell whether all has been read that stood in the log when the reader was opened or moved."""

    async def assign(self, starts: Mapping[Place, int | Start]) -> None:
        """Read these partitions from now on; one that was read already goes on where it stands."""

    async def commit(self, positions: Mapping[Place, int]) -> None:
        """Keep positions under the reader's `offsets_group`."""

    async def committed(self, places: Sequence[Place]) -> Mapping[Place, int | None]:
        """Return what is kept under the reader's `offsets_group`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Assigned:
    """A partition just assigned. `committed` above `end`: the log went back."""

    place: Place
    committed: int | None
    beginning: int
    end: int


class GroupListener(Protocol):
    """What a service does when partitions come and go. Both calls have the adapter's deadline.

    `assigned` runs beside `poll`, which returns nothing of these partitions until it has answered;
    a new rebalance cancels it, and then `revoked` is not called. RetryLater: it is called again.
    Any other error is raised by the next `poll`. On closing, `revoked` is not called.
    """

    async def revoked(self, places: frozenset[Place]) -> None:
        """Finish what can be finished and commit; the partitions may return at once."""

    async def assigned(self, partitions: Sequence[Assigned]) -> Mapping[Place, int]:
        """Return the offset to read each partition from."""


class GroupConsumer(Protocol):
    """A member of a consumer group; nothing is committed by itself."""

    async def poll(self, *, timeout_s: float, hold: frozenset[Place] = frozenset()) -> Sequence[Record]:
        """Return records of the assigned partitions, but none of those on hold.

        Raises:
            OffsetsLost: after it the consumer stands at the beginning of that partition.
        """

    async def commit(self, positions: Mapping[Place, int]) -> None:
        """Commit next offsets.

        Raises:
            OwnershipLost: the partition has gone to another member.
            RetryLater: no answer in 5 s; commit again with the next tick.
        """

    async def seek(self, place: Place, offset: int) -> None:
        """Go on from `offset`."""

    async def offset_for_time(self, place: Place, timestamp_ms: int) -> int | None:
        """Return the first offset at or after a record time, or None when there is none."""

    def assignment(self) -> frozenset[Place]:
        """Return the partitions this member owns now."""

    def end(self, place: Place) -> int | None:
        """Return the end of the partition as last seen in a fetch; None before the first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TopicSpec:
    """A topic to create or check."""

    name: str
    partitions: int
    settings: Mapping[str, str]
    replication: int = 1


class Kafka(Protocol):
    """One cluster. Every object it opens is closed by its context manager, inside a deadline.

    Opening raises RetryLater when no broker answers in 30 s: try again with back-off.
    """

    def producer(self, profile: ProducerProfile) -> AbstractAsyncContextManager[Producer]:
        """Open a producer."""

    def reader(
        self,
        starts: Mapping[Place, int | Start] | None = None,
        *,
        offsets_group: str | None = None,
        patient: bool = False,
    ) -> AbstractAsyncContextManager[Reader]:
        """Open a reader of these partitions.

        `patient`: its partitions stay, so that it may wait at the broker for longer. New records come
        as fast, an idle reader costs a tenth, `assign` takes a second.
        """

    def group(
        self, group: str, topics: Sequence[str], profile: GroupProfile, listener: GroupListener
    ) -> AbstractAsyncContextManager[GroupConsumer]:
        """Join a group."""

    async def partitions(self, topic: str) -> int:
        """Return a topic's partition count.

        Raises:
            RetryLater: no broker answered.
            PoisonMessage: there is no such topic.
        """

    async def whole(self, *topics: str, start: Start = Start.BEGINNING) -> Mapping[Place, Start]:
        """Return starts for `reader` that cover all partitions of the topics."""

    async def cluster_id(self) -> str:
        """Return the cluster's id: a cursor of another cluster means nothing here."""

    async def create_topics(self, specs: Sequence[TopicSpec]) -> None:
        """Create what is missing and check what is there.

        Raises:
            SettingsError: a topic exists with another partition count, or the broker refuses it.
            RetryLater: no broker answered.
        """
