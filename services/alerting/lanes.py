"""One lane per root: its records in order, one at a time; roots beside each other. Bounded in bytes.

Also the low mark of each partition: what may be committed while lanes run ahead of each other. Knows
no alert and no Kafka client.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from typing import NamedTuple

import structlog

from services.runtime.errors import OwnershipLost
from services.runtime.kafka_port import Place

log = structlog.get_logger()
Job = Callable[[], Awaitable[None]]


class _Waiting(NamedTuple):
    job: Job
    size_bytes: int


class Lanes:
    """Life: `submit` starts a task per busy lane, which ends when its lane is empty.

    A job that raises OwnershipLost is dropped; any other error ends the task group, and so the process.
    """

    def __init__(self, tasks: asyncio.TaskGroup, *, capacity_bytes: int) -> None:
        self._tasks = tasks
        self._capacity_bytes = capacity_bytes
        self._lanes: dict[tuple[int, str], deque[_Waiting]] = {}
        self._running: set[asyncio.Task[None]] = set()
        self._moved = asyncio.Event()
        self.held_bytes = 0

    @property
    def full(self) -> bool:
        return self.held_bytes >= self._capacity_bytes

    def __len__(self) -> int:
        return len(self._lanes)

    def submit(self, partition: int, root: str, size_bytes: int, job: Job) -> None:
        """Put a job at the end of its lane. The caller looks at `full` before it reads more."""
        self.held_bytes += size_bytes
        lane = self._lanes.get((partition, root))
        if lane is not None:
            lane.append(_Waiting(job, size_bytes))
            return
        self._lanes[partition, root] = deque([_Waiting(job, size_bytes)])
        task = self._tasks.create_task(self._run((partition, root)), name=f"lane {partition}")
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def drained(self, partitions: Iterable[int]) -> None:
        """Wait until nothing of these partitions is left; the caller sets the deadline."""
        wanted = frozenset(partitions)
        while any(partition in wanted for partition, _ in self._lanes):
            self._moved.clear()
            await self._moved.wait()

    def abandon(self) -> None:
        """End every lane where it stands: the process stops, and what is not committed is read again."""
        for task in self._running:
            task.cancel()

    async def room(self) -> None:
        """Wait until more may be submitted."""
        while self.full:
            self._moved.clear()
            await self._moved.wait()

    async def _run(self, key: tuple[int, str]) -> None:
        lane = self._lanes[key]
        while lane:
            waiting = lane[0]
            try:
                await waiting.job()
            except OwnershipLost as error:
                log.warning("lanes.dropped", partition=key[0], reason=str(error))
            except BaseException:
                # The process ends; whoever waits for this lane must not wait for its jobs.
                del self._lanes[key]
                self._moved.set()
                raise
            lane.popleft()
            self.held_bytes -= waiting.size_bytes
            if not lane:
                del self._lanes[key]
            self._moved.set()


class LowMarks:
    """Per partition the first offset that is not done. Bounded by what the lanes hold."""

    def __init__(self) -> None:
        self._begun: dict[Place, deque[int]] = {}
        self._done: dict[Place, set[int]] = {}
        self._next: dict[Place, int] = {}

    def begin(self, place: Place, offset: int) -> None:
        self._begun.setdefault(place, deque()).append(offset)
        self._next[place] = offset + 1

    def done(self, place: Place, offset: int) -> None:
        """Take an offset as done; one begun before a reset counts for nothing."""
        begun = self._begun.get(place)
        if begun is None or offset not in begun:
            return
        done = self._done.setdefault(place, set())
        done.add(offset)
        while begun and begun[0] in done:
            done.discard(begun.popleft())

    def reset(self, places: Iterable[Place]) -> None:
        for place in places:
            for held in (self._begun, self._done, self._next):
                held.pop(place, None)

    def positions(self) -> dict[Place, int]:
        """Return the next offset to commit of each partition that was read."""
        return {place: self._begun[place][0] if self._begun[place] else end for place, end in self._next.items()}
