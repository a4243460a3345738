"""How fast cameras are connected to: a rate for the process, and a few handshakes at a time per host.

200 sources at once made a peer time out on all of them; an NVR serves many channels on one host
(cameras.md 5.1).
"""

import asyncio
import random
from typing import Final

from services.runtime.clock import Clock

_JITTER: Final = 0.5


class Slot:
    """The right to shake hands with a host; `release` it at the first media or at the end."""

    def __init__(self, limit: asyncio.Semaphore) -> None:
        self._limit: asyncio.Semaphore | None = limit

    def release(self) -> None:
        limit, self._limit = self._limit, None
        if limit is not None:
            limit.release()


class Ramp:
    """Gives out slots."""

    def __init__(self, *, connects_per_s: float, handshakes_per_host: int, clock: Clock) -> None:
        self._interval_ns = round(1e9 / connects_per_s)
        self._per_host = handshakes_per_host
        self._clock = clock
        self._next_ns = 0
        self._hosts: dict[str, asyncio.Semaphore] = {}

    async def slot(self, host: str) -> Slot:
        """Wait for a turn."""
        limit = self._hosts.setdefault(host, asyncio.Semaphore(self._per_host))
        await limit.acquire()
        try:
            await self._clock.sleep(self._wait_s())
        except asyncio.CancelledError:
            limit.release()
            raise
        return Slot(limit)

    def _wait_s(self) -> float:
        now_ns = self._clock.monotonic_ns()
        due_ns = max(now_ns, self._next_ns)
        self._next_ns = due_ns + self._interval_ns
        jitter_ns = random.uniform(0.0, _JITTER) * self._interval_ns  # noqa: S311 - jitter, no secret
        return 0.0 if due_ns == now_ns else (due_ns - now_ns + jitter_ns) / 1e9
