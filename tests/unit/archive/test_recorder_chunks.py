"""Fragments in chunks through the whole recorder: every one comes out byte for byte, or is a gap with a cause."""

from dataclasses import replace

import pytest
from msgspec import structs

from services.contracts.fragment import Fragment, read_video_headers
from services.contracts.topics import VIDEO
from services.runtime.kafka_port import Outgoing
from services.runtime.partitioner import partition_of
from tests.unit.archive.conftest import Rig
from tests.unit.archive.film import EPOCH, SECOND_US, START_US, chunk_records, end_record, fragment_record, make_film

NEIGHBOUR = next(name for n in range(9) if partition_of(name := f"cam-{n + 2}", 2) == partition_of("cam-1", 2))
"""A camera that shares the partition of cam-1."""


def at(second: int) -> int:
    return START_US + second * SECOND_US


def chunks(second: int, count: int = 3, *, camera_id: str = "cam-1") -> tuple[Outgoing, ...]:
    return chunk_records(fragment_record(make_film(), second, camera_id=camera_id), count)


def gaps(rig: Rig) -> list[tuple[int, int | None, str]]:
    found = rig.catalog.gaps_between("cam-1", "main", 0, at(10_000))
    return [(gap.from_us, gap.to_us, gap.cause) for gap in found]


def stored(rig: Rig) -> bytes:
    """Return the fragments of everything that is stored of cam-1."""
    return b"".join(
        rig.history.read(row, row.init_bytes, rig.history.index(row).end_offset - row.init_bytes) for row in rig.rows()
    )


def film(*seconds: int) -> bytes:
    return b"".join(make_film().fragments[second] for second in seconds)


async def all_committed(rig: Rig) -> None:
    await rig.until(lambda: rig.committed() == len(rig.kafka.records(VIDEO.name)))


async def go_on(rig: Rig) -> None:
    """Send seconds 5 to 7 and the end, and see everything committed."""
    await rig.film(range(5, 8))
    await rig.send(end_record(seq=7, end_us=at(8)))
    await all_committed(rig)


async def test_chunks_among_another_cameras_and_twice_are_the_fragment_byte_for_byte(rig: Rig) -> None:
    first, second, third = chunks(4)
    one, two = chunks(0, 2, camera_id=NEIGHBOUR)
    async with rig.recording():
        await rig.film(range(4))
        await rig.send(first, one, second, second, first, two, third, third)
        await rig.send(end_record(seq=0, end_us=at(1), camera_id=NEIGHBOUR))
        await go_on(rig)
    assert (rig.seqs(), gaps(rig), rig.seqs(NEIGHBOUR)) == ([(0, 7)], [], [(0, 0)])
    assert stored(rig) == film(*range(8))
    assert rig.metric("segmenter_fragments_total", verdict="new") == 9


async def test_a_restart_between_chunks_reads_them_again_for_nothing_from_the_first_on_is_committed(rig: Rig) -> None:
    first, second, third = chunks(4)
    async with rig.recording():
        await rig.film(range(4))
        await rig.send(end_record(seq=3, end_us=at(4)), first, second)
        await rig.until(lambda: rig.committed() == 5)
        await rig.until(lambda: rig.metric("chunks_held_bytes") > 0)
        await rig.turn(5)
        assert rig.committed() == 5
    await rig.send(third)
    async with rig.recording():
        await go_on(rig)
        assert rig.metric("chunks_held_bytes") == 0
    assert (rig.seqs(), gaps(rig)) == ([(0, 3), (4, 7)], [])
    assert stored(rig) == film(*range(8))


async def test_after_a_restart_a_fragment_that_never_becomes_whole_is_looked_for_once_and_is_a_gap(rig: Rig) -> None:
    async with rig.recording():
        await rig.film(range(4))
        await rig.send(end_record(seq=3, end_us=at(4)), *chunks(4)[:2])
        await rig.until(lambda: rig.committed() == 5)
    await rig.send(*chunks(5, 2))
    async with rig.recording():
        await rig.film(range(6, 8))
        await rig.send(end_record(seq=7, end_us=at(8)))
        await all_committed(rig)
    assert rig.metric("segmenter_fragments_total", verdict="look_again") == 1
    assert (rig.seqs(), gaps(rig)) == ([(0, 3), (5, 7)], [(at(4), at(5), "chunk_lost")])
    assert stored(rig) == film(0, 1, 2, 3, 5, 6, 7)


@pytest.mark.parametrize(
    ("kept", "why"), [((0, 1), "overtaken"), ((0, 2), "chunk_missing")], ids=["the last", "one between"]
)
async def test_a_lost_chunk_makes_its_fragment_a_gap(rig: Rig, kept: tuple[int, ...], why: str) -> None:
    async with rig.recording():
        await rig.film(range(4))
        await rig.send(*(chunks(4)[number] for number in kept))
        await go_on(rig)
        await rig.until(lambda: rig.metric("chunks_given_up_fragments_total", why=why) == 1)
    assert (rig.seqs(), gaps(rig)) == ([(0, 3), (5, 7)], [(at(4), at(5), "chunk_lost")])
    assert stored(rig) == film(0, 1, 2, 3, 5, 6, 7)
    assert rig.kafka.records(VIDEO.dead_letters) == []


async def test_the_last_fragment_of_a_run_whose_chunks_did_not_all_come_is_a_gap_up_to_the_end(rig: Rig) -> None:
    async with rig.recording():
        await rig.film(range(4))
        await rig.send(*chunks(4)[:2], end_record(seq=4, end_us=at(5)))
        await all_committed(rig)
        await rig.until(lambda: bool(gaps(rig)))
    assert (rig.seqs(), gaps(rig)) == ([(0, 3)], [(at(4), at(5), "chunk_lost")])


def _other_bytes(chunk: Outgoing) -> Outgoing:
    return replace(chunk, value=bytes(len(chunk.value or b"")))


def _other_fragment(chunk: Outgoing) -> Outgoing:
    facts = read_video_headers(chunk.headers)
    assert isinstance(facts, Fragment)
    return replace(chunk, headers=structs.replace(facts, sha256="0" * 64).to_headers())


@pytest.mark.parametrize(
    ("spoil", "reason"), [(_other_bytes, b"SHA-256"), (_other_fragment, b"another fragment")], ids=["bytes", "headers"]
)
async def test_a_foreign_chunk_is_a_dead_letter_and_its_fragment_a_gap_never_a_mixture(
    rig: Rig, spoil: object, reason: bytes
) -> None:
    assert callable(spoil)
    first, second, third = chunks(4)
    async with rig.recording():
        await rig.film(range(4))
        await rig.send(first, spoil(second), third)
        await go_on(rig)
    (letter,) = rig.kafka.records(VIDEO.dead_letters)
    assert reason in dict(letter.headers)["dlq_reason"]
    assert (rig.seqs(), gaps(rig)) == ([(0, 3), (5, 7)], [(at(4), at(5), "chunk_lost")])


async def test_another_ingest_amid_the_chunks_makes_them_a_gap_and_when_the_first_ends_them_footage(rig: Rig) -> None:
    first, second, third = chunks(4)
    newer = EPOCH + 9
    async with rig.recording():
        await rig.film(range(4))
        await rig.send(first, second)
        for second_of in (6, 7):
            await rig.send(fragment_record(make_film(), second_of, epoch=newer, seq=second_of - 6))
        await rig.until(lambda: gaps(rig) == [(at(4), at(6), "ingest_restart")])
        await rig.send(third, end_record(seq=4, end_us=at(5)), end_record(seq=1, end_us=at(8), epoch=newer))
        await all_committed(rig)
    assert stored(rig) == film(0, 1, 2, 3, 4, 6, 7)
    assert [(row.run_id.epoch, row.seq0, row.seq1) for row in rig.rows()] == [
        (EPOCH, 0, 3),
        (EPOCH, 4, 4),
        (newer, 0, 1),
    ]


async def test_a_camera_that_is_gone_amid_its_chunks_holds_the_commit_back_for_half_a_minute(rig: Rig) -> None:
    async with rig.recording():
        await rig.film(range(4))
        await rig.send(end_record(seq=3, end_us=at(4)), *chunks(4)[:2])
        await rig.film(range(4, 30), camera_id=NEIGHBOUR, run=0)
        await rig.send(end_record(seq=29, end_us=at(30), camera_id=NEIGHBOUR))
        await rig.until(lambda: rig.seqs(NEIGHBOUR) == [(4, 29)])
        await rig.turn(2)
        assert rig.committed() == 5
        await rig.film(range(30, 40), camera_id=NEIGHBOUR, run=1)
        await rig.send(end_record(seq=39, end_us=at(40), camera_id=NEIGHBOUR, run=1))
        await all_committed(rig)
        assert rig.metric("chunks_given_up_fragments_total", why="silence") == 1


async def test_scratch_that_fails_at_the_last_chunk_has_all_chunks_read_again(rig: Rig) -> None:
    first, second, third = chunks(4)
    async with rig.recording():
        await rig.film(range(4))
        await rig.send(end_record(seq=3, end_us=at(4)), first, second)
        await rig.until(lambda: rig.committed() == 5)
        rig.scratch.broken = True
        await rig.send(third)
        await rig.until(lambda: "scratch_failed" in rig.faults())
        assert rig.committed() == 5
        rig.scratch.broken = False
        await go_on(rig)
    assert (rig.seqs(), gaps(rig)) == ([(0, 3), (4, 7)], [])
    assert stored(rig) == film(*range(8))
