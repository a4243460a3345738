"""Who is started again, when, and what a start that fails does to the others: nothing."""

import asyncio
import errno
from typing import cast

import pytest

from services.onebox.processes import Child
from services.onebox.watch import FIRST_PAUSE_S, PAUSE_S_MAX, STEADY_S, Watched, next_pause_s
from services.runtime.clock import FakeClock, settle
from services.runtime.errors import RetryLater, SettingsError

FULL = OSError(errno.ENOSPC, "No space left on device")


class Run:
    """One run of a process; it ends when told."""

    def __init__(self) -> None:
        self.ended = asyncio.Event()

    async def exit(self) -> int:
        await self.ended.wait()
        return 1


def test_the_first_restart_comes_at_once() -> None:
    assert next_pause_s(0, ran_s=1) == FIRST_PAUSE_S


def test_who_ends_at_every_start_waits_longer_each_time_up_to_a_limit() -> None:
    pauses_s = [0.0]
    for _ in range(10):
        pauses_s.append(next_pause_s(pauses_s[-1], ran_s=1))
    assert pauses_s[1:4] == pytest.approx([0.2, 0.4, 0.8])
    assert pauses_s[-1] == PAUSE_S_MAX


def test_who_ran_for_long_starts_again_at_once() -> None:
    assert next_pause_s(PAUSE_S_MAX, ran_s=STEADY_S) == FIRST_PAUSE_S


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (RetryLater("Kafka was not ready within 60 s"), "kafka did not start: Kafka was not ready within 60 s"),
        (SettingsError("a jar; cure: delete this file"), "kafka did not start: a jar; cure: delete this file"),
        (FULL, "kafka did not start: [Errno 28] No space left on device; cure: free some of the disk"),
    ],
    ids=["not ready", "a damaged jar", "a full disk"],
)
async def test_a_start_again_that_fails_is_said_and_tried_again(error: Exception, said: str) -> None:
    first, clock = Run(), FakeClock()
    outcomes: list[Run | Exception] = [first, error, error, Run()]
    lines: list[str] = []
    changes: list[str] = []

    async def start() -> Child:
        outcome = outcomes.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return cast("Child", outcome)

    watched = Watched("kafka", start, clock=clock, say=lines.append, changed=lambda: changes.append("changed"))
    await watched.start()
    keeping = asyncio.create_task(watched.keep())
    first.ended.set()
    await settle()
    await clock.advance(0.2 + 0.4 + 0.8)
    assert (outcomes, watched.restarts, changes) == ([], 1, ["changed"])
    assert lines.count(said) == 2
    assert not keeping.done()
    keeping.cancel()
