"""Which cameras are ours, and the claim that says so to everybody (kafka.md 10).

`StaticAssigner` is one box: all cameras, up to what one process may carry. It claims like any other
assigner does, so that a second process, a restart or a stray old one is fenced by the epoch.
"""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Protocol

import structlog

from services.contracts.claim import Claim
from services.contracts.device import Device
from services.contracts.topics import VIDEO
from services.ingest import metrics
from services.ingest.registry import bitrate_bps
from services.runtime.claims import ClaimsLog
from services.runtime.clock import Clock
from services.runtime.errors import OffsetsLost, RetryLater
from services.runtime.kafka_port import Kafka, Start
from services.runtime.partitioner import partition_of

log = structlog.get_logger()

_RETRY_S: Final = 1.0
_POLL_S: Final = 0.5
LOOK_NS: Final = 10_000_000_000
"""A recorded camera has a fragment each second: in this time one came, if there are any."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """Cameras that are ours, and those for which there is no room."""

    ours: tuple[Device, ...]
    unplaced: tuple[Device, ...]


class Assigner(Protocol):
    """Decides which cameras this process records."""

    def place(self, cameras: Iterable[Device]) -> Placement:
        """Return the placement; the same cameras give the same answer."""


class StaticAssigner:
    """Everything is ours, by id, until a limit is reached; what is beyond it is counted and alarmed."""

    def __init__(self, *, max_streams: int, max_mbps: int) -> None:
        self._max_streams = max_streams
        self._max_bps = max_mbps * 1_000_000

    def place(self, cameras: Iterable[Device]) -> Placement:
        ours: list[Device] = []
        unplaced: list[Device] = []
        streams = bps = 0
        for camera in sorted(cameras, key=lambda one: one.device_id):
            wanted = 2 if camera.record == "both" else 1
            if streams + wanted > self._max_streams or bps + bitrate_bps(camera) > self._max_bps:
                unplaced.append(camera)
                continue
            ours.append(camera)
            streams += wanted
            bps += bitrate_bps(camera)
        return Placement(ours=tuple(ours), unplaced=tuple(unplaced))


class CameraClaim:
    """The claim of one camera, shared by its streams: written once, after the first key picture."""

    def __init__(self, camera_id: str, claims: ClaimsLog, *, owner: str, live_url: str, clock: Clock) -> None:
        self._camera_id = camera_id
        self._claims = claims
        self._owner = owner
        self._live_url = live_url
        self._clock = clock
        self._lock = asyncio.Lock()
        self._claim: Claim | None = None

    async def epoch(self) -> int:
        """Return the epoch of our claim, claiming if nobody has; waits as long as Kafka is away."""
        async with self._lock:
            while self._claim is None:
                try:
                    await self._claims.caught_up()
                    self._claim = await self._claims.claim(self._camera_id, owner=self._owner, live_url=self._live_url)
                except RetryLater as error:
                    metrics.CLAIMS.labels("again").inc()
                    log.info("ownership.claim_waits", camera_id=self._camera_id, reason=str(error))
                    await self._clock.sleep(_RETRY_S)
            metrics.CLAIMS.labels("claimed").inc()
            return self._claim.epoch

    def superseded(self) -> bool:
        """Tell whether somebody claimed this camera after us."""
        return self._claim is not None and self._claims.superseded(self._claim)


class FootageWatch:
    """Whether somebody records a camera: not what the claims say, but what comes to stand in `video`."""

    def __init__(self, kafka: Kafka, *, clock: Clock) -> None:
        self._kafka = kafka
        self._clock = clock

    async def unrecorded(self, cameras: set[str]) -> set[str]:
        """Return those of these cameras of which no footage arrives now.

        Raises:
            RetryLater: Kafka is away, so nobody can tell.
        """
        left = set(cameras)
        deadline_ns = self._clock.monotonic_ns() + LOOK_NS
        ends = await self._kafka.whole(VIDEO.name, start=Start.END)
        theirs = {partition_of(camera_id, len(ends)) for camera_id in cameras}
        # All of `video` would be the bandwidth of the whole city, on the loop that records.
        async with self._kafka.reader({at: end for at, end in ends.items() if at.partition in theirs}) as reader:
            while left and self._clock.monotonic_ns() < deadline_ns:
                try:
                    left -= {record.key for record in await reader.poll(timeout_s=_POLL_S) if record.value}
                except OffsetsLost as error:
                    raise RetryLater("`video` went back while it was looked at") from error
        return left
