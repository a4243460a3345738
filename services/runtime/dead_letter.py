"""Dead letters: a record that can never be handled goes to `<topic>.dlq`, up to a limit.

The limits are pure; `DeadLetters.put` returns when the letter is acknowledged, so that the caller may
commit past the record only then (kafka.md 11.1).
"""

from collections import deque
from dataclasses import dataclass
from typing import Final

import structlog

from services.contracts.topics import VIDEO
from services.runtime.clock import Clock
from services.runtime.kafka_port import Headers, Outgoing, Place, Producer, Record

log = structlog.get_logger()
VIDEO_BYTES_KEPT: Final = 1024
VALUE_BYTES_KEPT: Final = 192 * 1024
HEADER_BYTES_KEPT: Final = 32 * 1024
RUN_MAX: Final = 20
WINDOW: Final = 10_000
RATIO_MAX: Final = 0.01


class TooManyDeadLetters(Exception):
    """A whole release or producer is at fault: stop, alarm, commit nothing further."""

    def __init__(self, place: Place, reason: str) -> None:
        super().__init__(f"{place.topic}/{place.partition}: {reason}")
        self.place = place


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How many are borne per partition: in a row, and of the last `window` records."""

    run_max: int = RUN_MAX
    window: int = WINDOW
    ratio_max: float = RATIO_MAX


class _Tally:
    """The last outcomes of one partition, as the positions of its dead letters."""

    __slots__ = ("handled", "letters", "run")

    def __init__(self) -> None:
        self.handled = 0
        self.letters: deque[int] = deque()
        self.run = 0

    def count(self, *, dead: bool, window: int) -> None:
        self.handled += 1
        self.run = self.run + 1 if dead else 0
        if dead:
            self.letters.append(self.handled)
        while self.letters and self.letters[0] <= self.handled - window:
            self.letters.popleft()


USUAL: Final = Limits()


class DeadLetters:
    """The dead letters of one consumer. `limits` None: however many come, the records behind them are handled."""

    def __init__(self, producer: Producer, *, clock: Clock, version: str, limits: Limits | None = USUAL) -> None:
        self._producer = producer
        self._clock = clock
        self._version = version
        self._limits = limits or USUAL
        self._stops = limits is not None
        self._tallies: dict[Place, _Tally] = {}

    def handled(self, place: Place) -> None:
        """Count a record that was handled well."""
        self._tally(place).count(dead=False, window=self._limits.window)

    def forget(self, places: frozenset[Place]) -> None:
        """Forget partitions that were revoked."""
        for place in places:
            self._tallies.pop(place, None)

    async def put(self, record: Record, reason: str) -> None:
        """Send the letter and wait for its acknowledgement.

        Raises:
            TooManyDeadLetters: beyond a limit; this record was not sent.
            RetryLater: no acknowledgement; do not commit past the record.
        """
        place = record.place
        too_many = self._too_many(place)
        if too_many and self._stops:
            raise TooManyDeadLetters(place, too_many)
        if too_many:
            log.error("dead_letter.too_many", topic=record.topic, partition=record.partition, reason=too_many)
        await self._producer.send(letter(record, reason, version=self._version, now_ms=self._clock.now_us() // 1000))
        self._tally(place).count(dead=True, window=self._limits.window)
        log.warning(
            "dead_letter.written", topic=record.topic, partition=record.partition, offset=record.offset, reason=reason
        )

    def _too_many(self, place: Place) -> str:
        tally = self._tally(place)
        if tally.run >= self._limits.run_max:
            return f"{tally.run} dead letters in a row"
        borne = max(self._limits.run_max, self._limits.ratio_max * self._limits.window)
        if len(tally.letters) >= borne:
            return f"{len(tally.letters)} dead letters in the last {self._limits.window} records"
        return ""

    def _tally(self, place: Place) -> _Tally:
        return self._tallies.setdefault(place, _Tally())


def letter(record: Record, reason: str, *, version: str, now_ms: int) -> Outgoing:
    """Return the dead letter of a record: its coordinates, the reason and the beginning of its value.

    Of video only the first KiB is kept, and no `init`: pictures are personal data.
    """
    kept = VIDEO_BYTES_KEPT if record.topic == VIDEO.name else VALUE_BYTES_KEPT
    return Outgoing(
        topic=f"{record.topic}.dlq",
        key=record.key or "",
        value=None if record.value is None else record.value[:kept],
        headers=_original(record) + _coordinates(record, reason, version),
        timestamp_ms=now_ms,
    )


def _original(record: Record) -> Headers:
    headers: Headers = ()
    room = HEADER_BYTES_KEPT
    for name, content in record.headers:
        room -= len(name) + len(content)
        if room < 0:
            break
        if name != "init":
            headers += ((name, content),)
    return headers


def _coordinates(record: Record, reason: str, version: str) -> Headers:
    return (
        ("dlq_topic", record.topic.encode()),
        ("dlq_partition", str(record.partition).encode()),
        ("dlq_offset", str(record.offset).encode()),
        ("dlq_reason", reason.encode()[:1024]),
        ("dlq_value_bytes", str(len(record.value or b"")).encode()),
        ("dlq_version", version.encode()),
    )
