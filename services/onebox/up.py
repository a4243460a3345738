"""`safealley up`: runs one box for a person at a terminal, until Ctrl-C."""

import asyncio
import contextlib
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path

from rich.console import Console
from rich.table import Table

from services.onebox.box import OneBox
from services.onebox.durable import is_full, reason
from services.onebox.endpoints import Endpoints
from services.onebox.layout import PortChoice
from services.runtime.clock import SystemClock
from services.runtime.errors import RetryLater, SettingsError

Then = Callable[[OneBox, asyncio.Event], Awaitable[int]]
"""What a demo does once all is ready; the event is set when somebody wants to stop."""


def run_up(*, data: Path, kafka: str | None = None, ports: PortChoice = "default") -> int:
    """Run one box until Ctrl-C; return the exit status."""
    console = Console(highlight=False, soft_wrap=True)
    box = OneBox(
        data, kafka=kafka, ports=ports, clock=SystemClock(), say=lambda line: console.print(line, markup=False)
    )
    return run_box(box, console)


def run_box(box: OneBox, console: Console, *, then: Then | None = None) -> int:
    """Start a box, show it, run `then` or wait for Ctrl-C, and stop it; return the exit status.

    A second Ctrl-C kills what still runs.
    """
    try:
        return asyncio.run(_run_box(box, console, then))
    except (SettingsError, RetryLater, OSError) as error:
        return status_of(error)


def status_of(error: Exception) -> int:
    """Say on stderr what is wrong and what cures it; return the exit status.

    Raises:
        OSError: no full disk, but a mistake of ours: its traceback is wanted.
    """
    if isinstance(error, OSError) and not is_full(error):
        raise error
    Console(stderr=True, highlight=False, soft_wrap=True).print(reason(error), style="red", markup=False)
    return 2 if isinstance(error, SettingsError) else 1


async def _run_box(box: OneBox, console: Console, then: Then | None) -> int:
    stopping = asyncio.Event()
    _on_signals(stopping, box)
    starting = asyncio.create_task(_start(box, console))
    told = asyncio.create_task(stopping.wait())
    try:
        await asyncio.wait([starting, told], return_when=asyncio.FIRST_COMPLETED)
        if not starting.done():
            starting.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await starting
            return 0
        await starting
        if then is not None:
            return await then(box, stopping)
        await box.run(stopping)
        return 0
    finally:
        told.cancel()
        begun = bool(box.processes)
        if begun:
            console.print("stopping")
        await box.stop()
        if begun:
            console.print("stopped")


async def _start(box: OneBox, console: Console) -> None:
    await box.start()
    await box.wait_ready()
    console.print(table(box.endpoints()))
    console.print(f"console: [bold]{box.endpoints().gateway}/[/]   Ctrl-C stops everything")


def _on_signals(stopping: asyncio.Event, box: OneBox) -> None:
    def stop() -> None:
        if stopping.is_set():
            box.kill()
        stopping.set()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, stop)


def table(endpoints: Endpoints) -> Table:
    """Return what a person wants to see of a running box."""
    shown = Table("what", "address", "process", box=None)
    address = {
        "gateway": endpoints.gateway,
        "ingest": f"{endpoints.device_door} (device door)",
        "archive": endpoints.archive,
        "kafka": endpoints.kafka,
    }
    for name, pid in endpoints.processes.items():
        shown.add_row(name, address.get(name, ""), str(pid))
    return shown
