"""Ends tasks for sure. One cancellation can be lost inside a client library while it connects."""

import asyncio
from collections.abc import Collection
from typing import Any, Final

import structlog

log = structlog.get_logger()

_AGAIN_S: Final = 1.0
_TRIES_MAX: Final = 5


async def end(tasks: Collection["asyncio.Task[Any]"]) -> None:
    """Cancel until all are done; an error of one of them is left for its owner to see.

    Seen: a producer that was cancelled during aiokafka's `start` went on and waited for ever.
    """
    for _ in range(_TRIES_MAX):
        left = [task for task in tasks if not task.done()]
        if not left:
            return
        for task in left:
            task.cancel()
        await asyncio.wait(left, timeout=_AGAIN_S)
    log.error("service.tasks_would_not_end", names=[task.get_name() for task in tasks if not task.done()])
