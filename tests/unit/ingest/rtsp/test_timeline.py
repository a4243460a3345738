"""RTP time: wraps, outliers, holes, new runs, B-frames."""

import itertools

from hypothesis import given
from hypothesis import strategies as st

from services.ingest.rtsp.timeline import HOLE, NEW_RUN, ON_LINE, Place, Timeline

FRAME = 3_600
FRAME_US = 40_000


def push_all(timeline: Timeline, stamps: list[int], arrivals: list[int] | None = None) -> list[Place]:
    times = arrivals or [n * FRAME_US for n in range(len(stamps))]
    placed = [p for stamp, us in zip(stamps, times, strict=True) for p in timeline.push(stamp % (1 << 32), us)]
    return placed + timeline.flush()


def test_t05_the_32_bit_wrap_is_no_step() -> None:
    begin = (1 << 32) - 2 * FRAME
    placed = push_all(Timeline(interval=FRAME), [begin + n * FRAME for n in range(6)])
    assert [p.dts for p in placed] == [begin + n * FRAME for n in range(6)]
    assert {p.how for p in placed} == {ON_LINE}


def test_t03_a_step_back_inside_the_reorder_window_is_learned_as_b_frames() -> None:
    order = [0, 3, 1, 2, 6, 4, 5, 9, 7, 8, 12, 10, 11]
    timeline = Timeline(interval=FRAME)
    placed = push_all(timeline, [n * FRAME for n in order])
    assert {p.how for p in placed} == {ON_LINE}
    assert [p.dts + p.offset for p in placed] == [n * FRAME for n in order]
    assert all(a.dts < b.dts for a, b in itertools.pairwise(placed))
    assert timeline.reorder == 1


def test_declared_b_frames_give_even_decode_times() -> None:
    order = [0, 3, 1, 2, 6, 4, 5]
    placed = push_all(Timeline(interval=FRAME, reorder=1), [n * FRAME for n in order])
    assert [p.dts for p in placed] == [n * FRAME for n in range(7)]


def test_one_unit_stamped_elsewhere_keeps_its_nominal_place() -> None:
    stamps = [0, FRAME, 900_000_000, 3 * FRAME, 4 * FRAME]
    timeline = Timeline(interval=FRAME)
    placed = push_all(timeline, stamps)
    assert [(p.how, p.dts) for p in placed] == [(ON_LINE, n * FRAME) for n in range(5)]
    assert timeline.outliers == 1


def test_a_forward_step_that_agrees_with_the_receive_clock_is_a_hole() -> None:
    stamps = [0, FRAME, FRAME + 450_000, 2 * FRAME + 450_000]
    arrivals = [0, FRAME_US, FRAME_US + 5_000_000, 2 * FRAME_US + 5_000_000]
    assert [p.how for p in push_all(Timeline(interval=FRAME), stamps, arrivals)] == [ON_LINE, ON_LINE, HOLE, ON_LINE]


def test_t04_forward_hours_at_once_is_a_new_run() -> None:
    jump = 3_600 * 90_000 * 3
    placed = push_all(Timeline(interval=FRAME), [0, FRAME, jump, jump + FRAME])
    assert [p.how for p in placed] == [ON_LINE, ON_LINE, NEW_RUN, ON_LINE]


def test_back_beyond_the_window_is_a_new_run() -> None:
    placed = push_all(Timeline(interval=FRAME), [900_000, 903_600, 0, FRAME])
    assert [p.how for p in placed] == [ON_LINE, ON_LINE, NEW_RUN, ON_LINE]


def test_a_slower_frame_rate_is_no_hole() -> None:
    second = 90_000
    stamps = [0, FRAME, FRAME + second, FRAME + 2 * second, FRAME + 3 * second]
    arrivals = [0, FRAME_US, 1_040_000, 2_040_000, 3_040_000]
    timeline = Timeline(interval=FRAME)
    assert {p.how for p in push_all(timeline, stamps, arrivals)} == {ON_LINE}
    assert timeline.interval > second // 2


@given(st.lists(st.integers(0, (1 << 32) - 1), min_size=1, max_size=60))
def test_any_stamps_place_every_unit_once_with_rising_times_inside_a_run(stamps: list[int]) -> None:
    placed = push_all(Timeline(), stamps)
    assert len(placed) == len(stamps)
    for before, after in itertools.pairwise(placed):
        assert after.how == NEW_RUN or after.dts > before.dts
