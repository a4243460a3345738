"""Is this host's clock kept by a time server? Asked of the kernel; unknown counts as no."""

import ctypes
from typing import Final

from services.contracts.fragment import ClockState
from services.runtime.clock import Clock

_STA_UNSYNC: Final = 0x0040
_TIME_ERROR: Final = 5
_ASK_EVERY_NS: Final = 10_000_000_000


class _Timex(ctypes.Structure):
    """The head of `struct timex` (Linux, adjtimex(2)); the rest is room for what the kernel writes."""

    _fields_ = (
        ("modes", ctypes.c_uint),
        ("offset", ctypes.c_long),
        ("freq", ctypes.c_long),
        ("maxerror", ctypes.c_long),
        ("esterror", ctypes.c_long),
        ("status", ctypes.c_int),
        ("room", ctypes.c_byte * 256),
    )


class HostClock:
    """`state` costs nothing between two looks."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._asked_ns: int | None = None
        self._state: ClockState = "unsynced"

    def state(self) -> ClockState:
        now_ns = self._clock.monotonic_ns()
        if self._asked_ns is None or now_ns - self._asked_ns >= _ASK_EVERY_NS:
            self._asked_ns = now_ns
            self._state = "synced" if _synced() else "unsynced"
        return self._state


def _synced() -> bool:
    found = _Timex()
    try:
        answer: int = ctypes.CDLL(None, use_errno=True).adjtimex(ctypes.byref(found))
    except (OSError, AttributeError):
        return False
    return 0 <= answer < _TIME_ERROR and not found.status & _STA_UNSYNC
