"""Back-off with jitter: how long to wait before the same call again. Clock and random are injected."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from random import Random
from typing import Final, TypeVar

import structlog

from services.runtime.clock import Clock
from services.runtime.errors import RetryLater

log = structlog.get_logger()
T = TypeVar("T")
_DOUBLINGS_MAX: Final = 30


@dataclass(frozen=True, slots=True, kw_only=True)
class BackOff:
    """Waits double from `first_s` to `most_s`; each is drawn between half and the whole of it.

    Half is kept so that no wait is near zero: a site whose cameras all fail at once must not be
    connected to all at once again.
    """

    first_s: float = 0.5
    most_s: float = 30.0

    def wait_s(self, attempt: int, random: Random) -> float:
        """Return the wait after failed attempt number `attempt`, counted from 1."""
        whole_s = min(self.most_s, self.first_s * 2.0 ** min(attempt - 1, _DOUBLINGS_MAX))
        return whole_s * (0.5 + random.random() / 2)


async def retried(
    call: Callable[[], Awaitable[T]],
    *,
    what: str,
    clock: Clock,
    random: Random,
    back_off: BackOff | None = None,
    attempts_max: int | None = None,
) -> T:
    """Call until it succeeds; only RetryLater is tried again.

    Raises:
        RetryLater: the last one, after `attempts_max` attempts.
    """
    back_off = back_off or BackOff()
    attempt = 0
    while True:
        attempt += 1
        try:
            return await call()
        except RetryLater as error:
            if attempt == attempts_max:
                raise
            wait_s = back_off.wait_s(attempt, random)
            log.warning(
                "retry.failed", what=what, attempt=attempt, wait_s=round(wait_s, 3), error=type(error).__name__
            )  # fmt: skip
        await clock.sleep(wait_s)
