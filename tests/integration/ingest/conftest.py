"""Cameras on loopback and a sink that can be waited on."""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

import pytest

from services.ingest.media_types import (
    ClosedFragment,
    Finding,
    Hole,
    LiveFragment,
    PacketLoss,
    RunEnd,
    SessionPhase,
)
from services.simulators import clip_source
from services.simulators.camera import Camera, CameraServer, Credentials
from services.simulators.clip_source import Clip


@dataclass
class WaitingSink:
    """Keeps everything; `until` waits for a condition over it."""

    fragments: list[tuple[ClosedFragment, bytes]] = field(default_factory=list)
    events: list[object] = field(default_factory=list)
    phases: list[SessionPhase] = field(default_factory=list)
    _changed: asyncio.Event = field(default_factory=asyncio.Event)

    async def until(self, condition: Callable[[], bool], *, within_s: float = 15.0) -> None:
        async with asyncio.timeout(within_s):
            while not condition():
                self._changed.clear()
                await self._changed.wait()

    @property
    def units(self) -> int:
        return sum(fragment.units for fragment, _ in self.fragments)

    def _note(self, event: object) -> None:
        self.events.append(event)
        self._changed.set()

    def phase(self, phase: SessionPhase, detail: str) -> None:
        del detail
        self.phases.append(phase)
        self._changed.set()

    def fragment(self, fragment: ClosedFragment) -> None:
        self.fragments.append((fragment, bytes(fragment.data)))
        fragment.release()
        self._changed.set()

    def live(self, fragment: LiveFragment) -> None:
        self._note(fragment)

    def run_ended(self, end: RunEnd) -> None:
        self._note(end)

    def loss(self, loss: PacketLoss) -> None:
        self._note(loss)

    def hole(self, hole: Hole) -> None:
        self._note(hole)

    def finding(self, finding: Finding) -> None:
        self._note(finding)


@pytest.fixture(scope="session")
def pattern() -> Clip:
    return clip_source.pattern(width=128, height=96, bitrate_bps=300_000, seconds=1)


@dataclass
class Street:
    """A running simulator with one camera."""

    camera: Camera
    server: CameraServer
    port: int

    @property
    def url(self) -> str:
        return f"rtsp://127.0.0.1:{self.port}/{self.camera.name}"


@pytest.fixture
async def street(pattern: Clip) -> AsyncIterator[Street]:
    server = CameraServer([Camera("cam-1", pattern)], credentials=Credentials(username="ann", password="p@ss%w"))
    port = await server.start()
    yield Street(camera=server.cameras["cam-1"], server=server, port=port)
    await server.stop()


@pytest.fixture
def waiting_sink() -> WaitingSink:
    return WaitingSink()
