"""A reader of partitions without a group, with offsets kept under a group's name if asked.

A reader never joins a group, so that guard 10 (a failed `getmany` spoils the poll interval) does
not touch it; a failed client is replaced where it stood.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import structlog
from aiokafka import AIOKafkaConsumer
from aiokafka.errors import KafkaError, OffsetOutOfRangeError

from services.runtime.clock import Clock
from services.runtime.errors import OffsetsLost, RetryLater
from services.runtime.kafka import translate
from services.runtime.kafka_port import Place, Record, Start

log = structlog.get_logger()
REOPEN_EVERY_S: Final = 0.5


class AioReader:
    """Keeps its own positions: aiokafka forgets them with each new assignment."""

    def __init__(self, make: Callable[[], AIOKafkaConsumer], *, clock: Clock, name: str) -> None:
        self._make = make
        self._clock = clock
        self._name = name
        self._client: Any = None
        self._positions: dict[Place, int] = {}
        self._behind: dict[Place, int] = {}

    async def open(self, starts: Mapping[Place, int | Start]) -> None:
        client = self._make()
        await translate.start(client, self._name)
        self._client = client
        try:
            await self.assign(starts)
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            await translate.stop(client, self._name)

    async def assign(self, starts: Mapping[Place, int | Start]) -> None:
        beginnings = await self._looked_up("beginning_offsets", starts, Start.BEGINNING)
        ends = await self._looked_up("end_offsets", starts, None)
        # Nothing may wait between assign and seek: a poll beside us would meet partitions without a position.
        self._open_client().assign([translate.to_raw(place) for place in starts])
        by_start = {Start.BEGINNING: beginnings, Start.END: ends}
        for place, start in starts.items():
            position = self._positions.get(place)
            if position is None:
                position = start if isinstance(start, int) else by_start[start][place]
            self._client.seek(translate.to_raw(place), position)
            self._positions[place] = position
        for gone in self._positions.keys() - starts.keys():
            del self._positions[gone]
        self._behind = {place: end for place, end in ends.items() if self._positions[place] < end}

    async def _looked_up(
        self, call: str, starts: Mapping[Place, int | Start], only: Start | None
    ) -> dict[Place, int]:  # fmt: skip
        wanted = [translate.to_raw(place) for place, start in starts.items() if only in (None, start)]
        if not wanted:
            return {}
        found = await translate.answered(getattr(self._open_client(), call)(wanted), call)
        return {translate.to_place(raw): offset for raw, offset in found.items()}

    async def poll(self, *, timeout_s: float) -> Sequence[Record]:
        if self._client is None and not await self._reopened(timeout_s):
            return []
        try:
            got = await self._client.getmany(timeout_ms=round(timeout_s * 1000))
        except OffsetOutOfRangeError as error:
            await self._lost(error)
            return []
        except KafkaError as error:
            log.warning("kafka.reader_replaced", client=self._name, error=type(error).__name__)
            await self.close()
            return []
        records = [translate.to_record(raw) for batch in got.values() for raw in batch]
        for raw, batch in got.items():
            self._positions[translate.to_place(raw)] = batch[-1].offset + 1
        if self._behind:
            await self._count_behind()
        return records

    async def _count_behind(self) -> None:
        for place, end in list(self._behind.items()):
            # Compaction may have taken the last records: aiokafka's position passes over them.
            if await self._client.position(translate.to_raw(place)) >= end:
                del self._behind[place]

    async def _lost(self, error: OffsetOutOfRangeError) -> None:
        for raw, wanted in error.args[0].items():
            place = translate.to_place(raw)
            try:
                found = await self._looked_up("beginning_offsets", {place: Start.BEGINNING}, None)
            except RetryLater as unanswered:  # the next fetch is out of range again
                log.warning("kafka.beginning_unknown", client=self._name, error=str(unanswered))
                await self._clock.sleep(REOPEN_EVERY_S)
                return
            self._positions[place] = found[place]
            self._client.seek(raw, found[place])
            raise OffsetsLost(place.topic, place.partition, wanted, found[place]) from error

    async def _reopened(self, timeout_s: float) -> bool:
        try:
            await self.open(dict(self._positions))
        except RetryLater as error:
            log.warning("kafka.reader_waits", client=self._name, error=str(error))
            await self._clock.sleep(max(timeout_s, REOPEN_EVERY_S))
            return False
        return True

    def _open_client(self) -> Any:
        if self._client is None:
            raise RetryLater("the client is being replaced")
        return self._client

    def positions(self) -> Mapping[Place, int]:
        return dict(self._positions)

    def caught_up(self) -> bool:
        return not self._behind

    async def commit(self, positions: Mapping[Place, int]) -> None:
        await translate.commit(self._open_client(), positions)

    async def committed(self, places: Sequence[Place]) -> Mapping[Place, int | None]:
        client = self._open_client()
        return {
            place: await translate.answered(client.committed(translate.to_raw(place)), "committed") for place in places
        }
