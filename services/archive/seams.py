"""Holes that archive itself notices between fragments -> gaps, where nobody else has explained them.

A hole is looked at a few seconds after it was seen, so that ingest's own record on `streams`, which has
the true cause, comes first; what still shows as unknown then becomes a gap (cameras.md 10).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import structlog

from services.archive.catalog import Catalog
from services.archive.history import History
from services.archive.metrics import ArchiveMetrics
from services.contracts.gap import Gap, GapCause, gap_id
from services.contracts.units import StreamName, UtcMicroseconds
from services.runtime.clock import Clock

WRITER: Final = "archive"
WAIT_US: Final = 3_000_000
_UNEXPLAINED: Final = frozenset({"unknown", "pending"})

log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class Seam:
    """A hole between two fragments, and what archive knows of it."""

    camera_id: str
    stream: StreamName
    from_us: UtcMicroseconds
    to_us: UtcMicroseconds
    cause: GapCause
    detail: str
    evidence: dict[str, int | str]


class Seams:
    """Holes waiting to be explained. `explain` blocks: it reads and writes the catalog."""

    def __init__(self, *, history: History, catalog: Catalog, clock: Clock, metrics: ArchiveMetrics) -> None:
        self._history = history
        self._catalog = catalog
        self._clock = clock
        self._metrics = metrics
        self._waiting: list[tuple[int, Seam]] = []

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, seam: Seam) -> None:
        if seam.to_us > seam.from_us:
            self._waiting.append((self._clock.monotonic_ns() + WAIT_US * 1000, seam))

    def due(self) -> tuple[Seam, ...]:
        """Take out those that have waited long enough."""
        now_ns = self._clock.monotonic_ns()
        return self._take(lambda at, _: at <= now_ns)

    def of(self, camera_id: str, stream: StreamName) -> tuple[Seam, ...]:
        """Take out those of one stream: after its next row is written nobody would notice them again."""
        return self._take(lambda _, seam: (seam.camera_id, seam.stream) == (camera_id, stream))

    def all(self) -> tuple[Seam, ...]:
        return self._take(lambda _at, _seam: True)

    def put_back(self, seams: tuple[Seam, ...]) -> None:
        """Keep for later what the catalog did not take."""
        self._waiting += [(self._clock.monotonic_ns() + WAIT_US * 1000, seam) for seam in seams]

    def explain(self, seam: Seam) -> None:
        """Write gaps for what of a hole is neither footage nor gap.

        Raises:
            RetryLater: the catalog is away.
        """
        tiles = self._history.tiles(seam.camera_id, seam.stream, seam.from_us, seam.to_us)
        found = [self._gap(seam, one.from_us, one.to_us) for one in tiles if one.state in _UNEXPLAINED]
        written = self._catalog.add_gaps(found)
        for gap in found:
            log.info("seams.gap_found", camera_id=gap.camera_id, cause=gap.cause, from_us=gap.from_us, to_us=gap.to_us)
        self._metrics.gaps.labels(cause=seam.cause).inc(written)

    def _gap(self, seam: Seam, from_us: UtcMicroseconds, to_us: UtcMicroseconds) -> Gap:
        return Gap(
            gap_id=gap_id(seam.camera_id, seam.stream, from_us),
            camera_id=seam.camera_id,
            stream=seam.stream,
            from_us=from_us,
            to_us=to_us,
            cause=seam.cause,
            detail=seam.detail,
            evidence=seam.evidence,
            side="ours",
            writer=WRITER,
            recorded_at_us=self._clock.now_us(),
        )

    def _take(self, wanted: Callable[[int, Seam], bool]) -> tuple[Seam, ...]:
        taken = tuple(seam for at, seam in self._waiting if wanted(at, seam))
        self._waiting = [(at, seam) for at, seam in self._waiting if not wanted(at, seam)]
        return taken
