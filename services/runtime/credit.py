"""Byte credit: how much may be outstanding at once, served strictly in order of arrival.

Holds counters and waiters only; what is sent or queued belongs to the caller.
"""

import asyncio
from collections import deque


class Credit:
    """So many bytes. An amount above the capacity waits for all of it, so that it is never stuck."""

    __slots__ = ("_waiting", "capacity", "free")

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.free = capacity
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    @property
    def taken(self) -> int:
        return self.capacity - self.free

    @property
    def waiters(self) -> int:
        return len(self._waiting)

    def take_now(self, amount: int) -> bool:
        """Take without waiting, unless there is too little or somebody waits already."""
        amount = min(amount, self.capacity)
        if self._waiting or amount > self.free:
            return False
        self.free -= amount
        return True

    async def take(self, amount: int) -> None:
        """Wait for the amount; the caller sets the deadline."""
        if self.take_now(amount):
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((min(amount, self.capacity), turn))
        try:
            await turn
        except asyncio.CancelledError:
            if turn.cancelled():
                self._serve()
            else:  # granted and cancelled in the same turn of the loop
                self.give(amount)
            raise

    def give(self, amount: int) -> None:
        """Give back what was taken."""
        self.free += min(amount, self.capacity)
        self._serve()

    def _serve(self) -> None:
        while self._waiting:
            amount, turn = self._waiting[0]
            if turn.done():
                self._waiting.popleft()
                continue
            if amount > self.free:
                return
            self._waiting.popleft()
            self.free -= amount
            turn.set_result(None)
