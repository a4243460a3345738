"""Video stops while the disk's reserve is reached, and does not flap at its edge."""

import asyncio
from pathlib import Path

import pytest

from services.ingest.disk_watch import DiskWatch, is_full
from services.runtime.clock import FakeClock, settle

GIB = 1 << 30


@pytest.mark.parametrize(
    ("free", "total", "was_full", "full"),
    [
        pytest.param(2 * GIB, 10 * GIB, False, False, id="exactly the reserve"),
        pytest.param(2 * GIB - 1, 10 * GIB, False, True, id="one byte below"),
        pytest.param(2 * GIB, 10 * GIB, True, True, id="back at the reserve is not enough"),
        pytest.param(5 * GIB // 2, 10 * GIB, True, False, id="a tenth above"),
        pytest.param(4 * GIB, 100 * GIB, False, True, id="five per cent of a large disk"),
    ],
)
def test_the_reserve_is_the_larger_of_bytes_and_share(free: int, total: int, was_full: bool, full: bool) -> None:
    assert is_full(free, total, reserve_bytes=2 * GIB, reserve_ratio=0.05, was_full=was_full) is full


async def test_an_unreadable_disk_counts_as_full(tmp_path: Path, clock: FakeClock) -> None:
    told: list[bool] = []
    watch = DiskWatch(tmp_path / "missing", reserve_bytes=1, reserve_ratio=0.0, on_full=told.append, clock=clock)
    task = asyncio.create_task(watch.run())
    await settle()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)

    assert told == [True]
