"""Asks processes how they are: listening, ready to serve, recording, or standing still."""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import Final

import aiohttp
import msgspec
from msgspec import Struct

from services.onebox.ports import LOOPBACK
from services.runtime.clock import Clock
from services.runtime.errors import RetryLater

READY_EVERY_S: Final = 0.25
ALIVE_EVERY_S: Final = 5.0
ALIVE_MISSES_MAX: Final = 3
ANSWER_S: Final = 3.0
REASON_MAX: Final = 300


async def wait_ready(ops_ports: Mapping[str, int], *, clock: Clock, timeout_s: float) -> None:
    """Return when every service says it is ready.

    Raises:
        RetryLater: names those that are not, each with the reason it gives.
    """
    waiting = dict.fromkeys(ops_ports, "no answer")
    deadline_ns = clock.monotonic_ns() + round(timeout_s * 1e9)
    async with _session() as session:
        while waiting:
            for name in list(waiting):
                status, text = await _ask(session, ops_ports[name], "readyz")
                if status == 200:
                    del waiting[name]
                elif status is not None:
                    waiting[name] = text[:REASON_MAX]
            if waiting and clock.monotonic_ns() > deadline_ns:
                reasons = "; ".join(f"{name}: {reason}" for name, reason in waiting.items())
                raise RetryLater(f"not ready after {timeout_s:.0f} s: {reasons}")
            if waiting:
                await clock.sleep(READY_EVERY_S)


class _Camera(Struct, frozen=True):
    id: str
    state: str | None
    epoch: int | None


class _IngestStatus(Struct, frozen=True):
    cameras: list[_Camera]


async def wait_listening(ports: Mapping[str, int], *, clock: Clock, timeout_s: float) -> None:
    """Return when each program takes connections on its port.

    Raises:
        RetryLater: names those that do not.
    """
    deadline_ns = clock.monotonic_ns() + round(timeout_s * 1e9)
    waiting = dict(ports)
    while waiting := {name: port for name, port in waiting.items() if not await _listens(port)}:
        if clock.monotonic_ns() > deadline_ns:
            named = ", ".join(f"{name} (port {port})" for name, port in waiting.items())
            raise RetryLater(f"not listening after {timeout_s:.0f} s: {named}")
        await clock.sleep(READY_EVERY_S)


async def wait_recording(
    ingest_ops_port: int, cameras: Collection[str], *, clock: Clock, timeout_s: float
) -> frozenset[str]:
    """Return when a key picture of each camera was seen and is being recorded, or late; return those that are not."""
    deadline_ns = clock.monotonic_ns() + round(timeout_s * 1e9)
    waiting = frozenset(cameras)
    async with _session() as session:
        while waiting := waiting - await _recording(session, ingest_ops_port):
            if clock.monotonic_ns() > deadline_ns:
                break
            await clock.sleep(READY_EVERY_S)
    return waiting


async def watch_alive(
    ops_ports: Mapping[str, int],
    *,
    pids: Callable[[], Mapping[str, int]],
    clock: Clock,
    stuck: Callable[[str, str], Awaitable[None] | None],
) -> None:
    """Call `stuck` for a service that did not say it is alive three times in a row.

    It is given what the service said last. A process that was started anew has all its time again: `pids`
    gives the process ids of now. Runs until cancelled.
    """
    misses = dict.fromkeys(ops_ports, 0)
    now = pids()
    async with _session() as session:
        while True:
            await clock.sleep(ALIVE_EVERY_S)
            statuses = await asyncio.gather(*(_ask(session, port, "healthz") for port in ops_ports.values()))
            before, now = now, pids()
            for name, (status, said) in zip(ops_ports, statuses, strict=True):
                is_new = now.get(name) != before.get(name)
                misses[name] = 0 if status == 200 or is_new else misses[name] + 1
                if misses[name] >= ALIVE_MISSES_MAX:
                    misses[name] = 0
                    if (waiting := stuck(name, said[:REASON_MAX] or "no answer")) is not None:
                        await waiting


async def _listens(port: int) -> bool:
    try:
        async with asyncio.timeout(ANSWER_S):
            _, writer = await asyncio.open_connection(LOOPBACK, port)
    except (OSError, TimeoutError):
        return False
    writer.close()
    return True


async def _recording(session: aiohttp.ClientSession, port: int) -> frozenset[str]:
    """Return the cameras that have an epoch: it is claimed after the first key picture."""
    status, text = await _ask(session, port, "statusz")
    if status != 200:
        return frozenset()
    cameras = msgspec.json.decode(text, type=_IngestStatus).cameras
    return frozenset(one.id for one in cameras if one.state == "recording" and one.epoch is not None)


def _session() -> aiohttp.ClientSession:
    return aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=ANSWER_S))


async def _ask(session: aiohttp.ClientSession, port: int, what: str) -> tuple[int | None, str]:
    try:
        async with session.get(f"http://{LOOPBACK}:{port}/{what}") as answer:
            return answer.status, (await answer.text()).strip()
    except (aiohttp.ClientError, TimeoutError):
        return None, ""
