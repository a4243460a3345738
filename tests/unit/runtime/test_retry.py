import asyncio
from random import Random

import pytest

from services.runtime.clock import FakeClock, settle
from services.runtime.errors import PoisonMessage, RetryLater
from services.runtime.retry import BackOff, retried


class Call:
    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)
        self.calls = 0

    async def __call__(self) -> str:
        self.calls += 1
        if self.errors:
            raise self.errors.pop(0)
        return "done"


def test_waits_double_and_stop_at_the_longest() -> None:
    back_off = BackOff(first_s=1.0, most_s=10.0)
    longest = [max(back_off.wait_s(attempt, Random(seed)) for seed in range(200)) for attempt in (1, 2, 3, 4, 5, 99)]
    assert longest == pytest.approx([1, 2, 4, 8, 10, 10], rel=0.02)


def test_no_wait_is_shorter_than_half() -> None:
    back_off = BackOff(first_s=1.0, most_s=10.0)
    assert min(back_off.wait_s(1, Random(seed)) for seed in range(200)) >= 0.5


async def test_it_tries_again_until_it_succeeds() -> None:
    clock, call = FakeClock(), Call(RetryLater(), RetryLater())
    task = asyncio.create_task(retried(call, what="test", clock=clock, random=Random(1)))
    await settle()
    assert call.calls == 1
    await clock.advance(0.5)
    assert call.calls == 2
    await clock.advance(1.0)
    assert await task == "done"


async def test_it_gives_up_after_the_last_attempt() -> None:
    clock, call = FakeClock(), Call(RetryLater("one"), RetryLater("two"), RetryLater("three"))
    task = asyncio.create_task(retried(call, what="test", clock=clock, random=Random(1), attempts_max=2))
    await settle()
    await clock.advance(10)
    with pytest.raises(RetryLater, match="two"):
        await task


async def test_other_errors_are_not_tried_again() -> None:
    call = Call(PoisonMessage("bad"))
    with pytest.raises(PoisonMessage):
        await retried(call, what="test", clock=FakeClock(), random=Random(1))
    assert call.calls == 1
