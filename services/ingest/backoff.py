"""When to come back to a camera (cameras.md 5). No I/O: seconds in, seconds out."""

from collections.abc import Callable
from typing import Final

from services.ingest.media_types import RetryHint

FIRST_PHASE_S: Final = 60.0
HELD_S: Final = 60.0
CEILING_S: Final = 60.0

Uniform = Callable[[float, float], float]


class Backoff:
    """Delays of one camera. Only media that held for a minute counts as success: a flapping camera backs off."""

    def __init__(self, uniform: Uniform) -> None:
        self._uniform = uniform
        self._outage_from_s: float | None = None
        self._late_attempts = 0
        self._hinted = 0

    def ended(self, *, now_s: float, media_from_s: float | None, hint: RetryHint) -> float:
        """Return how long to wait after a session that ended now.

        `media_from_s` is when its first access unit came, None when none did.
        """
        if media_from_s is not None and now_s - media_from_s >= HELD_S:
            self._outage_from_s, self._late_attempts, self._hinted = None, 0, 0
        if self._outage_from_s is None:
            self._outage_from_s = now_s
        if hint is not RetryHint.NORMAL:
            self._hinted += 1
            return self._of_hint(hint)
        self._hinted = 0
        return self._normal(now_s - self._outage_from_s)

    def _normal(self, outage_s: float) -> float:
        if outage_s < FIRST_PHASE_S:
            return self._uniform(0.5, 2.0)
        self._late_attempts += 1
        # Full jitter: cameras that a switch took down together must not come back together.
        return max(1.0, self._uniform(0.0, min(CEILING_S, 2.0 * 2.0 ** min(self._late_attempts, 10))))

    def _of_hint(self, hint: RetryHint) -> float:
        if hint is RetryHint.AT_ONCE and self._hinted == 1:
            return 0.0
        if hint is RetryHint.AUTH:
            # Devices lock accounts that guess too often.
            return self._uniform(0.9, 1.1) * (60.0 if self._hinted == 1 else 300.0)
        if hint is RetryHint.STALE:
            return 65.0
        if hint is RetryHint.SLOTS_FULL:
            return self._uniform(10.0, 12.0) * min(6, self._hinted)
        return self._uniform(0.5, 2.0)
