"""Lanes: in order per root, beside each other else, bounded; and what may be committed meanwhile."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from services.alerting.lanes import Job, Lanes, LowMarks
from services.runtime.clock import settle
from services.runtime.errors import OwnershipLost
from services.runtime.kafka_port import Place

PLACE = Place("alarms", 0)


@pytest.fixture
async def tasks() -> AsyncIterator[asyncio.TaskGroup]:
    async with asyncio.TaskGroup() as group:
        yield group


def job(done: list[str], name: str, gate: asyncio.Event | None = None) -> Job:
    async def run() -> None:
        if gate is not None:
            await gate.wait()
        await asyncio.sleep(0)
        done.append(name)

    return run


async def test_a_root_keeps_its_order_and_waits_for_no_other(tasks: asyncio.TaskGroup) -> None:
    done: list[str] = []
    gate = asyncio.Event()
    lanes = Lanes(tasks, capacity_bytes=1000)
    lanes.submit(0, "slow", 1, job(done, "slow 1", gate))
    lanes.submit(0, "slow", 1, job(done, "slow 2"))
    lanes.submit(0, "quick", 1, job(done, "quick"))
    lanes.submit(1, "slow", 1, job(done, "the same root in another partition"))
    await settle()
    assert done == ["quick", "the same root in another partition"]
    gate.set()
    await lanes.drained([0])
    assert done[2:] == ["slow 1", "slow 2"]
    assert (len(lanes), lanes.held_bytes) == (0, 0)


async def test_who_reads_waits_for_room_and_goes_on_when_there_is(tasks: asyncio.TaskGroup) -> None:
    gate = asyncio.Event()
    lanes = Lanes(tasks, capacity_bytes=100)
    lanes.submit(0, "a", 60, job([], "a", gate))
    assert not lanes.full
    await lanes.room()
    lanes.submit(0, "b", 60, job([], "b", gate))
    assert lanes.full
    room = asyncio.create_task(lanes.room())
    await settle()
    assert not room.done()
    gate.set()
    await room
    assert not lanes.full


async def test_a_lane_whose_partition_was_lost_drops_its_work_and_goes_on(tasks: asyncio.TaskGroup) -> None:
    async def lost() -> None:
        raise OwnershipLost("gone")

    done: list[str] = []
    lanes = Lanes(tasks, capacity_bytes=100)
    lanes.submit(0, "a", 10, lost)
    lanes.submit(0, "a", 10, job(done, "after"))
    await lanes.drained([0])
    assert (done, lanes.held_bytes) == (["after"], 0)


async def test_a_mistake_of_ours_ends_the_group_and_nobody_waits_for_its_lane() -> None:
    async def broken() -> None:
        raise KeyError("ours")

    async def run() -> None:
        async with asyncio.TaskGroup() as group:
            lanes = Lanes(group, capacity_bytes=100)
            lanes.submit(0, "a", 1, broken)
            await lanes.drained([0])

    with pytest.raises(ExceptionGroup) as failed:
        await run()
    assert isinstance(failed.value.exceptions[0], KeyError)


async def test_draining_waits_for_the_named_partitions_alone(tasks: asyncio.TaskGroup) -> None:
    gate = asyncio.Event()
    lanes = Lanes(tasks, capacity_bytes=100)
    lanes.submit(1, "a", 1, job([], "a", gate))
    await lanes.drained([0, 2])
    assert len(lanes) == 1
    gate.set()


async def test_abandoned_lanes_end_where_they_stand(tasks: asyncio.TaskGroup) -> None:
    done: list[str] = []
    lanes = Lanes(tasks, capacity_bytes=100)
    lanes.submit(0, "a", 1, job(done, "a", asyncio.Event()))
    lanes.submit(0, "a", 1, job(done, "b"))
    await settle()
    lanes.abandon()
    await lanes.drained([0])
    assert done == []


def test_the_low_mark_is_the_first_offset_that_is_not_done() -> None:
    marks = LowMarks()
    for offset in (5, 6, 8):
        marks.begin(PLACE, offset)
    assert marks.positions() == {PLACE: 5}
    marks.done(PLACE, 6)
    assert marks.positions() == {PLACE: 5}
    marks.done(PLACE, 5)
    assert marks.positions() == {PLACE: 8}
    marks.done(PLACE, 8)
    assert marks.positions() == {PLACE: 9}


def test_what_was_begun_before_a_reset_moves_no_mark() -> None:
    marks = LowMarks()
    marks.begin(PLACE, 5)
    marks.reset([PLACE, Place("alarms", 3)])
    assert marks.positions() == {}
    marks.done(PLACE, 5)
    marks.begin(PLACE, 4)
    marks.done(PLACE, 5)
    assert marks.positions() == {PLACE: 4}
