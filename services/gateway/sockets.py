"""Ending a console's socket whatever its other end does. Protocols stand elsewhere."""

import asyncio
from typing import Final

import structlog
from aiohttp import web

CLOSE_S: Final = 1.0

log = structlog.get_logger()


async def close(socket: web.WebSocketResponse, transport: asyncio.Transport | None, code: int) -> bool:
    """Close with a code; a socket that takes nothing is cut, with what waits in it. Tell whether it took the code."""
    try:
        async with asyncio.timeout(CLOSE_S):
            await socket.close(code=code)
    except (TimeoutError, ConnectionError, RuntimeError):
        # Without this what was not taken would wait in the transport for as long as the other end stands still.
        if transport is not None:
            transport.abort()
        return False
    return True


def cut_when_writer_fails(writer: asyncio.Task[None], transport: asyncio.Transport | None) -> None:
    """End the reader too when the writer ends by a mistake of ours: the console then comes back."""

    def ended(task: asyncio.Task[None]) -> None:
        if task.cancelled() or (error := task.exception()) is None:
            return
        log.error("sockets.writer_failed", writer=task.get_name(), exc_info=error)
        if transport is not None:
            transport.abort()

    writer.add_done_callback(ended)
