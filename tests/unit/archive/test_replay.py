"""Duplicates and holes are told by identity, and a hole is looked for once more."""

from hypothesis import given
from hypothesis import strategies as st

from services.archive.replay import EpochTrack, SeqRanges, Verdict, resume_at


@given(st.lists(st.tuples(st.integers(0, 60), st.integers(0, 9)), max_size=20))
def test_ranges_hold_exactly_what_was_added(added: list[tuple[int, int]]) -> None:
    ranges = SeqRanges()
    for first, more in added:
        ranges.add(first, first + more)
    expected = {seq for first, more in added for seq in range(first, first + more + 1)}
    assert {seq for seq in range(80) if seq in ranges} == expected
    assert all(one[1] + 1 < two[0] for one, two in zip(ranges.ranges(), ranges.ranges()[1:], strict=False))


def test_what_is_catalogued_is_a_duplicate_and_the_next_is_new() -> None:
    track = EpochTrack(seen=SeqRanges([(0, 9)]), end_us=10)
    assert [track.judge(seq) for seq in (0, 9, 10)] == [Verdict.DUPLICATE, Verdict.DUPLICATE, Verdict.NEW]


def test_a_hole_just_after_the_assignment_is_looked_for_once() -> None:
    track = EpochTrack(seen=SeqRanges([(0, 9)]), end_us=10)
    assert track.judge(12) is Verdict.LOOK_AGAIN
    track.looked_again = True
    assert track.judge(12) is Verdict.HOLE


def test_a_hole_in_the_middle_of_reading_is_a_hole() -> None:
    track = EpochTrack()
    track.take(0, 1)
    assert track.judge(2) is Verdict.HOLE


def test_a_late_fragment_of_a_hole_is_new() -> None:
    track = EpochTrack(seen=SeqRanges([(0, 3), (6, 9)]), end_us=10)
    assert track.judge(4) is Verdict.NEW


def test_a_committed_offset_beyond_the_end_means_that_the_log_went_back() -> None:
    assert resume_at(committed=100, beginning=5, end=99).went_back
    assert resume_at(committed=100, beginning=5, end=99).offset == 5
    assert resume_at(committed=99, beginning=5, end=99).offset == 99
    assert resume_at(committed=None, beginning=5, end=99).offset == 5
