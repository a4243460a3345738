"""Injected time: the only place that reads the host's clocks."""

import asyncio
import time
from typing import Protocol


class Clock(Protocol):
    """Wall time for records, monotonic time for durations, and a sleep that tests can step."""

    def now_us(self) -> int:
        """Return UTC in microseconds since 1970."""

    def monotonic_ns(self) -> int:
        """Return monotonic nanoseconds, for durations inside this process only."""

    async def sleep(self, seconds: float) -> None:
        """Wait; a test's clock returns when it is stepped past."""


class SystemClock:
    """The host's clocks."""

    def now_us(self) -> int:
        return time.time_ns() // 1000

    def monotonic_ns(self) -> int:
        return time.monotonic_ns()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


class FakeClock:
    """A clock that stands still until `advance`; sleepers wake in order of their due time."""

    def __init__(self, now_us: int = 1_777_640_000_000_000) -> None:
        self._start_us = now_us
        self._elapsed_us = 0
        self._sleepers: list[tuple[int, asyncio.Future[None]]] = []

    def now_us(self) -> int:
        return self._start_us + self._elapsed_us

    def monotonic_ns(self) -> int:
        return self._elapsed_us * 1000

    def step_wall(self, by_us: int) -> None:
        """Step the wall clock alone, as a time server does."""
        self._start_us += by_us

    async def sleep(self, seconds: float) -> None:
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        woken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._sleepers.append((self._elapsed_us + round(seconds * 1_000_000), woken))
        await woken

    async def advance(self, seconds: float) -> None:
        """Let `seconds` pass, waking each sleeper at its time and letting it run."""
        end_us = self._elapsed_us + round(seconds * 1_000_000)
        while True:
            due = sorted((at, index) for index, (at, _) in enumerate(self._sleepers) if at <= end_us)
            if not due:
                break
            at_us, index = due[0]
            _, woken = self._sleepers.pop(index)
            self._elapsed_us = max(self._elapsed_us, at_us)
            if not woken.done():
                woken.set_result(None)
            await settle()
        self._elapsed_us = end_us
        await settle()


async def settle(turns: int = 20) -> None:
    """Let everything that is ready run."""
    for _ in range(turns):
        await asyncio.sleep(0)
