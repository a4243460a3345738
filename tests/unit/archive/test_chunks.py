"""A fragment comes out of its chunks as it went in, or not at all and counted; whatever stands between them."""

from collections.abc import Iterable
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from services.archive.chunks import CAPACITY_BYTES, PATIENCE_US, STEP_US_MAX, Assembler, Why
from services.archive.segmenter import EpochId
from services.contracts.epoch import FragmentId
from services.contracts.errors import MalformedMessage
from services.contracts.fragment import CHUNKED_BYTES_MAX, Chunk, Fragment

START_US = 1_777_640_000_000_000
CAM_1 = EpochId("cam-1", "main", 7)


@dataclass(frozen=True)
class Sent:
    """One record of the partition: a chunk, or a whole fragment."""

    fragment: Fragment
    value: bytes
    offset: int = -1


def fragment(camera_id: str, seq: int) -> Fragment:
    return Fragment(
        camera_id=camera_id, stream="main", epoch=7, run=0, seq=seq, start_us=START_US + seq * 1_000_000,
        wall_us=1_000_000, media_90k=90_000, rtp_start_90k=0, recv_first_us=START_US, recv_last_us=START_US,
        clock_offset_us=None, camera_offset_ms=None, clock="synced", keyframe=True, broken_refs=False,
        codec="avc1.640033", retention_class="standard", init_sha256="aa", sha256=f"{camera_id}/{seq}",
        signed_sei="absent", init=b"ftyp",
    )  # fmt: skip


def bytes_of(at: FragmentId, count: int) -> bytes:
    return b"".join(f"{at.camera_id}/{at.seq}/{number};".encode() for number in range(max(count, 1)))


def chunks(camera_id: str, seq: int, count: int) -> list[Sent]:
    """Return the chunks of a fragment; `count` 0: one record, no chunk."""
    whole = fragment(camera_id, seq)
    value = bytes_of(whole.id, count)
    if not count:
        return [Sent(whole, value)]
    size = len(value) // count
    return [
        Sent(replace(whole, chunk=Chunk(at_bytes=at, fragment_bytes=len(value))), value[at : at + size])
        for at in range(0, len(value), size)
    ]


@dataclass
class Partition:
    """What archive does around an assembler, in small: seen is skipped, whole is stored at once."""

    assembler: Assembler = field(default_factory=Assembler)
    stored: dict[FragmentId, bytes] = field(default_factory=dict)

    def read(self, records: Iterable[Sent]) -> "Partition":
        for record in records:
            one = record.fragment
            if one.id in self.stored:
                continue
            whole = self.assembler.add(one, record.value, record.offset)
            if whole is not None:
                self.stored[one.id] = bytes(whole[0])
                self.assembler.taken(EpochId(one.camera_id, one.stream, one.epoch))
        return self

    @property
    def low(self) -> int | None:
        return min(self.assembler.first_offsets(), default=None)


def placed(records: Iterable[Sent]) -> list[Sent]:
    return [Sent(one.fragment, one.value, offset) for offset, one in enumerate(records)]


@st.composite
def logs(draw: st.DrawFn) -> list[Sent]:
    """Return what up to three cameras write into one partition: in order each, some records twice."""
    cameras: list[list[Sent]] = []
    for number in range(draw(st.integers(1, 3))):
        counts = draw(st.lists(st.integers(0, 4), min_size=1, max_size=5))
        sent = [one for seq, count in enumerate(counts) for one in chunks(f"cam-{number}", seq, count)]
        cameras.append([one for one in sent for _ in range(draw(st.sampled_from((1, 1, 1, 2))))])
    turns = draw(st.permutations([number for number, sent in enumerate(cameras) for _ in sent]))
    waiting = [iter(sent) for sent in cameras]
    return placed(next(waiting[number]) for number in turns)


def wanted(log: Iterable[Sent]) -> dict[FragmentId, bytes]:
    lengths = {one.fragment.id: one.fragment.chunk.fragment_bytes if one.fragment.chunk else 0 for one in log}
    return {at: bytes_of(at, round(length / len(bytes_of(at, 1)))) for at, length in lengths.items()}


@given(logs())
def test_chunks_among_other_cameras_and_twice_give_every_fragment(log: list[Sent]) -> None:
    partition = Partition().read(log)

    assert partition.stored == wanted(log)
    assert (partition.assembler.given_up, partition.low, partition.assembler.held_bytes) == ({}, None, 0)


@given(logs(), st.data())
def test_of_any_order_and_any_selection_a_fragment_comes_out_as_it_was_or_not_at_all(
    log: list[Sent], data: st.DataObject
) -> None:
    kept = data.draw(st.lists(st.sampled_from(log), max_size=2 * len(log)))

    partition = Partition().read(kept)

    assert partition.stored.items() <= wanted(log).items()
    begun = {one.fragment.id for one in kept if one.fragment.chunk is None or one.fragment.chunk.at_bytes == 0}
    missing = len(begun - partition.stored.keys())
    assert missing <= partition.assembler.given_up.total() + len(partition.assembler.first_offsets())


@given(logs(), st.data())
def test_a_restart_at_the_low_mark_loses_nothing(log: list[Sent], data: st.DataObject) -> None:
    stop = data.draw(st.integers(0, len(log)))
    before = Partition().read(log[:stop])

    after = Partition(stored=before.stored).read(log[stop if before.low is None else before.low :])

    assert after.stored == wanted(log)
    assert after.assembler.given_up == {}


@given(logs(), st.integers(40, 80))
def test_the_bound_holds_and_what_had_to_go_is_counted(log: list[Sent], capacity_bytes: int) -> None:
    partition = Partition(Assembler(capacity_bytes=capacity_bytes))
    for record in log:
        partition.read([record])
        assert partition.assembler.held_bytes <= capacity_bytes

    assert partition.stored.items() <= wanted(log).items()
    assert len(wanted(log)) - len(partition.stored) <= partition.assembler.given_up[Why.FULL]


@pytest.mark.parametrize("count", [0, 2], ids=["whole", "in chunks"])
def test_a_later_fragment_of_the_camera_gives_up_the_incomplete_one_and_another_camera_does_not(count: int) -> None:
    partition = Partition().read(placed([*chunks("cam-1", 4, 3)[:2], *chunks("cam-2", 9, 0)]))
    assert (partition.assembler.given_up, partition.low) == ({}, 0)

    partition.read(placed(chunks("cam-1", 5, count)))

    assert partition.assembler.given_up == {Why.OVERTAKEN: 1}
    assert [at.seq for at in partition.stored] == [9, 5]


def test_a_chunk_that_is_missing_gives_up_the_fragment_and_the_rest_of_it_is_passed_over() -> None:
    first, _, third, fourth = chunks("cam-1", 0, 4)
    partition = Partition().read(placed([first, third, fourth]))

    assert (partition.stored, partition.low) == ({}, None)
    assert partition.assembler.given_up == {Why.CHUNK_MISSING: 1}


@pytest.mark.parametrize(("seq", "gone"), [(3, 0), (4, 1), (5, 1)], ids=["before it", "with it", "after it"])
def test_the_end_of_the_run_gives_up_what_it_tells_of(seq: int, gone: int) -> None:
    partition = Partition().read(placed(chunks("cam-1", 4, 3)[:2]))

    partition.assembler.ended(CAM_1, seq)

    assert partition.assembler.given_up[Why.OVERTAKEN] == gone


def test_a_late_copy_of_another_fragments_chunk_changes_nothing() -> None:
    first, *rest = chunks("cam-1", 5, 3)
    partition = Partition().read(placed([first, *chunks("cam-1", 4, 3)[1:], *rest]))

    assert ([at.seq for at in partition.stored], partition.assembler.given_up) == ([5], {})


def test_a_fragment_whose_beginning_was_not_read_is_passed_over() -> None:
    partition = Partition().read(placed(chunks("cam-1", 0, 3)[1:]))

    assert (partition.stored, partition.low, partition.assembler.given_up) == ({}, None, {})


def test_a_partition_that_moves_on_for_half_a_minute_leaves_an_incomplete_fragment_behind() -> None:
    partition = Partition()
    partition.assembler.passed(START_US)
    partition.read(placed(chunks("cam-1", 0, 3)[:2]))
    partition.assembler.passed(START_US - 60_000_000)
    for second in range(1, PATIENCE_US // STEP_US_MAX + 1):
        partition.assembler.passed(START_US + second * STEP_US_MAX)
    assert (partition.assembler.given_up, partition.low) == ({}, 0)

    partition.assembler.passed(START_US + PATIENCE_US + 1)

    assert (partition.assembler.given_up, partition.low) == ({Why.SILENCE: 1}, None)


def test_an_hour_without_kafka_between_two_chunks_does_not_lose_the_fragment() -> None:
    *before, last = chunks("cam-1", 0, 3)
    partition = Partition()
    partition.assembler.passed(START_US)
    partition.read(placed(before))
    for tick in range(20):
        partition.assembler.passed(START_US + 3_600_000_000 + tick * 100_000)

    partition.read([last])

    assert (len(partition.stored), partition.assembler.given_up) == (1, {})


def test_a_whole_fragment_stays_needed_until_it_is_taken() -> None:
    assembler = Assembler()
    first, second = placed(chunks("cam-1", 0, 2))
    assert assembler.add(first.fragment, first.value, 5) is None
    assert assembler.add(second.fragment, second.value, 8) == (first.value + second.value, 5)
    assert assembler.first_offsets() == (5,)

    assembler.taken(CAM_1)

    assert (assembler.first_offsets(), assembler.given_up) == ((), {})


@pytest.mark.parametrize("changed", [{"sha256": "x"}, {"start_us": 1}, {"chunk": Chunk(at_bytes=5, fragment_bytes=11)}])
def test_a_chunk_of_another_fragment_under_the_same_name_is_refused(changed: dict[str, object]) -> None:
    assembler = Assembler()
    one = replace(fragment("cam-1", 0), chunk=Chunk(at_bytes=0, fragment_bytes=10))
    assembler.add(one, b"12345", 0)

    with pytest.raises(MalformedMessage, match="another fragment"):
        assembler.add(replace(one, **changed), b"12345", 1)


def test_chunks_that_are_longer_than_they_tell_are_refused() -> None:
    assembler = Assembler()
    one = fragment("cam-1", 0)
    assembler.add(replace(one, chunk=Chunk(at_bytes=0, fragment_bytes=10)), b"12345", 0)

    with pytest.raises(MalformedMessage, match="ce_fragmentlength"):
        assembler.add(replace(one, chunk=Chunk(at_bytes=5, fragment_bytes=10)), b"123456", 1)


def test_two_fragments_of_the_longest_kind_can_grow_beside_each_other() -> None:
    assert 2 * CHUNKED_BYTES_MAX <= CAPACITY_BYTES
