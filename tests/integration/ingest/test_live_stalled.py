"""A gateway that has stopped reading: its socket is cut, and it may come back at once."""

import asyncio
import socket as sockets
from collections.abc import Callable
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from services.contracts.device import CameraStream
from services.ingest import live
from services.ingest.live import LiveHub
from services.ingest.media.stills import Stills
from services.ingest.media_types import InitSegment, LiveFragment
from services.runtime.clock import SystemClock
from services.runtime.settings import SecretStore

SEND_S = 0.5
CUT_WITHIN_S = 5.0
"""Less than the ping that would end the socket anyway."""
STREAM = CameraStream(name="main", url="rtsp://127.0.0.1/main", bitrate_bps=2_000_000)
INIT = InitSegment(data=b"ftypmoov", sha256="aa", codec="avc1.64001f", width=640, height=360)


async def test_a_reader_that_stands_still_is_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "SEND_S", SEND_S)
    (tmp_path / "live-relay").write_text("relay")
    hub = LiveHub(secrets=SecretStore(tmp_path), stills=Stills(), clock=SystemClock())
    camera = hub.view("cam-1", STREAM)
    camera.recording()
    app = web.Application()
    hub.add_routes(app)
    runner = web.AppRunner(app, shutdown_timeout=0.05)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}/api/v1/live"
    try:
        async with (
            aiohttp.ClientSession(headers={"Authorization": "Bearer relay"}) as http,
            http.ws_connect(url) as deaf,
        ):
            await deaf.send_json({"op": "sub", "camera": "cam-1", "purpose": "relay", "ch": 1})
            await _until(lambda: bool(camera.viewers))
            _stop_reading(deaf)
            await _flood(camera, until_s=2 * SEND_S)
            await _until(lambda: not hub._windows)
    finally:
        await runner.cleanup()


async def _flood(camera: live.LiveCamera, *, until_s: float) -> None:
    """Offer key pictures, so that one always waits, for longer than a frame has to leave."""
    loop = asyncio.get_running_loop()
    deadline_s = loop.time() + until_s
    while loop.time() < deadline_s:
        camera.live(
            LiveFragment(
                data=bytes(1_000_000), init=INIT, run=0, start_us=1, media_start_90k=0, media_90k=45_000,
                keyframe=True, units=12,
            )
        )  # fmt: skip
        await asyncio.sleep(0.01)


async def _until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(CUT_WITHIN_S):
        while not condition():  # noqa: ASYNC110 - what is waited for happens behind a socket
            await asyncio.sleep(0.01)


def _stop_reading(socket: aiohttp.ClientWebSocketResponse) -> None:
    connection = socket._response.connection
    assert connection is not None
    transport = connection.transport
    assert isinstance(transport, asyncio.Transport)
    transport.get_extra_info("socket").setsockopt(sockets.SOL_SOCKET, sockets.SO_RCVBUF, 4096)
    transport.pause_reading()
