"""RTP time of one stream: unwrapped, outliers set straight, holes told from new runs, DTS from PTS. Pure.

Units are pushed in decode order with their 32-bit RTP time; each comes back placed, at once or (when
its stamp is suspicious) together with the next one. Source: cameras.md 4.7, 7.1, 7.6, 7.7.
"""

from bisect import insort
from typing import Final, NamedTuple

SECOND_90K: Final = 90_000
HOLE_MIN_90K: Final = 18_000  # 200 ms
FORWARD_STEP_MAX_US: Final = 10_000_000
_WRAP: Final = 1 << 32
_HALF: Final = 1 << 31
_REORDER_MAX: Final = 16
_WILD_MAX: Final = 3

ON_LINE: Final = 0
HOLE: Final = 1  # the same run goes on after missing time
NEW_RUN: Final = 2


class Place(NamedTuple):
    """Where one unit stands: how it follows, its decode time (unwrapped, 90 kHz), its CTS offset."""

    how: int
    dts: int
    offset: int


class Timeline:
    """One stream's RTP time. `interval` is the nominal distance of two units, 90 kHz."""

    def __init__(self, *, interval: int | None = None, reorder: int | None = None) -> None:
        self.interval = interval or 3_600
        self.reorder = reorder or 0
        self.outliers = 0
        self._last32: int | None = None
        self._line = 0  # unwrapped time of the last believed unit, in decode order
        self._line_us = 0
        self._highest = 0
        self._dts = 0
        self._window: list[int] = []
        self._recent: list[int] = []
        self._held: tuple[int, int, int] | None = None  # raw, distance from the line, arrival
        self._wild = 0
        self._known = False

    def push(self, stamp: int, arrival_us: int) -> list[Place]:
        """Take the next unit in decode order; return every unit that now has its place, in order."""
        if self._last32 is None:
            return [self._begin(stamp, arrival_us, ON_LINE)]
        distance = ((stamp - self._last32 + _HALF) % _WRAP) - _HALF
        if self._held is not None:
            return self._judge(stamp, distance, arrival_us)
        if -self._back_max() <= distance <= self._forward_max():
            return [self._accept(stamp, distance, arrival_us)]
        self._held = (stamp, distance, arrival_us)
        return []

    def plain(self, stamp: int, arrival_us: int) -> int | None:
        """Take the next unit if it follows by exactly one interval; return its decode time, else None.

        Does what `push` does, without a list and a tuple for each unit (hotpath.md). None: nothing was
        taken, ask `push`.
        """
        last, interval = self._last32, self.interval
        if last is None or self.reorder or self._held is not None or (stamp - last) % _WRAP != interval:
            return None
        dts = self._line + interval
        if dts - self._dts != interval or dts < self._highest:
            return None
        self._last32 = stamp
        self._line = self._highest = self._dts = dts
        self._line_us = arrival_us
        self._wild = 0
        self._known = True
        recent = self._recent
        recent.append(dts)
        if len(recent) > 2 * _REORDER_MAX:
            del recent[:_REORDER_MAX]
        return dts

    def flush(self) -> list[Place]:
        """Place a unit that still waits for its successor: the stream ends here."""
        if self._held is None:
            return []
        self._held = None
        return [self._nominal()]

    def new_run(self) -> None:
        """Forget the line: the next unit begins a run (new SSRC, lost clock)."""
        self._last32 = None
        self._held = None

    def _begin(self, stamp: int, arrival_us: int, how: int) -> Place:
        self._last32 = stamp
        self._line = self._highest = self._dts = stamp
        self._line_us = arrival_us
        self._window = [stamp]
        self._recent = [stamp]
        self._wild = 0
        return Place(how, stamp, 0)

    def _back_max(self) -> int:
        return max(self.reorder + 1, 4) * self.interval

    def _forward_max(self) -> int:
        return max((self.reorder + 2) * self.interval, HOLE_MIN_90K)

    def _accept(self, stamp: int, distance: int, arrival_us: int) -> Place:
        pts = self._line + distance
        self._last32 = stamp
        self._line = pts
        self._line_us = arrival_us
        self._wild = 0
        if pts < self._highest:
            self._learn_reorder(pts)
        else:
            self._highest = pts
        return self._order(pts)

    def _order(self, pts: int) -> Place:
        previous = self._dts
        if not self.reorder:
            dts = pts
        else:
            insort(self._window, pts)
            waits = len(self._window) <= self.reorder
            dts = previous + self.interval if waits else self._window.pop(0) + self.reorder * self.interval
        recent = self._recent
        recent.append(pts)
        if len(recent) > 2 * _REORDER_MAX:
            del recent[:_REORDER_MAX]
        dts = max(dts, previous + 1)
        self._dts = dts
        step = dts - previous
        if step != self.interval:
            self.interval = step if not self._known else max(1, self.interval + (step - self.interval) // 8)
        self._known = True
        return Place(ON_LINE, dts, pts - dts)

    def _learn_reorder(self, pts: int) -> None:
        deeper = sum(other > pts for other in self._recent[-_REORDER_MAX:])
        if deeper > self.reorder:
            self._window = sorted(self._recent[-deeper:])
            self.reorder = deeper

    def _judge(self, stamp: int, distance: int, arrival_us: int) -> list[Place]:
        """Believe the held unit or not, now that its successor is known."""
        if self._held is None:
            return []
        held, held_distance, held_us = self._held
        self._held = None
        onward = distance - held_distance
        forward = self._forward_max()
        if -self._back_max() <= distance <= forward + self.interval:
            self.outliers += 1
            first = self._nominal()
            return [first, self._accept_after_nominal(stamp, distance, arrival_us)]
        slower = held_distance > 0 and held_distance // 2 <= onward <= held_distance + held_distance // 2
        if slower and held_distance * 100 // 9 - (held_us - self._line_us) < FORWARD_STEP_MAX_US:
            self.interval = held_distance
            return [self._accept(held, held_distance, held_us), self._accept(stamp, onward, arrival_us)]
        if -self._back_max() <= onward <= forward:
            return [self._step(held, held_distance, held_us), self._accept(stamp, onward, arrival_us)]
        return self._neither(held_us, stamp, distance, arrival_us)

    def _step(self, stamp: int, distance: int, arrival_us: int) -> Place:
        """A confirmed step: a plain hole when the receive clock agrees, else a new run."""
        ahead_us = distance * 100 // 9 - (arrival_us - self._line_us)
        if distance < 0 or ahead_us > FORWARD_STEP_MAX_US:
            return self._begin(stamp, arrival_us, NEW_RUN)
        unwrapped = self._line + distance
        self._begin(stamp, arrival_us, HOLE)
        self._line = self._highest = self._dts = unwrapped
        self._window = [unwrapped]
        self._recent = [unwrapped]
        return Place(HOLE, unwrapped, 0)

    def _neither(self, held_us: int, stamp: int, distance: int, arrival_us: int) -> list[Place]:
        self.outliers += 1
        self._wild += 1
        first = self._nominal()
        if self._wild >= _WILD_MAX:
            return [first, self._begin(stamp, arrival_us, NEW_RUN)]
        self._held = (stamp, distance, max(held_us, arrival_us))
        return [first]

    def _nominal(self) -> Place:
        """Place a unit that is not believed one interval after the one before it."""
        self._dts += max(1, self.interval)
        if self.reorder:
            insort(self._window, self._line + self.interval)
            if len(self._window) > self.reorder:
                self._window.pop(0)
        return Place(ON_LINE, self._dts, 0)

    def _accept_after_nominal(self, stamp: int, distance: int, arrival_us: int) -> Place:
        interval = self.interval
        placed = self._accept(stamp, distance, arrival_us)
        self.interval = interval
        return placed
