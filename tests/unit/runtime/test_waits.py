import asyncio

import pytest

from services.runtime.clock import FakeClock, settle
from services.runtime.errors import OwnershipLost, RetryLater, StoppedEarly
from services.runtime.waits import beside, together, unless_stopped, within


async def forever() -> None:
    await asyncio.Event().wait()


async def failing(error: Exception) -> None:
    await asyncio.sleep(0)
    raise error


async def test_a_wait_ends_with_its_result() -> None:
    event = asyncio.Event()
    event.set()
    assert await within(5, event.wait(), clock=FakeClock())


async def test_a_wait_ends_at_its_deadline() -> None:
    clock = FakeClock()
    waiting = asyncio.create_task(within(5, forever(), clock=clock))
    await settle()
    await clock.advance(4.9)
    assert not waiting.done()
    await clock.advance(0.2)
    with pytest.raises(TimeoutError):
        await waiting


async def test_an_error_of_the_work_ends_the_body_and_is_raised_as_it_is() -> None:
    with pytest.raises(RetryLater):
        async with beside(failing(RetryLater("away")), name="work"):
            await forever()


async def test_an_error_of_the_body_ends_the_work_and_is_raised_as_it_is() -> None:
    ended = asyncio.Event()

    async def work() -> None:
        try:
            await forever()
        finally:
            ended.set()

    async def body() -> None:
        async with beside(work(), name="work"):
            await settle()
            raise OwnershipLost

    with pytest.raises(OwnershipLost):
        await body()
    assert ended.is_set()


async def test_a_cancelled_body_stays_cancelled() -> None:
    async def body() -> None:
        async with beside(forever(), name="work"):
            await forever()

    task = asyncio.create_task(body())
    await settle()
    task.cancel()
    await settle()
    assert task.cancelled()


async def test_a_caller_cancelled_while_a_wait_is_ending_stays_cancelled() -> None:
    async def slow_to_end() -> None:
        try:
            await forever()
        finally:
            await asyncio.sleep(0)

    clock = FakeClock()
    waiting = asyncio.create_task(within(5, slow_to_end(), clock=clock))
    await settle()
    clock._sleepers[0][1].set_result(None)  # the deadline passes, and one turn later the caller is cancelled
    while not waiting.done():
        waiting.cancel()
        await asyncio.sleep(0)
    assert waiting.cancelled()


async def test_what_is_not_wanted_any_more_is_cancelled() -> None:
    stopping = asyncio.Event()
    work = asyncio.ensure_future(forever())
    waiting = asyncio.create_task(unless_stopped(stopping, work))
    await settle()
    stopping.set()
    with pytest.raises(StoppedEarly):
        await waiting
    assert work.cancelled()


async def test_results_come_in_order() -> None:
    async def one(number: int) -> int:
        return number

    assert await together(*(one(number) for number in range(3))) == [0, 1, 2]


async def test_the_first_error_ends_the_others_before_it_is_raised() -> None:
    ended = asyncio.Event()

    async def other() -> None:
        try:
            await forever()
        finally:
            ended.set()

    with pytest.raises(RetryLater):
        await together(other(), failing(RetryLater("away")))
    assert ended.is_set()
