"""Finds a group's client that is alive but stuck (guard 18, kafka.md 3.2).

Looks at local figures only, once a second; before it says "stuck" it asks the cluster through a
fresh connection, so that an absent Kafka is not taken for a stuck client.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

from services.runtime.clock import Clock
from services.runtime.kafka import translate
from services.runtime.kafka_port import Place

CHECK_EVERY_NS: Final = 1_000_000_000
STUCK_NS: Final = 30_000_000_000
UNASSIGNED_NS: Final = 240_000_000_000
"""Longer than 2 x (session + rebalance) of every profile."""


class ClientStuck(RuntimeError):
    """The client does not move although the cluster answers: end the process (alerting, archive)."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.stacks = task_stacks()


def task_stacks() -> list[str]:
    """Return where each task of this loop stands, innermost frame, for the log."""
    lines = []
    for task in asyncio.all_tasks():
        frames = task.get_stack(limit=1)
        at = f"{frames[-1].f_code.co_qualname}:{frames[-1].f_lineno}" if frames else "no frame"
        lines.append(f"{task.get_name()} {at}")
    return sorted(lines)


class Progress:
    """Remembers when each partition last moved."""

    def __init__(self, clock: Clock, answers: Callable[[], Awaitable[bool]]) -> None:
        self._clock = clock
        self._answers = answers
        self._moved: dict[Place, tuple[int, int]] = {}
        self._unassigned_since_ns: int | None = clock.monotonic_ns()
        self._checked_ns = clock.monotonic_ns()

    def rebalancing(self) -> None:
        self._moved.clear()
        if self._unassigned_since_ns is None:
            self._unassigned_since_ns = self._clock.monotonic_ns()

    def assigned(self) -> None:
        self._unassigned_since_ns = None

    def moved(self, place: Place) -> None:
        self._moved.pop(place, None)

    async def check(self, client: Any, watched: Sequence[Place]) -> None:
        """Compare the positions with what they were.

        Raises:
            ClientStuck: no move for 30 s with records waiting, or no assignment for 4 minutes,
                while the cluster answers.
        """
        now_ns = self._clock.monotonic_ns()
        if now_ns - self._checked_ns < CHECK_EVERY_NS:
            return
        self._checked_ns = now_ns
        reason = self._unassigned(now_ns)
        for place in watched:
            if not reason and await self._still(client, place, now_ns):
                reason = f"{place.topic}/{place.partition} has not moved"
        if not reason:
            return
        if await self._answers():
            raise ClientStuck(reason)
        self._moved.clear()  # Kafka is away: count anew once it is back
        if self._unassigned_since_ns is not None:
            self._unassigned_since_ns = now_ns

    def _unassigned(self, now_ns: int) -> str:
        since_ns = self._unassigned_since_ns
        return "no assignment" if since_ns is not None and now_ns - since_ns > UNASSIGNED_NS else ""

    async def _still(self, client: Any, place: Place, now_ns: int) -> bool:
        raw = translate.to_raw(place)
        if raw not in client.assignment():
            return False
        end = client.highwater(raw)
        position = await client.position(raw)
        before = self._moved.get(place)
        if end is None or position >= end or before is None or before[0] != position:
            self._moved[place] = (position, now_ns)
            return False
        return now_ns - before[1] > STUCK_NS
