import asyncio

from services.runtime.clock import settle
from services.runtime.stage import ByteQueue, QueueStatistics


class Hook:
    def __init__(self) -> None:
        self.depths: list[int] = []
        self.lost: list[int] = []

    def depth_changed(self, statistics: QueueStatistics) -> None:
        self.depths.append(statistics.depth_bytes)

    def item_lost(self, statistics: QueueStatistics) -> None:
        self.lost.append(statistics.lost_bytes)


async def test_items_come_out_in_order() -> None:
    queue: ByteQueue[str] = ByteQueue(100)
    for item in "abc":
        await queue.put(item, 10)
    assert [await queue.get() for _ in range(3)] == ["a", "b", "c"]
    assert queue.get_now() is None


async def test_a_put_waits_for_room_and_a_get_makes_it() -> None:
    queue: ByteQueue[str] = ByteQueue(10)
    await queue.put("a", 8)
    waiting = asyncio.create_task(queue.put("b", 3))
    await settle()
    assert not waiting.done()
    assert await queue.get() == "a"
    await waiting
    assert await queue.get() == "b"


async def test_a_get_waits_for_an_item() -> None:
    queue: ByteQueue[str] = ByteQueue(10)
    takers = [asyncio.create_task(queue.get()) for _ in range(2)]
    await settle()
    takers[0].cancel()
    await settle()
    await queue.put("a", 1)
    assert await takers[1] == "a"


async def test_what_has_no_room_is_counted_as_lost() -> None:
    hook = Hook()
    queue: ByteQueue[str] = ByteQueue(10, hook=hook)
    assert queue.put_now("a", 7)
    assert not queue.put_now("b", 4)
    assert queue.statistics() == QueueStatistics(1, 7, 10, 1, 4)
    assert (hook.depths, hook.lost) == ([7], [4])


async def test_the_oldest_can_be_given_up_for_a_newer_one() -> None:
    queue: ByteQueue[str] = ByteQueue(10)
    for item in "ab":
        queue.put_now(item, 5)
    assert queue.drop_oldest() == "a"
    assert queue.put_now("c", 5)
    assert [queue.get_now(), queue.get_now(), queue.drop_oldest()] == ["b", "c", None]
    assert queue.statistics().lost_items == 1


async def test_an_item_larger_than_the_queue_goes_in_alone() -> None:
    queue: ByteQueue[str] = ByteQueue(10)
    await queue.put("large", 50)
    assert not queue.put_now("small", 1)
    assert await queue.get() == "large"
    assert queue.put_now("small", 1)
