"""Keeps one process running: started again when it ends, with growing pauses when it ends at once."""

from collections.abc import Awaitable, Callable
from typing import Final

from services.onebox.durable import reason
from services.onebox.processes import Child
from services.runtime.clock import Clock
from services.runtime.errors import RetryLater, SettingsError

FIRST_PAUSE_S: Final = 0.2
PAUSE_S_MAX: Final = 15.0
STEADY_S: Final = 60.0
"""Who ran this long did not end because of its start."""
WRONG_SETTINGS: Final = 2
"""The status with which our services refuse their settings: starting again is no cure."""


def next_pause_s(pause_s: float, ran_s: float) -> float:
    """Return how long to wait before the next start, from the wait before and the time it ran."""
    return FIRST_PAUSE_S if ran_s >= STEADY_S or pause_s == 0 else min(pause_s * 2, PAUSE_S_MAX)


class Refused(Exception):
    """A process refused its settings; its last words say why."""


class Watched:
    """A process that is kept running until `stop`."""

    def __init__(
        self,
        name: str,
        start: Callable[[], Awaitable[Child]],
        *,
        clock: Clock,
        say: Callable[[str], None],
        changed: Callable[[], None],
    ) -> None:
        self.name = name
        self.child: Child | None = None
        self.restarts = 0
        self.settled = False
        """Set once all was ready: from then on one process's refusal takes nothing else down."""
        self._start = start
        self._clock = clock
        self._say = say
        self._changed = changed
        self._stopping = False
        self._pause_s = 0.0

    async def start(self) -> None:
        """Start it for the first time; a failure here is the caller's."""
        self.child = await self._start()

    async def keep(self) -> None:
        """Start it again whenever it ends.

        Raises:
            Refused: it does not like its settings.
        """
        while self.child is not None:
            begin_ns = self._clock.monotonic_ns()
            status = await self.child.exit()
            if self._stopping:
                return
            if status == WRONG_SETTINGS and not self.settled:
                raise Refused(f"{self.name} refused its settings: {self.child.last_line}")
            ran_s = (self._clock.monotonic_ns() - begin_ns) / 1e9
            self._pause_s = next_pause_s(self._pause_s, ran_s)
            self._say(f"{self.name} ended ({_how(status)}); started again in {self._pause_s:.1f} s")
            await self._clock.sleep(self._pause_s)
            await self._start_again()

    async def stop(self, grace_s: float) -> bool:
        """End it for good; tell whether SIGTERM was enough."""
        self._stopping = True
        return self.child is None or await self.child.end_within(grace_s)

    async def _start_again(self) -> None:
        if self._stopping:
            return
        try:
            self.child = await self._start()
        except (RetryLater, SettingsError, OSError) as error:
            # A jar that was damaged, a disk that is full: the others go on, and this one when that is mended.
            self._say(f"{self.name} did not start: {reason(error)}")
            return
        self.restarts += 1
        self._changed()


def _how(status: int) -> str:
    return f"killed by signal {-status}" if status < 0 else f"status {status}"
