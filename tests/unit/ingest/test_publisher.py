"""Fragments reach Kafka once each and in order; what cannot is a gap; a camera never waits for it."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from services.contracts.fragment import Chunk, Fragment, VideoEnd, read_video_headers
from services.ingest.gap_ledger import Lost
from services.ingest.media_types import ClosedFragment, InitSegment
from services.ingest.publisher import Lane, VideoPublisher
from services.runtime.clock import FakeClock, settle
from services.runtime.errors import PoisonMessage, SendUnknown

BEGUN_US = 1_777_640_000_000_000
SECOND_US = 1_000_000
MIB = 1024 * 1024
INIT = InitSegment(data=b"ftypmoov", sha256="aa", codec="avc1.64001f", width=640, height=360)


class Listener:
    def __init__(self) -> None:
        self.kept: list[float] = []
        self.given_up: list[Lost] = []

    def acked(self, start_us: int, _end_us: int) -> None:
        self.kept.append((start_us - BEGUN_US) / SECOND_US)

    def lost(self, lost: Lost) -> None:
        self.given_up.append(lost)


class Buffers:
    """Makes fragments and counts the buffers that came back."""

    def __init__(self) -> None:
        self.out = 0

    def fragment(self, second: int, *, size: int = 100, run: int = 0) -> ClosedFragment:
        self.out += 1
        return ClosedFragment(
            data=memoryview(bytearray(b"%03d" % second + bytes(size - 3))),
            sha256="bb",
            init=INIT,
            run=run,
            start_us=BEGUN_US + second * SECOND_US,
            wall_us=SECOND_US,
            media_start_90k=second * 90_000,
            media_90k=90_000,
            rtp_start_90k=second * 90_000,
            recv_first_us=BEGUN_US + second * SECOND_US,
            recv_last_us=BEGUN_US + second * SECOND_US,
            camera_offset_ms=None,
            rate_wrong=False,
            keyframe=True,
            broken_refs=False,
            signed_sei="absent",
            units=25,
            give_back=self._back,
        )

    def _back(self) -> None:
        self.out -= 1


@pytest.fixture
def kafka(scripted_kafka: Callable[[], Any]) -> Any:
    return scripted_kafka()


@pytest.fixture
def listener() -> Listener:
    return Listener()


@pytest.fixture
def buffers() -> Buffers:
    return Buffers()


@asynccontextmanager
async def running(
    kafka: Any, clock: FakeClock, listener: Listener, *, capacity_bytes: int = 10_000
) -> AsyncIterator[tuple[VideoPublisher, Lane]]:
    publisher = VideoPublisher(kafka, capacity_bytes=capacity_bytes, clock=clock, host_clock=lambda: "synced")
    lane = publisher.lane("cam-1", "main", retention_class="standard", listener=listener)
    tasks = [asyncio.create_task(publisher.run()), asyncio.create_task(lane.run())]
    await settle()
    try:
        yield publisher, lane
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def said(kafka: Any) -> list[str]:
    """Return what stands in `video`: `run/seq` of fragments, `end run/seq` of ends."""
    found = []
    for record in kafka.sent:
        read = read_video_headers(record.headers)
        prefix = "end " if isinstance(read, VideoEnd) else ""
        found.append(f"{prefix}{read.run}/{read.seq}")
    return found


def chunks_sent(kafka: Any) -> list[Chunk]:
    read = (read_video_headers(record.headers) for record in kafka.sent)
    return [one.chunk for one in read if isinstance(one, Fragment) and one.chunk is not None]


async def test_a_fragment_goes_out_as_the_cameras_own_buffer_which_then_comes_back(
    kafka: Any, clock: FakeClock, listener: Listener, buffers: Buffers
) -> None:
    async with running(kafka, clock, listener) as (_, lane):
        lane.claimed(7)
        lane.put(buffers.fragment(0), 1)
        await settle()

    (record,) = kafka.sent
    read = read_video_headers(record.headers)
    assert isinstance(read, Fragment)
    assert (read.epoch, read.run, read.seq, read.codec, read.clock) == (7, 0, 0, "avc1.64001f", "synced")
    assert (record.key, record.topic, record.value[:3]) == ("cam-1", "video", b"000")
    assert (buffers.out, listener.kept) == (0, [0.0])


async def test_nothing_is_sent_before_the_claim_and_buffers_do_not_wait_for_it(
    kafka: Any, clock: FakeClock, listener: Listener, buffers: Buffers
) -> None:
    async with running(kafka, clock, listener) as (_, lane):
        lane.put(buffers.fragment(0), 1)
        lane.put(buffers.fragment(1), 1)
        await settle()
        assert (kafka.sent, buffers.out) == ([], 0)
        lane.claimed(9)
        await settle()

    assert said(kafka) == ["0/0", "0/1"]


async def test_a_send_without_an_answer_is_repeated_as_the_same_record(
    kafka: Any, clock: FakeClock, listener: Listener, buffers: Buffers
) -> None:
    kafka.failing = [SendUnknown("no answer"), SendUnknown("no answer")]
    async with running(kafka, clock, listener) as (_, lane):
        lane.claimed(1)
        for second in range(3):
            lane.put(buffers.fragment(second), 1)
        await settle()
        assert buffers.out == 0
        await clock.advance(5)

    assert said(kafka) == ["0/0", "0/1", "0/2"]
    assert listener.given_up == []


async def test_a_run_ends_with_its_own_record_and_seq_goes_on_over_runs(
    kafka: Any, clock: FakeClock, listener: Listener, buffers: Buffers
) -> None:
    async with running(kafka, clock, listener) as (_, lane):
        lane.claimed(1)
        lane.put(buffers.fragment(0), 1)
        lane.put(buffers.fragment(1, run=1), 1)
        lane.cut()
        lane.put(buffers.fragment(2), 2)
        lane.cut()
        lane.cut()
        await asyncio.wait_for(lane.flushed(), 1)

    assert said(kafka) == ["0/0", "end 0/0", "1/1", "end 1/1", "2/2", "end 2/2"]


async def test_beyond_the_bound_the_oldest_of_the_camera_becomes_a_gap_and_a_new_run(
    kafka: Any, clock: FakeClock, listener: Listener, buffers: Buffers
) -> None:
    async with running(kafka, clock, listener, capacity_bytes=300) as (_, lane):
        lane.claimed(1)
        lane.put(buffers.fragment(0), 1)
        await settle()
        kafka.silent = True
        for second in range(1, 6):
            lane.put(buffers.fragment(second), 1)
            await settle()
        await clock.advance(3)
        lane.put(buffers.fragment(6), 1)
        kafka.answer()
        await settle(100)

    assert [(one.from_us - BEGUN_US) // SECOND_US for one in listener.given_up] == [2, 3, 4]
    assert listener.given_up[-1].cause == "kafka_unavailable"
    assert said(kafka) == ["0/0", "0/1", "end 0/1", "1/2", "1/3"]
    assert listener.kept == [0.0, 1.0, 5.0, 6.0]
    assert buffers.out == 0


async def test_what_is_given_up_while_a_run_ends_makes_a_new_run_too(
    kafka: Any, clock: FakeClock, listener: Listener, buffers: Buffers
) -> None:
    async with running(kafka, clock, listener, capacity_bytes=300) as (_, lane):
        lane.claimed(1)
        lane.put(buffers.fragment(0), 1)
        await settle()
        kafka.silent = True
        for second in range(1, 5):
            lane.put(buffers.fragment(second, run=1), 1)
            await settle()
        kafka.answer()
        await settle(100)

    assert [(one.from_us - BEGUN_US) // SECOND_US for one in listener.given_up] == [2]
    assert said(kafka) == ["0/0", "end 0/0", "1/1", "end 1/1", "2/2", "2/3"]


async def test_with_nothing_of_its_own_to_give_up_a_camera_takes_the_oldest_of_another(
    kafka: Any, clock: FakeClock, listener: Listener, buffers: Buffers
) -> None:
    async with running(kafka, clock, listener, capacity_bytes=300) as (publisher, lane):
        waiting = Listener()
        other = publisher.lane("cam-2", "main", retention_class="standard", listener=waiting)
        other.put(buffers.fragment(0), 1)
        other.put(buffers.fragment(1), 1)
        lane.claimed(1)
        kafka.silent = True
        lane.put(buffers.fragment(2), 1)
        await settle()
        lane.put(buffers.fragment(3), 1)

        assert [(one.from_us - BEGUN_US) // SECOND_US for one in waiting.given_up] == [0]
        assert listener.given_up == []
        kafka.answer()


async def test_without_room_for_it_a_fragment_is_a_gap_and_the_camera_goes_on(
    kafka: Any, clock: FakeClock, listener: Listener, buffers: Buffers
) -> None:
    kafka.reachable = False
    async with running(kafka, clock, listener, capacity_bytes=50) as (publisher, lane):
        lane.put(buffers.fragment(0), 1)

        assert [one.cause for one in listener.given_up] == ["kafka_unavailable"]
        assert (buffers.out, publisher.statistics()["buffered_bytes"]) == (0, 0)


async def test_a_full_disk_stops_video_with_a_gap_and_ends_the_run(
    kafka: Any, clock: FakeClock, listener: Listener, buffers: Buffers
) -> None:
    async with running(kafka, clock, listener) as (publisher, lane):
        lane.claimed(1)
        lane.put(buffers.fragment(0), 1)
        await settle()
        publisher.stop_video(disk_full=True)
        lane.put(buffers.fragment(1), 1)
        await settle()
        publisher.stop_video(disk_full=False)
        lane.put(buffers.fragment(2), 1)
        await settle()

    assert said(kafka) == ["0/0", "end 0/0", "1/1"]
    assert [(one.cause, one.detail) for one in listener.given_up] == [("disk_full", "reserve_reached")]
    assert buffers.out == 0


async def test_a_unit_that_no_topic_takes_is_a_gap_and_the_next_one_is_sent(
    kafka: Any, clock: FakeClock, listener: Listener, buffers: Buffers
) -> None:
    kafka.failing = [PoisonMessage("larger than the topic takes")]
    async with running(kafka, clock, listener) as (_, lane):
        lane.claimed(1)
        lane.put(buffers.fragment(0), 1)
        lane.put(buffers.fragment(1), 1)
        await settle()

    assert [one.detail for one in listener.given_up] == ["unit_too_large"]
    assert listener.kept == [1.0]


async def test_a_fragment_above_a_mebibyte_goes_out_in_chunks_in_order(
    kafka: Any, clock: FakeClock, listener: Listener, buffers: Buffers
) -> None:
    async with running(kafka, clock, listener, capacity_bytes=9 * MIB) as (publisher, lane):
        lane.claimed(1)
        lane.put(buffers.fragment(0, size=MIB), 1)
        lane.put(buffers.fragment(1, size=2 * MIB + 1), 1)
        await settle(100)
        assert publisher.statistics()["buffered_bytes"] == 0

    assert said(kafka) == ["0/0", "0/1", "0/1", "0/1"]
    assert chunks_sent(kafka) == [Chunk(at_bytes=number * MIB, fragment_bytes=2 * MIB + 1) for number in range(3)]
    assert [len(record.value) for record in kafka.sent] == [MIB, MIB, MIB, 1]
    assert b"".join(record.value for record in kafka.sent[1:]) == b"001" + bytes(2 * MIB - 2)
    ids = [dict(record.headers)["ce_id"] for record in kafka.sent]
    assert ids == [b"cam-1/main/1/0", b"cam-1/main/1/1/0", b"cam-1/main/1/1/1048576", b"cam-1/main/1/1/2097152"]
    assert (buffers.out, listener.kept) == (0, [0.0, 1.0])


async def test_a_chunk_without_an_answer_is_sent_again_and_those_before_it_are_not(
    kafka: Any, clock: FakeClock, listener: Listener, buffers: Buffers
) -> None:
    async with running(kafka, clock, listener, capacity_bytes=9 * MIB) as (_, lane):
        lane.claimed(1)
        kafka.silent_from = 1
        lane.put(buffers.fragment(0, size=4 * MIB), 1)
        await settle(100)
        assert [chunk.at_bytes for chunk in chunks_sent(kafka)] == [0]
        assert (buffers.out, listener.kept) == (0, [])
        kafka.failing = [SendUnknown("no answer"), SendUnknown("no answer")]
        kafka.answer()
        await settle(100)
        await clock.advance(5)
        await settle(100)

    assert [chunk.at_bytes // MIB for chunk in chunks_sent(kafka)] == [0, 1, 2, 3]
    assert b"".join(record.value for record in kafka.sent) == b"000" + bytes(4 * MIB - 3)
    assert (listener.kept, listener.given_up) == ([0.0], [])


async def test_chunks_of_two_cameras_of_one_partition_do_not_mix(
    kafka: Any, clock: FakeClock, listener: Listener, buffers: Buffers
) -> None:
    async with running(kafka, clock, listener, capacity_bytes=9 * MIB) as (publisher, lane):
        other = publisher.lane("cam-2", "main", retention_class="standard", listener=listener)
        task = asyncio.create_task(other.run())
        lane.claimed(1)
        other.claimed(1)
        kafka.silent = True
        lane.put(buffers.fragment(0, size=4 * MIB), 1)
        other.put(buffers.fragment(0, size=4 * MIB), 1)
        await settle()
        assert buffers.out == 0
        kafka.answer()
        await settle(100)
        task.cancel()

    runs = [(key, len(list(records))) for key, records in itertools.groupby(kafka.sent, lambda record: record.key)]
    assert sorted(runs) == [("cam-1", 4), ("cam-2", 4)]


async def test_a_unit_longer_than_chunks_may_be_is_a_gap_and_ends_the_run(
    kafka: Any, clock: FakeClock, listener: Listener, buffers: Buffers
) -> None:
    async with running(kafka, clock, listener, capacity_bytes=99 * MIB) as (publisher, lane):
        lane.claimed(1)
        lane.put(buffers.fragment(0), 1)
        lane.put(buffers.fragment(1, size=12 * MIB + 1), 1)
        lane.put(buffers.fragment(2), 1)
        await settle(100)
        assert publisher.statistics()["buffered_bytes"] == 0

    assert [(one.cause, one.detail) for one in listener.given_up] == [("stream_error", "unit_too_large")]
    assert said(kafka) == ["0/0", "end 0/1", "1/2"]
    assert buffers.out == 0


async def test_at_the_end_what_still_waits_is_named(
    kafka: Any, clock: FakeClock, listener: Listener, buffers: Buffers
) -> None:
    kafka.reachable = False
    async with running(kafka, clock, listener) as (publisher, lane):
        lane.claimed(1)
        lane.put(buffers.fragment(0), 1)
        lane.put(buffers.fragment(1), 1)
        await settle()

        assert [one.cause for one in lane.abandon()] == ["kafka_unavailable", "kafka_unavailable"]
        assert (buffers.out, publisher.statistics()["buffered_bytes"]) == (0, 0)
