"""Sending to and ending a WebSocket whatever its other end does. Protocols stand elsewhere.

No wait for a socket is cancelled here: all that wait until a transport takes more share one future
inside aiohttp, so that cancelling one of them ends the others as if they were cancelled themselves
(seen: a writer ended silently, and its socket stayed open).
"""

import asyncio
import struct
from typing import Final

import structlog
from aiohttp import WSMsgType, web

from services.contracts.console import CLOSE_SEND_STALLED

CLOSE_S: Final = 1.0
_CLOSE_STALLED: Final = struct.pack(">BBH", 0x88, 2, CLOSE_SEND_STALLED)
"""A close frame of RFC 6455 5.5.1: behind everything that still waits, for an end that wakes up in time."""

log = structlog.get_logger()


async def send(
    socket: web.WebSocketResponse,
    transport: asyncio.Transport | None,
    frame: bytes,
    kind: WSMsgType,
    *,
    deadline_s: float,
) -> None:
    """Send one frame.

    Raises:
        TimeoutError: it has not left in time. The socket gets 4008 and is cut a second later.
        ConnectionError: the socket is gone.
    """
    stalled = False

    def stall() -> None:
        nonlocal stalled
        stalled = True
        if transport is not None:
            _end_stalled(transport)

    timer = asyncio.get_running_loop().call_later(deadline_s, stall)
    try:
        await socket.send_frame(frame, kind)
    except ConnectionError:
        if not stalled:
            raise
    finally:
        timer.cancel()
    if stalled:
        raise TimeoutError(f"a frame has not left in {deadline_s} s")


async def close(socket: web.WebSocketResponse, transport: asyncio.Transport | None, code: int) -> bool:
    """Close with a code; a socket that takes nothing is cut, with what waits in it. Tell whether it took the code."""
    closing = asyncio.create_task(_closed(socket, code), name="socket close")
    try:
        await asyncio.wait((closing,), timeout=CLOSE_S)
        if closing.done() and not closing.cancelled() and closing.result():
            return True
        # Else what was not taken would wait in the transport for as long as the other end stands still.
        if transport is not None:
            transport.abort()
        return False
    finally:
        closing.cancel()


def cut_when_writer_fails(writer: asyncio.Task[None], transport: asyncio.Transport | None) -> None:
    """End the reader too when the writer ends by a mistake of ours: the other end then comes back."""

    def ended(task: asyncio.Task[None]) -> None:
        if task.cancelled() or (error := task.exception()) is None:
            return
        log.error("sockets.writer_failed", writer=task.get_name(), exc_info=error)
        if transport is not None:
            transport.abort()

    writer.add_done_callback(ended)


async def _closed(socket: web.WebSocketResponse, code: int) -> bool:
    try:
        await socket.close(code=code)
    except (ConnectionError, RuntimeError):
        return False
    return True


def _end_stalled(transport: asyncio.Transport) -> None:
    if not transport.is_closing():
        transport.write(_CLOSE_STALLED)
    asyncio.get_running_loop().call_later(CLOSE_S, transport.abort)
