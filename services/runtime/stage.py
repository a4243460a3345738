"""What a service is made of: stages that run until stopped, and queues between them, bounded in bytes."""

import asyncio
from collections import deque
from typing import Generic, NamedTuple, Protocol, TypeVar

from services.runtime.credit import Credit

T = TypeVar("T")


class Stage(Protocol):
    """One step of a service. `app.py` runs a list of them and closes them in the order it names."""

    name: str

    async def run(self) -> None:
        """Work until cancelled; an error that leaves here ends the process."""


class QueueStatistics(NamedTuple):
    """Figures of a queue. `lost` counts items that were refused or dropped, never silently."""

    depth_items: int
    depth_bytes: int
    capacity_bytes: int
    lost_items: int
    lost_bytes: int


class QueueHook(Protocol):
    """Hears of every change of depth and of every loss, to keep metrics."""

    def depth_changed(self, statistics: QueueStatistics) -> None: ...

    def item_lost(self, statistics: QueueStatistics) -> None: ...


class ByteQueue(Generic[T]):
    """First in, first out, at most so many bytes; `put` waits for room, `put_now` does not.

    An item larger than the whole capacity goes in alone.
    """

    def __init__(self, capacity_bytes: int, *, hook: QueueHook | None = None) -> None:
        self._credit = Credit(capacity_bytes)
        self._items: deque[tuple[T, int]] = deque()
        self._takers: deque[asyncio.Future[None]] = deque()
        self._depth_bytes = 0
        self._lost_items = 0
        self._lost_bytes = 0
        self._hook = hook

    def __len__(self) -> int:
        return len(self._items)

    async def put(self, item: T, size: int) -> None:
        """Wait for room; the caller sets the deadline."""
        await self._credit.take(size)
        self._add(item, size)

    def put_now(self, item: T, size: int) -> bool:
        """Put without waiting, or count the item as lost and say so."""
        if not self._credit.take_now(size):
            self._lose(size)
            return False
        self._add(item, size)
        return True

    async def get(self) -> T:
        """Return the oldest item, as soon as there is one."""
        while not self._items:
            arrival: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._takers.append(arrival)
            try:
                await arrival
            except asyncio.CancelledError:
                if not arrival.cancelled():
                    self._wake()
                raise
        return self._take()

    def get_now(self) -> T | None:
        """Return the oldest item, or None."""
        return self._take() if self._items else None

    def drop_oldest(self) -> T | None:
        """Give the oldest item up, counted as lost: video yields like this, alarms never."""
        if not self._items:
            return None
        size = self._items[0][1]
        item = self._take()
        self._lose(size)
        return item

    def statistics(self) -> QueueStatistics:
        return QueueStatistics(
            depth_items=len(self._items),
            depth_bytes=self._depth_bytes,
            capacity_bytes=self._credit.capacity,
            lost_items=self._lost_items,
            lost_bytes=self._lost_bytes,
        )

    def _add(self, item: T, size: int) -> None:
        self._items.append((item, size))
        self._depth_bytes += size
        self._wake()
        self._changed()

    def _take(self) -> T:
        item, size = self._items.popleft()
        self._depth_bytes -= size
        self._credit.give(size)
        self._changed()
        return item

    def _lose(self, size: int) -> None:
        self._lost_items += 1
        self._lost_bytes += size
        if self._hook is not None:
            self._hook.item_lost(self.statistics())

    def _changed(self) -> None:
        if self._hook is not None:
            self._hook.depth_changed(self.statistics())

    def _wake(self) -> None:
        while self._takers:
            arrival = self._takers.popleft()
            if not arrival.done():
                arrival.set_result(None)
                return
