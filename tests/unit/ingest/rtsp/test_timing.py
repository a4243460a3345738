"""Clocks: the anchor, the slew, rates that are wrong, and time that never overlaps."""

import itertools

from hypothesis import given
from hypothesis import strategies as st

from services.ingest.timing import CameraClock, HostTime, RunClock, media_us

START_US = 1_700_000_000_000_000
SECOND = 90_000


def run_seconds(
    clock: RunClock, count: int, *, rate_ppm: int = 0, jitter_us: list[int] | None = None
) -> list[tuple[int, int]]:
    """Place one-second fragments of a camera whose clock is off by `rate_ppm`."""
    placed = []
    for n in range(count):
        for unit in range(5):
            media = n * SECOND + unit * SECOND // 5
            true_us = START_US + media_us(media) * 1_000_000 // (1_000_000 + rate_ppm)
            late = jitter_us[(n * 5 + unit) % len(jitter_us)] if jitter_us else 0
            clock.observe(media, true_us + late)
        place = clock.place(
            n * SECOND, SECOND, START_US + media_us((n + 1) * SECOND) * 1_000_000 // (1_000_000 + rate_ppm)
        )
        placed.append((place.start_us, place.wall_us))
    return placed


def test_the_least_delayed_frame_sets_the_start() -> None:
    clock = RunClock()
    clock.observe(0, START_US + 300_000)
    clock.observe(3_600, START_US + 40_000 + 5_000)
    clock.observe(7_200, START_US + 80_000 + 90_000)
    assert clock.place(0, 10_800, START_US + 170_000).start_us == START_US + 5_000


def test_t02_a_burst_on_connect_holds_publication_until_media_is_no_faster_than_time() -> None:
    clock = RunClock()
    for n in range(125):
        clock.observe(n * 3_600, START_US + n * 100)
        assert not clock.anchored(START_US + n * 100)
    now = START_US + 125 * 100
    for n in range(125, 150):
        clock.observe(n * 3_600, now)
        now += 40_000
    assert clock.anchored(now)
    assert clock.place(0, SECOND, now).start_us < START_US - 4_900_000


def test_the_hold_ends_after_two_seconds_whatever_comes() -> None:
    clock = RunClock()
    clock.observe(0, START_US)
    clock.observe(9_000_000, START_US + 1_999_999)
    assert not clock.anchored(START_US + 1_999_999)
    assert clock.anchored(START_US + 2_000_000)


@given(st.lists(st.integers(0, 400_000), min_size=1, max_size=40), st.integers(-400, 400))
def test_fragments_tile_time_and_are_slewed_by_500_ppm_at_most(jitter: list[int], rate_ppm: int) -> None:
    placed = run_seconds(RunClock(), 40, rate_ppm=rate_ppm, jitter_us=jitter)
    for (start, wall), (following, _) in itertools.pairwise(placed):
        assert start + wall == following
        assert abs(wall - 1_000_000) <= 500


def test_t01_a_camera_20_ppm_fast_stays_near_true_time_for_a_day() -> None:
    placed = run_seconds(RunClock(), 6_000, rate_ppm=20)
    start, wall = placed[-1]
    true_end_us = START_US + 6_000 * 1_000_000 * 1_000_000 // 1_000_020
    assert abs(start + wall - true_end_us) < 50_000


def test_a_rate_that_is_wrong_follows_the_receive_clock_and_says_so() -> None:
    clock = RunClock()
    placed = run_seconds(clock, 200, rate_ppm=100_000)
    assert clock.rate_wrong
    start, wall = placed[-1]
    true_end_us = START_US + 200 * 1_000_000 * 10 // 11
    assert abs(start + wall - true_end_us) < 3_000_000
    assert all(a + b == c for (a, b), (c, _) in itertools.pairwise(placed))


def test_a_new_run_never_starts_before_the_last_ones_end() -> None:
    clock = RunClock(not_before_us=START_US + 500_000)
    clock.observe(0, START_US)
    assert clock.place(0, SECOND, START_US + 1_000_000).start_us == START_US + 500_000


def test_a_hole_in_media_time_is_a_hole_in_wall_time() -> None:
    clock = RunClock()
    clock.observe(0, START_US)
    first = clock.place(0, SECOND, START_US + 1_000_000)
    second = clock.place(3 * SECOND, SECOND, START_US + 4_000_000)
    assert second.start_us - (first.start_us + first.wall_us) == 2_000_000


def test_the_host_clocks_steps_are_seen_from_100_ms() -> None:
    host = HostTime(START_US, 0)
    assert host.utc_us(5_000_000_000) == START_US + 5_000_000
    assert host.step_us(START_US + 5_099_999, 5_000_000_000) == 0
    assert host.step_us(START_US + 15_000_000, 5_000_000_000) == 10_000_000
    host.move(10_000_000)
    assert host.step_us(START_US + 15_000_000, 5_000_000_000) == 0


def test_p06_a_camera_clock_of_1970_is_not_believed() -> None:
    clock = CameraClock()
    clock.report(0, START_US)
    assert clock.offset_ms is None
    clock.report(START_US - 420_000, START_US)
    assert clock.offset_ms == -420
    assert clock.distrusted == 1
