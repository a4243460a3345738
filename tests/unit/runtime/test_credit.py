import asyncio

import pytest

from services.runtime.clock import settle
from services.runtime.credit import Credit


async def test_nobody_overtakes_one_who_waits() -> None:
    credit = Credit(10)
    assert credit.take_now(8)
    order: list[str] = []

    async def taker(name: str, amount: int) -> None:
        await credit.take(amount)
        order.append(name)

    tasks = [asyncio.create_task(taker("large", 6)), asyncio.create_task(taker("small", 1))]
    await settle()
    assert not credit.take_now(1)
    assert order == []
    credit.give(8)
    await asyncio.gather(*tasks)
    assert order == ["large", "small"]
    assert credit.taken == 7


async def test_an_amount_above_the_capacity_goes_alone() -> None:
    credit = Credit(10)
    await credit.take(100)
    assert credit.free == 0
    credit.give(100)
    assert credit.free == 10


async def test_one_who_gives_up_leaves_its_place_to_the_next() -> None:
    credit = Credit(10)
    assert credit.take_now(5)
    first, second = asyncio.create_task(credit.take(9)), asyncio.create_task(credit.take(5))
    await settle()
    first.cancel()
    await settle()
    assert second.done()
    assert credit.free == 0


async def test_one_who_is_cancelled_as_it_is_served_gives_back() -> None:
    credit = Credit(10)
    assert credit.take_now(10)
    waiting = asyncio.create_task(credit.take(10))
    await settle()
    credit.give(10)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert credit.free == 10
