"""Whom a start waits for, and how long."""

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator
from typing import Any

import msgspec
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from services.onebox import health
from services.onebox.ports import LOOPBACK
from services.runtime.clock import FakeClock, SystemClock
from services.runtime.errors import RetryLater

CLOCK = SystemClock()


class Ingest:
    """Its ops port, which says of one camera after the other what it does."""

    def __init__(self) -> None:
        self.answers: list[list[dict[str, Any]]] = []
        self.port = 0

    async def statusz(self, _request: web.Request) -> web.Response:
        cameras = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        return web.Response(body=msgspec.json.encode({"service": "ingest", "cameras": cameras}))


@pytest.fixture
async def ingest() -> AsyncIterator[Ingest]:
    ingest, app = Ingest(), web.Application()
    app.router.add_get("/statusz", ingest.statusz)
    server = TestServer(app, host=LOOPBACK)
    await server.start_server()
    ingest.port = server.port or 0
    yield ingest
    await server.close()


def camera(name: str, state: str | None, epoch: int | None) -> dict[str, Any]:
    return {"id": name, "stream": "main", "state": state, "detail": "", "since_us": 1, "epoch": epoch}


async def test_a_camera_records_once_its_key_picture_was_seen_and_claimed(ingest: Ingest) -> None:
    ingest.answers = [
        [],
        [camera("cam-1", "connecting", None), camera("cam-2", None, None)],
        [camera("cam-1", "recording", None), camera("cam-2", "recording", 7)],
        [camera("cam-1", "recording", 7), camera("cam-2", "recording", 7)],
    ]
    late = await health.wait_recording(ingest.port, ["cam-1", "cam-2"], clock=CLOCK, timeout_s=10)
    assert (late, len(ingest.answers)) == (frozenset(), 1)


async def test_a_camera_that_does_not_record_in_time_is_named(ingest: Ingest) -> None:
    ingest.answers = [[camera("cam-1", "recording", 7), camera("cam-2", "offline", None)]]
    assert await health.wait_recording(ingest.port, ["cam-1", "cam-2"], clock=CLOCK, timeout_s=0) == {"cam-2"}


class Rounds(FakeClock):
    """A clock whose every sleep is over at once, and is counted; cancels who would sleep once more."""

    def __init__(self, rounds_max: int) -> None:
        super().__init__()
        self.done = 0
        self._rounds_max = rounds_max

    async def sleep(self, seconds: float) -> None:  # noqa: ARG002 - however long
        self.done += 1
        if self.done > self._rounds_max:
            raise asyncio.CancelledError


@pytest.fixture
def silent_port() -> Iterator[int]:
    """Give a port at which nobody answers."""
    with socket.socket() as held:
        held.bind((LOOPBACK, 0))
        yield held.getsockname()[1]


@pytest.mark.parametrize(
    ("restarted_before", "stuck_at"),
    [(None, [3]), (3, [6])],
    ids=["the same process", "started anew after two misses"],
)
async def test_a_process_stands_still_after_three_misses_of_its_own(
    silent_port: int, restarted_before: int | None, stuck_at: list[int]
) -> None:
    clock = Rounds(stuck_at[-1])
    stuck: list[int] = []

    def pids() -> dict[str, int]:
        return {"ingest": 1 if restarted_before is None or clock.done < restarted_before else 2}

    with pytest.raises(asyncio.CancelledError):
        await health.watch_alive(
            {"ingest": silent_port}, pids=pids, clock=clock, stuck=lambda *_: stuck.append(clock.done)
        )
    assert stuck == stuck_at


async def test_a_program_that_only_holds_its_port_does_not_listen(ingest: Ingest) -> None:
    await health.wait_listening({"cameras": ingest.port}, clock=CLOCK, timeout_s=0)
    with socket.socket() as held:
        held.bind((LOOPBACK, 0))
        port = held.getsockname()[1]
        with pytest.raises(RetryLater, match=rf"not listening after 0 s: cameras \(port {port}\)"):
            await health.wait_listening({"cameras": port}, clock=CLOCK, timeout_s=0)
