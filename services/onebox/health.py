"""Asks services how they are, over their ops ports: ready to serve, or standing still."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

import aiohttp

from services.onebox.ports import LOOPBACK
from services.runtime.clock import Clock
from services.runtime.errors import RetryLater

READY_EVERY_S: Final = 0.25
ALIVE_EVERY_S: Final = 5.0
ALIVE_MISSES_MAX: Final = 3
ANSWER_S: Final = 3.0


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
                    waiting[name] = text
            if waiting and clock.monotonic_ns() > deadline_ns:
                reasons = "; ".join(f"{name}: {reason}" for name, reason in waiting.items())
                raise RetryLater(f"not ready after {timeout_s:.0f} s: {reasons}")
            if waiting:
                await clock.sleep(READY_EVERY_S)


async def watch_alive(
    ops_ports: Mapping[str, int], *, clock: Clock, stuck: Callable[[str, str], Awaitable[None] | None]
) -> None:
    """Call `stuck` for a service that did not say it is alive three times in a row.

    It is given what the service said last. Runs until cancelled.
    """
    misses = dict.fromkeys(ops_ports, 0)
    async with _session() as session:
        while True:
            await clock.sleep(ALIVE_EVERY_S)
            statuses = await asyncio.gather(*(_ask(session, port, "healthz") for port in ops_ports.values()))
            for name, (status, said) in zip(ops_ports, statuses, strict=True):
                misses[name] = 0 if status == 200 else misses[name] + 1
                if misses[name] >= ALIVE_MISSES_MAX:
                    misses[name] = 0
                    if (waiting := stuck(name, said or "no answer")) is not None:
                        await waiting


def _session() -> aiohttp.ClientSession:
    return aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=ANSWER_S))


async def _ask(session: aiohttp.ClientSession, port: int, what: str) -> tuple[int | None, str]:
    try:
        async with session.get(f"http://{LOOPBACK}:{port}/{what}") as answer:
            return answer.status, (await answer.text())[:300].strip()
    except (aiohttp.ClientError, TimeoutError):
        return None, ""
