"""Whatever the faults, a range is tiled once: no hole, no time twice."""

import itertools
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from services.archive.catalog import GapRow
from services.archive.timeline import Footage, answer, coverage_ratio, tile

NOW = 2_000_000_000
S = 1_000_000


def footage(begin: int, end: int, *, epoch: int = 1, open_: bool = False) -> Footage[int]:
    return Footage(from_us=begin, to_us=end, epoch=epoch, run=0, open=open_, small_hole_us=200_000, ref=epoch)


def gap(begin: int, end: int | None, **more: Any) -> GapRow:
    facts: dict[str, Any] = {"cause": "device_offline", "detail": "timeout", "side": "device", "writer": "ingest"}
    return GapRow(gap_id=f"g{begin}", from_us=begin, to_us=end, **(facts | more))


def states(begin: int, end: int, *, seen: list[Footage[int]], gaps: list[GapRow], now: int = NOW) -> list[str]:
    first = min([one.from_us for one in seen] + [one.from_us for one in gaps], default=None)
    tiles = tile(begin, end, now_us=now, first_us=first, footage=seen, gaps=gaps)
    return [item.state for item in answer("c", "main", begin, end, tiles).items]


spans = st.tuples(st.integers(0, 300), st.integers(1, 100), st.integers(1, 3))


@given(
    st.lists(spans, max_size=12),
    st.lists(st.tuples(st.integers(0, 300), st.none() | st.integers(1, 100)), max_size=8),
    st.integers(0, 400),
    st.integers(1, 300),
)
def test_tiles_cover_the_range_once(
    seen: list[tuple[int, int, int]], gaps: list[tuple[int, int | None]], begin: int, length: int
) -> None:
    shown = [footage(NOW - 320 * S + at * S, NOW - 320 * S + (at + long) * S, epoch=epoch) for at, long, epoch in seen]
    known = [
        gap(NOW - 320 * S + at * S, None if long is None else NOW - 320 * S + (at + long) * S) for at, long in gaps
    ]
    low, high = NOW - 320 * S + begin * S, NOW - 320 * S + (begin + length) * S
    tiles = tile(low, high, now_us=NOW, first_us=low, footage=shown, gaps=known)
    assert tiles[0].from_us == low
    assert tiles[-1].to_us == high
    assert all(one.to_us == two.from_us for one, two in itertools.pairwise(tiles))
    assert all(one.from_us < one.to_us for one in tiles)
    assert 0.0 <= coverage_ratio(tiles) <= 1.0


def test_no_recorded_second_is_hidden_by_a_gap() -> None:
    seen = [footage(100 * S, 160 * S)]
    assert states(100 * S, 160 * S, seen=seen, gaps=[gap(90 * S, 200 * S)]) == ["recorded"]


def test_the_higher_epoch_shows_and_the_lower_fills_its_holes() -> None:
    seen = [footage(0, 100 * S, epoch=1), footage(40 * S, 60 * S, epoch=2)]
    tiles = tile(0, 100 * S, now_us=NOW, first_us=0, footage=seen, gaps=[])
    assert [one.footage.epoch for one in tiles if one.footage] == [1, 2, 1]


def test_a_hole_that_is_no_gap_belongs_to_what_stands_before() -> None:
    seen = [footage(0, 60 * S), footage(60 * S + 200_000, 120 * S)]
    assert states(0, 120 * S, seen=seen, gaps=[]) == ["recorded"]
    seen = [footage(0, 60 * S), footage(60 * S + 200_001, 120 * S)]
    assert states(0, 120 * S, seen=seen, gaps=[]) == ["recorded", "unknown", "recorded"]


def test_the_last_seconds_are_pending_and_then_unknown() -> None:
    seen = [footage(NOW - 100 * S, NOW - 20 * S, open_=True)]
    assert states(NOW - 100 * S, NOW, seen=seen, gaps=[]) == ["open", "pending"]
    seen = [footage(NOW - 100 * S, NOW - 31 * S, open_=True)]
    assert states(NOW - 100 * S, NOW, seen=seen, gaps=[]) == ["open", "unknown", "pending"]


@given(st.integers(0, 3 * S), st.integers(1, 200), st.integers(0, 60), st.integers(0, 30 * S))
def test_a_healthy_camera_is_footage_and_then_briefly_pending_never_unknown(
    late_us: int, length_s: int, stored_s: int, beyond_us: int
) -> None:
    end = NOW - late_us
    begin, seam = end - length_s * S, max(end - length_s * S, end - stored_s * S)
    seen = [footage(at, to, open_=to == end) for at, to in ((begin, seam), (seam, end)) if at < to]
    tiles = tile(begin, NOW + beyond_us, now_us=NOW, first_us=begin, footage=seen, gaps=[])
    assert {one.state for one in tiles} <= {"recorded", "open", "pending"}
    pending_us = sum(min(one.to_us, NOW) - one.from_us for one in tiles if one.state == "pending" and one.from_us < NOW)
    assert pending_us == late_us <= 3 * S
    assert coverage_ratio(tiles) == 1.0


def test_an_open_gap_lasts_until_now_or_the_next_footage() -> None:
    seen = [footage(NOW - 100 * S, NOW - 60 * S)]
    assert states(NOW - 100 * S, NOW, seen=seen, gaps=[gap(NOW - 60 * S, None)]) == ["recorded", "gap"]
    seen.append(footage(NOW - 40 * S, NOW - 30 * S))
    shown = states(NOW - 100 * S, NOW - 10 * S, seen=seen, gaps=[gap(NOW - 60 * S, None)])
    assert shown[:3] == ["recorded", "gap", "recorded"]


def test_before_the_first_record_nothing_was_expected() -> None:
    tiles = tile(0, 100 * S, now_us=NOW, first_us=50 * S, footage=[footage(50 * S, 100 * S)], gaps=[])
    items = answer("c", "main", 0, 100 * S, tiles).items
    assert [(item.state, item.cause) for item in items] == [("gap", "not_scheduled"), ("recorded", None)]
    assert coverage_ratio(tiles) == 1.0


def test_the_future_is_pending() -> None:
    assert states(NOW + S, NOW + 2 * S, seen=[footage(0, S)], gaps=[]) == ["pending"]
