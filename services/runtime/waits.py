"""Waiting with a deadline on an injected clock; work that runs beside a body and ends with it."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Coroutine
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from services.runtime.clock import Clock
from services.runtime.errors import StoppedEarly

T = TypeVar("T")


async def within(seconds: float, wait: Awaitable[T], *, clock: Clock) -> T:
    """Return the result of `wait`, or cancel it.

    Raises:
        TimeoutError: so many seconds of the clock have passed.
    """
    wanted = asyncio.ensure_future(wait)
    alarm = asyncio.ensure_future(clock.sleep(seconds))
    try:
        await asyncio.wait((wanted, alarm), return_when=asyncio.FIRST_COMPLETED)
        if wanted.done():
            return wanted.result()
        raise TimeoutError(f"after {seconds} s")
    finally:
        wanted.cancel()
        alarm.cancel()
        # Not `suppress(CancelledError)` round an await: it would swallow the caller's own cancellation.
        await asyncio.wait((wanted, alarm))


async def unless_stopped(stopping: asyncio.Event, wait: Awaitable[T]) -> T:
    """Return the result of `wait`.

    Raises:
        StoppedEarly: the event is set first; `wait` is cancelled.
    """
    wanted = asyncio.ensure_future(wait)
    told = asyncio.ensure_future(stopping.wait())
    try:
        await asyncio.wait((wanted, told), return_when=asyncio.FIRST_COMPLETED)
        if wanted.done():
            return wanted.result()
        raise StoppedEarly("told to stop")
    finally:
        wanted.cancel()
        told.cancel()
        await asyncio.wait((wanted, told))


async def together(*work: Coroutine[Any, Any, T]) -> list[T]:
    """Return all results in order. The first error ends the others, waits for their end and is raised as it is."""
    try:
        async with asyncio.TaskGroup() as tasks:
            begun = [tasks.create_task(one) for one in work]
    except ExceptionGroup as errors:
        raise errors.exceptions[0] from None
    return [one.result() for one in begun]


async def cancelled(task: asyncio.Task[Any]) -> None:
    """Cancel a task and wait for its end; an error of its own is raised, and so is the caller's cancellation."""
    task.cancel()
    await asyncio.wait((task,))
    if not task.cancelled():
        task.result()


@asynccontextmanager
async def beside(work: Coroutine[Any, Any, None], *, name: str) -> AsyncIterator[None]:
    """Run `work` as long as the body; an error of either ends both and is raised as it is.

    A TaskGroup would wrap the body's own errors, and callers tell them apart by type.
    """
    body = asyncio.current_task()
    task = asyncio.create_task(work, name=name)
    interrupted = False

    def ended(_: asyncio.Task[None]) -> None:
        nonlocal interrupted
        if body is not None and not task.cancelled() and task.exception() is not None:
            interrupted = True
            body.cancel()

    task.add_done_callback(ended)
    try:
        yield
    except asyncio.CancelledError:
        if interrupted and body is not None and body.uncancel() == 0:
            await task  # raises its error
        raise
    finally:
        task.remove_done_callback(ended)
        await cancelled(task)
