"""Keeps a reserve of the disk: below it video stops, so that broker and alarms live (cameras.md 9, row 7)."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Final

import structlog

from services.ingest import metrics
from services.runtime.clock import Clock

log = structlog.get_logger()

_LOOK_S: Final = 1.0
# Video comes back only with a little more room than it stopped at, or it would flap.
_BACK_RATIO: Final = 1.1


def is_full(free_bytes: int, total_bytes: int, *, reserve_bytes: int, reserve_ratio: float, was_full: bool) -> bool:
    """Tell whether video has to stop. Pure."""
    reserve = max(reserve_bytes, total_bytes * reserve_ratio)
    return free_bytes < reserve * (_BACK_RATIO if was_full else 1.0)


class DiskWatch:
    """`run` tells `on_full` at each change."""

    def __init__(
        self,
        path: Path,
        *,
        reserve_bytes: int,
        reserve_ratio: float,
        on_full: Callable[[bool], None],
        clock: Clock,
    ) -> None:
        self._path = path
        self._reserve_bytes = reserve_bytes
        self._reserve_ratio = reserve_ratio
        self._on_full = on_full
        self._clock = clock
        self._full = False

    async def run(self) -> None:
        while True:
            full = self._look()
            if full != self._full:
                self._full = full
                self._on_full(full)
            await self._clock.sleep(_LOOK_S)

    def _look(self) -> bool:
        try:
            found = os.statvfs(self._path)
        except OSError as error:
            # An error that reads as "fine" once let a disk fill up (open-nvr #244): it counts as full.
            log.error("disk_watch.unreadable", reason=error.strerror)
            return True
        # f_bavail, not f_bfree: the rest is root's.
        free_bytes = found.f_bavail * found.f_frsize
        metrics.DISK_FREE_BYTES.set(free_bytes)
        return is_full(
            free_bytes,
            found.f_blocks * found.f_frsize,
            reserve_bytes=self._reserve_bytes,
            reserve_ratio=self._reserve_ratio,
            was_full=self._full,
        )
