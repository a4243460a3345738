"""The three clocks of a camera: host, RTP and the camera's own; wall time for fragments. Pure, times injected.

Media time is RTP time since the run's first unit. Wall time is never reset: it starts at the least
delayed frame, is slewed by at most 500 ppm, and follows the receive clock only where a camera's
stamps do not run at the true rate. Source: cameras.md 7, rules 1-4, 8, 9, 11, 13.
"""

from collections import deque
from typing import Final, NamedTuple

HOLD_MAX_US: Final = 2_000_000
HOLD_CALM_US: Final = 500_000
CALM_STEP_US: Final = 20_000
SLEW_DIVISOR: Final = 2_000  # 500 ppm
CATCH_UP_DIVISOR: Final = 20  # only while the rate is wrong
PARTED_US: Final = 2_000_000
RATE_WINDOW_US: Final = 30_000_000
RATE_WRONG_PPM: Final = 10_000
OFFSET_WINDOW: Final = 60  # fragments whose least delay counts
STEP_EVENT_US: Final = 100_000
STEP_NEW_RUN_US: Final = 1_000_000
_YEAR_2016_US: Final = 1_451_606_400_000_000
_DAY_US: Final = 86_400_000_000


def media_us(ticks_90k: int) -> int:
    return ticks_90k * 100 // 9


class HostTime:
    """UTC from one reading of the wall clock plus monotonic time since; steps do not show through."""

    def __init__(self, wall_us: int, monotonic_ns: int) -> None:
        self._base_us = wall_us - monotonic_ns // 1000

    def utc_us(self, monotonic_ns: int) -> int:
        return self._base_us + monotonic_ns // 1000

    def step_us(self, wall_us: int, monotonic_ns: int) -> int:
        """Return how far the wall clock has parted from this line; 0 below the event threshold."""
        step = wall_us - self.utc_us(monotonic_ns)
        return step if abs(step) >= STEP_EVENT_US else 0

    def move(self, step_us: int) -> None:
        """Take a step over; runs slew towards it or begin anew."""
        self._base_us += step_us


class Placement(NamedTuple):
    """Where a fragment stands in wall time; `rate_wrong` is cameras.md 7.13."""

    start_us: int
    wall_us: int
    rate_wrong: bool


class RunClock:
    """Wall time of one run. Fragments are placed in order; they never overlap."""

    def __init__(self, not_before_us: int = 0) -> None:
        self._not_before_us = not_before_us
        self._offset_us: int | None = None  # least (receive - media) seen for the open fragment
        self._run_offset_us: int | None = None
        self._first_recv_us = 0
        self._lowered_us = 0
        self._window: deque[int] = deque(maxlen=OFFSET_WINDOW)
        self._rate: deque[tuple[int, int]] = deque()
        self._end_us: int | None = None
        self._end_media_90k = 0
        self._last_recv_us = 0
        self.rate_wrong = False
        self.parted_us = 0

    @property
    def end_us(self) -> int | None:
        """The end of the last placed fragment."""
        return self._end_us

    @property
    def end_media_90k(self) -> int:
        """The media time of `end_us`; 0 before the first fragment."""
        return self._end_media_90k

    def observe(self, media_90k: int, recv_us: int) -> None:
        """Take one unit's media time and when it was received."""
        offset = recv_us - media_90k * 100 // 9
        if self._offset_us is None or offset < self._offset_us:
            self._offset_us = offset
        if self._run_offset_us is None:
            self._run_offset_us = offset
            self._first_recv_us = self._lowered_us = recv_us
        elif offset < self._run_offset_us:
            if self._run_offset_us - offset > CALM_STEP_US:
                self._lowered_us = recv_us
            self._run_offset_us = offset

    def anchored(self, now_us: int) -> bool:
        """Tell whether the run's start is known well enough to publish (rule 3)."""
        if self._end_us is not None:
            return True
        if self._run_offset_us is None:
            return False
        return now_us - self._first_recv_us >= HOLD_MAX_US or now_us - self._lowered_us >= HOLD_CALM_US

    def estimate_us(self, media_90k: int) -> int:
        """Return the wall time of a media time as well as it is known now (live does not wait)."""
        if self._end_us is not None:
            return self._end_us + media_us(media_90k - self._end_media_90k)
        return (self._run_offset_us or 0) + media_us(media_90k)

    def place(self, media_start_90k: int, media_90k: int, recv_last_us: int) -> Placement:
        """Place the next fragment; a hole in media time is a hole in wall time."""
        start_us = self._start_us(media_start_90k)
        duration_us = media_us(media_start_90k + media_90k) - media_us(media_start_90k)
        self._window.append(self._offset_us if self._offset_us is not None else start_us - media_us(media_start_90k))
        self._offset_us = None
        self.parted_us = min(self._window) + media_us(media_start_90k) - start_us
        if self.rate_wrong:
            wall_us = self._follow_receive(start_us, recv_last_us)
        else:
            limit = duration_us // SLEW_DIVISOR
            wall_us = duration_us + max(-limit, min(limit, self.parted_us))
        placement = Placement(start_us, max(1, wall_us), self.rate_wrong)
        self._end_us = start_us + placement.wall_us
        self._end_media_90k = media_start_90k + media_90k
        self._last_recv_us = recv_last_us
        self._judge_rate(media_us(self._end_media_90k), recv_last_us)
        return placement

    def _start_us(self, media_start_90k: int) -> int:
        if self._end_us is None:
            anchor = (self._run_offset_us or 0) + media_us(media_start_90k)
            return max(anchor, self._not_before_us)
        return self._end_us + max(0, media_us(media_start_90k) - media_us(self._end_media_90k))

    def _follow_receive(self, start_us: int, recv_last_us: int) -> int:
        passed_us = max(0, recv_last_us - self._last_recv_us)
        limit = passed_us // CATCH_UP_DIVISOR
        behind_us = recv_last_us - (start_us + passed_us)
        return passed_us + max(-limit, min(limit, behind_us))

    def _judge_rate(self, media_end_us: int, recv_us: int) -> None:
        rate = self._rate
        rate.append((media_end_us, recv_us))
        while len(rate) > 2 and recv_us - rate[1][1] >= RATE_WINDOW_US:
            rate.popleft()
        passed_us = recv_us - rate[0][1]
        if passed_us < RATE_WINDOW_US:
            return
        wrong_ppm = abs(media_end_us - rate[0][0] - passed_us) * 1_000_000 // passed_us
        if self.rate_wrong:
            if wrong_ppm < RATE_WRONG_PPM // 2:
                self.rate_wrong = False
                self._window.clear()
        elif wrong_ppm > RATE_WRONG_PPM and abs(self._parted_now(media_end_us, recv_us)) > PARTED_US:
            self.rate_wrong = True

    def _parted_now(self, media_end_us: int, recv_us: int) -> int:
        return recv_us - media_end_us - (self._end_us or 0) + media_us(self._end_media_90k)


class CameraClock:
    """The camera's clock against ours, from sender reports: reported, never used for order (rule 11)."""

    def __init__(self) -> None:
        self._offset_us: float | None = None
        self.distrusted = 0

    @property
    def offset_ms(self) -> int | None:
        return None if self._offset_us is None else round(self._offset_us / 1000)

    def report(self, camera_us: int, our_us: int) -> None:
        """Take a sender report's time; years before 2016 and offsets above a day are not believed."""
        offset = camera_us - our_us
        if camera_us < _YEAR_2016_US or abs(offset) > _DAY_US:
            self.distrusted += 1
            return
        if self._offset_us is None or abs(offset - self._offset_us) > STEP_NEW_RUN_US:
            self._offset_us = offset
        else:
            self._offset_us += (offset - self._offset_us) / 8
