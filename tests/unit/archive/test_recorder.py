"""What fails around the recorder loses nothing: store, scratch, disk, commits, ownership, retention."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import pytest

from services.archive.recorder import SCRATCH_PAUSE_NS
from services.contracts.gap import Gap
from services.contracts.topics import VIDEO
from services.runtime.dead_letter import RUN_MAX
from services.runtime.errors import OwnershipLost, RetryLater
from services.runtime.kafka_port import Assigned, GroupProfile, Place
from services.runtime.partitioner import partition_of
from tests.unit.archive.conftest import GROUP, Rig
from tests.unit.archive.film import SECOND_US, START_US, end_record, fragment_record, make_film


def at(second: int) -> int:
    return START_US + second * SECOND_US


def place_of(rig: Rig) -> Place:
    """Return the partition of cam-1."""
    return next(record.place for record in rig.kafka.records(VIDEO.name) if record.key == "cam-1")


async def test_commits_that_fail_three_times_lose_nothing_and_repeat_nothing(rig: Rig) -> None:
    await rig.film(range(8))
    await rig.send(end_record(seq=7, end_us=at(8)))
    async with rig.recording():
        rig.consumer.errors = [RetryLater("no answer")] * 3
        await rig.until(lambda: rig.metric("recorder_commits_total", result="failed") == 3)
        await rig.until(lambda: rig.committed() == 9)
    assert rig.seqs() == [(0, 7)]
    assert rig.metric("segmenter_fragments_total", verdict="new") == 8


async def test_lost_ownership_drops_the_lanes_and_commits_nothing(rig: Rig) -> None:
    await rig.film(range(4))
    async with rig.recording() as recorder:
        rig.consumer.errors = [OwnershipLost("another member")] * 100
        await rig.until(lambda: rig.metric("recorder_commits_total", result="lost") >= 1)
        await rig.until(lambda: not recorder.status()["partitions"])
        assert len(rig.tail) == 0
        assert rig.scratch.used_bytes == 0
    assert rig.committed() == 0
    await rig.send(end_record(seq=3, end_us=at(4)))
    async with rig.recording():
        await rig.until(lambda: rig.committed() == 5)
    assert rig.seqs() == [(0, 3)]


async def test_scratch_that_fails_while_a_segment_is_being_stored_costs_neither(rig: Rig) -> None:
    rig.store.gate.clear()
    await rig.film(range(4))
    await rig.send(end_record(seq=3, end_us=at(4)))
    async with rig.recording():
        await rig.until(rig.store.inside.is_set)
        rig.scratch.broken = True
        await rig.film(range(4, 8), run=1)
        await rig.until(lambda: "scratch_failed" in rig.faults())
        rig.scratch.broken = False
        rig.store.gate.set()
        await rig.send(end_record(seq=7, end_us=at(8), run=1))
        await rig.until(lambda: rig.committed() == 10)
        await rig.until(lambda: rig.scratch.used_bytes == 0)
    assert rig.seqs() == [(0, 3), (4, 7)]
    assert rig.metric("writer_key_conflicts_total") == 0
    assert list((rig.directory / "scratch").iterdir()) == []


async def test_scratch_that_stays_broken_is_tried_once_in_five_seconds(rig: Rig) -> None:
    await rig.film(range(8))
    async with rig.recording():
        rig.scratch.broken = True
        await rig.until(lambda: "scratch_failed" in rig.faults())
        before = rig.metric("segmenter_fragments_total", verdict="new")
        await rig.turn(SCRATCH_PAUSE_NS / 1e9 - 1)
        assert rig.metric("segmenter_fragments_total", verdict="new") == before
        rig.scratch.broken = False
        await rig.until(lambda: len(rig.tail) == 1)
    assert rig.committed() == 0


async def test_scratch_full_of_open_segments_is_relieved_and_what_follows_depends_on_it(rig: Rig) -> None:
    one = len(make_film().fragments[0])
    rig.scratch_bytes = 6 * one
    async with rig.recording():
        for second in range(30):
            await rig.film(range(second, second + 1))
            await rig.turn()
        await rig.send(end_record(seq=29, end_us=at(30)))
        await rig.until(lambda: rig.committed() == 31)
        assert rig.scratch.used_bytes == 0
    assert "scratch_full" in rig.faults()
    assert rig.metric("segmenter_cuts_total", reason="scratch_full") >= 2
    assert [seq for first, last in rig.seqs() for seq in range(first, last + 1)] == list(range(30))
    assert any(row.dependent for row in rig.rows())
    tiles = rig.history.tiles("cam-1", "main", at(0), at(30))
    assert {one.state for one in tiles} == {"recorded"}


async def test_while_the_store_is_away_commits_wait_and_afterwards_all_is_there(rig: Rig) -> None:
    rig.store.away = True
    async with rig.recording():
        for run in range(3):
            await rig.film(range(run * 4, run * 4 + 4), run=run)
            await rig.send(end_record(seq=run * 4 + 3, end_us=at(run * 4 + 4), run=run))
        await rig.until(lambda: "storage_unavailable" in rig.faults())
        await rig.turn(600)
        assert rig.committed() == 0
        assert rig.rows() == []
        assert {one.state for one in rig.history.tiles("cam-1", "main", at(0), at(12))} == {"open"}
        assert rig.metric("oldest_pending_seconds") > 500
        rig.store.away = False
        await rig.until(lambda: rig.committed() == 15)
    assert rig.seqs() == [(0, 3), (4, 7), (8, 11)]
    assert [key for key in rig.store.puts if "init" not in key] == [row.key for row in rig.rows()]


async def test_what_retention_took_before_it_was_read_is_a_gap_with_its_cause_and_an_alarm(rig: Rig) -> None:
    await rig.film(range(4))
    await rig.send(end_record(seq=3, end_us=at(4)))
    async with rig.recording():
        await rig.until(lambda: rig.committed() == 5)
    await rig.film(range(4, 20), run=1)
    rig.kafka.drop_before(place_of(rig), 15)
    await rig.send(end_record(seq=19, end_us=at(20), run=1))
    async with rig.recording():
        await rig.until(lambda: rig.committed() == 22)
    assert rig.seqs() == [(0, 3), (14, 19)]
    (gap,) = rig.catalog.gaps_between("cam-1", "main", at(0), at(20))
    assert (gap.cause, gap.from_us, gap.to_us) == ("kafka_retention_loss", at(4), at(14))
    assert "kafka_retention_loss" in rig.faults()


async def test_a_hole_in_time_of_which_ingest_s_own_record_never_came_is_a_gap(rig: Rig) -> None:
    """Ingest gave footage up, and died before it could say so: `seq` has no hole."""
    await rig.film(range(4))
    await rig.send(*(fragment_record(make_film(), second, seq=second - 6, run=1) for second in range(10, 14)))
    async with rig.recording():
        await rig.until(lambda: rig.metric("gaps_total", cause="ingest_restart") == 1)
    (gap,) = rig.catalog.gaps_between("cam-1", "main", START_US, at(100))
    assert (gap.from_us, gap.to_us) == (at(4), at(10))


async def test_a_partition_that_cannot_be_read_is_held_and_the_others_are_recorded(rig: Rig) -> None:
    await rig.send(*(replace(fragment_record(make_film(), 0), value=b"?") for _ in range(RUN_MAX + 5)))
    await rig.film(range(4))
    elsewhere = next(
        name for name in map("cam-{}".format, range(2, 99)) if partition_of(name, 2) != partition_of("cam-1", 2)
    )
    async with rig.recording() as recorder:
        await rig.until(lambda: rig.faults() == {"too_many_dead_letters"})
        await rig.film(range(4), camera_id=elsewhere)
        await rig.send(end_record(seq=3, end_us=at(4), camera_id=elsewhere))
        await rig.until(lambda: rig.seqs(elsewhere) == [(0, 3)])
        assert recorder.status()["unreadable"] == [place_of(rig).partition]
    assert len(rig.kafka.records(VIDEO.dead_letters)) == RUN_MAX
    async with rig.recording():  # another life reads on where this one was held
        await rig.until(lambda: rig.metric("segmenter_fragments_total", verdict="new") == 8)
    assert len(rig.kafka.records(VIDEO.dead_letters)) == RUN_MAX + 5


async def test_no_row_is_written_before_the_hole_in_front_of_it_is_explained(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The catalog takes rows but not gaps for a while: a crash then would leave the hole unexplained for ever."""
    add_gaps, refusals = rig.catalog.add_gaps, iter(range(3))

    def refused(found: Iterable[Gap]) -> int:
        if next(refusals, None) is not None:
            assert rig.rows() == []
            raise RetryLater("catalog: told so")
        return add_gaps(found)

    monkeypatch.setattr(rig.catalog, "add_gaps", refused)
    await rig.film(range(4))
    await rig.send(end_record(seq=5, end_us=at(6)))
    async with rig.recording():
        await rig.until(lambda: rig.committed() == 5)
    assert rig.seqs() == [(0, 3)]
    (gap,) = rig.catalog.gaps_between("cam-1", "main", START_US, at(100))
    assert (gap.from_us, gap.to_us) == (at(4), at(6))


async def test_below_the_disk_reserve_video_stays_in_kafka(rig: Rig) -> None:
    async with rig.recording():
        rig.free_bytes = 1000
        await rig.until(lambda: "disk_reserve" in rig.faults())
        await rig.film(range(4))
        await rig.turn(60)
        assert len(rig.tail) == 0
        await rig.until(lambda: rig.metric("recorder_held_partitions") == 2)
        rig.free_bytes = 1 << 40
        await rig.until(lambda: len(rig.tail) == 1)


async def test_a_reader_of_the_open_tail_goes_on_in_the_store(rig: Rig) -> None:
    await rig.film(range(4))
    async with rig.recording():
        await rig.until(lambda: len(rig.tail) == 1)
        (source,) = rig.tail.segments("cam-1", "main")
        seen = rig.history.read(source, 0, source.size_bytes)
        await rig.send(end_record(seq=3, end_us=at(4)))
        await rig.until(lambda: rig.committed() == 5)
        assert (
            rig.history.read(source, 0, source.size_bytes)
            == seen
            == make_film().init + b"".join(make_film().fragments[:4])
        )


class Idle:
    """Another member that reads nothing."""

    async def assigned(self, partitions: Sequence[Assigned]) -> Mapping[Place, int]:
        return {one.place: one.beginning for one in partitions}

    async def revoked(self, places: frozenset[Place]) -> None:
        """Hold nothing."""


async def test_a_partition_that_goes_and_comes_back_goes_on_where_it_stood(rig: Rig) -> None:
    await rig.film(range(4))
    async with rig.recording():
        await rig.until(lambda: len(rig.tail) == 1)
        async with rig.kafka.group(GROUP, (VIDEO.name,), GroupProfile.ARCHIVE_VIDEO, Idle()):
            await rig.turn(2)
        await rig.film(range(4, 6))
        await rig.send(end_record(seq=5, end_us=at(6)))
        await rig.until(lambda: rig.committed() == 7)
    assert rig.seqs() == [(0, 5)]
