"""Follows the registry, `devices.<pool>`, for every service that needs the city. What a service makes of it is its own.

A device stands in one partition; while it moves it stands in two, and the higher revision holds
(kafka.md 10.2). A tombstone counts for its own partition alone.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Final

import structlog

from services.contracts import codec
from services.contracts.device import Device
from services.contracts.errors import ContractError
from services.contracts.site import Site
from services.contracts.topics import devices
from services.runtime import metrics
from services.runtime.clock import Clock
from services.runtime.errors import OffsetsLost, PoisonMessage, RetryLater
from services.runtime.kafka_port import Kafka, Reader, Record

log = structlog.get_logger()

POLL_S: Final = 1.0
RETRY_S: Final = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """A record of the registry topic: where it stands. `body` None is a tombstone."""

    key: str
    partition: int
    body: Device | Site | None


class RecordTable:
    """All records of the registry topic, as read. `applied` counts them: 0 of a topic that says nothing."""

    def __init__(self) -> None:
        self.applied = 0
        self._standing: dict[tuple[str, int], Device | Site] = {}

    def apply(self, record: Standing) -> None:
        self.applied += 1
        place = (record.key, record.partition)
        if record.body is None:
            self._standing.pop(place, None)
        else:
            self._standing[place] = record.body

    def partitions_of(self, key: str) -> dict[int, int]:
        """Return the partitions a key stands in, each with the revision there."""
        return {part: body.revision for (at, part), body in self._standing.items() if at == key}

    def keys(self) -> frozenset[str]:
        return frozenset(key for key, _ in self._standing)

    def sites(self) -> dict[str, Site]:
        return {body.site_id: body for body in self._newest().values() if isinstance(body, Site)}

    def devices(self) -> dict[str, Device]:
        return {body.device_id: body for body in self._newest().values() if isinstance(body, Device)}

    def _newest(self) -> Mapping[str, Device | Site]:
        """Return of each key the highest revision; of two equal ones that in the lower partition."""
        newest: dict[str, Device | Site] = {}
        for (key, _), body in sorted(self._standing.items(), key=lambda item: item[0]):
            if key not in newest or newest[key].revision < body.revision:
                newest[key] = body
        return newest


OnStanding = Callable[[RecordTable], Awaitable[None]]


def read_record(record: Record) -> Standing | None:
    """Return what a record of the registry topic says; None for one this release cannot read."""
    if record.key is None:
        return None
    if record.value is None:
        return Standing(key=record.key, partition=record.partition, body=None)
    try:
        body = codec.decode_event(record.headers, record.value).body
    except ContractError as error:
        log.warning("registry.record_refused", key=record.key, reason=str(error))
        return None
    if not isinstance(body, Device | Site):
        return None
    return Standing(key=record.key, partition=record.partition, body=body)


async def follow_registry(kafka: Kafka, pool: str, *, clock: Clock, on_standing: OnStanding) -> None:
    """Read for ever; Kafka may come later. After any failure the city is read anew.

    `on_standing` is told the table when all of the topic was read, and after each change. RetryLater
    from it counts as a failure.
    """
    while True:
        try:
            async with kafka.reader(await kafka.whole(devices(pool)), patient=True) as reader:
                await _follow(reader, on_standing)
        except (RetryLater, PoisonMessage) as error:
            log.warning("registry.unreachable", pool=pool, reason=str(error))
        except OffsetsLost as error:
            log.warning("registry.log_went_back", pool=pool, reason=str(error))
        await clock.sleep(RETRY_S)


async def _follow(reader: Reader, on_standing: OnStanding) -> None:
    table, told = RecordTable(), -1
    while True:
        if reader.caught_up() and told != table.applied:
            told = table.applied
            await on_standing(table)
        for record in await reader.poll(timeout_s=POLL_S):
            standing = read_record(record)
            metrics.REGISTRY_RECORDS_TOTAL.labels("refused" if standing is None else "read").inc()
            if standing is not None:
                table.apply(standing)
