"""Cut rules, buffers in turn, live cuts and the newest GOP."""

import itertools
from typing import Any

import pytest

from services.contracts.fragment import FRAGMENT_BYTES_MAX, INIT_BYTES_MAX

IDR = b"\x65\x88" + bytes(range(1, 200))
SLICE = b"\x41\x9a" + bytes(range(1, 120))


def record(camera: Any, units: int, *, gop: int = 25, size: int = 0) -> None:
    for n in range(units):
        nal = IDR if n % gop == 0 else SLICE
        camera.unit(nal + b"\x55" * size)


def test_a_fragment_is_a_second_or_a_gop(camera: Any) -> None:
    record(camera, 60, gop=30)
    camera.finish()
    assert [f.units for f in camera.sink.fragments] == [25, 5, 25, 5]
    assert [f.keyframe for f in camera.sink.fragments] == [True, False, True, False]
    assert [f.media_90k for f in camera.sink.fragments] == [90_000, 18_000, 90_000, 18_000]
    assert [f.media_start_90k for f in camera.sink.fragments] == [0, 90_000, 108_000, 198_000]


def test_h18_a_gop_of_minutes_is_still_cut_every_second(camera: Any) -> None:
    record(camera, 500, gop=100_000)
    camera.finish()
    assert {f.units for f in camera.sink.fragments} == {25}
    assert sum(f.keyframe for f in camera.sink.fragments) == 1
    assert not camera.sink.holes


def test_a_fragment_stays_below_one_mebibyte(camera: Any) -> None:
    record(camera, 50, gop=25, size=60_000)
    camera.finish()
    assert max(len(raw) for raw in camera.sink.bytes_of) <= FRAGMENT_BYTES_MAX
    assert sum(f.units for f in camera.sink.fragments) == 50


def test_a_unit_above_one_mebibyte_stands_alone(camera: Any) -> None:
    camera.unit(SLICE)
    for n in range(3):
        first = b"\x7c\x85" + b"\x55" * 60_000
        parts = [b"\x7c\x05" + b"\x55" * 60_000] * 20
        camera.unit(first, *parts, b"\x7c\x45" + bytes((n + 1,)))
    camera.finish()
    assert [f.units for f in camera.sink.fragments] == [1, 1, 1]
    assert min(len(raw) for raw in camera.sink.bytes_of) > FRAGMENT_BYTES_MAX


def test_an_init_is_small_and_equal_for_equal_sets(camera: Any, make_camera: Any) -> None:
    record(camera, 2)
    camera.finish()
    other = make_camera()
    record(other, 2)
    other.finish()
    init = camera.sink.fragments[0].init
    assert init == other.sink.fragments[0].init
    assert len(init.data) < 1_000 <= INIT_BYTES_MAX
    assert (init.codec, init.width, init.height) == ("avc1.42c014", 128, 96)


def test_nobody_watches_nothing_is_cut_but_the_gop_is_there(camera: Any) -> None:
    record(camera, 80, gop=50)
    assert not camera.sink.lives
    gop = camera.parser.fragmenter.newest_gop()
    assert next(piece.keyframe for piece in gop)
    assert [piece.media_start_90k for piece in gop] == [180_000]


def test_viewers_get_the_same_units_in_half_seconds(camera: Any) -> None:
    record(camera, 3)
    camera.parser.fragmenter.watch(watched=True)
    record(camera, 50)
    lives = camera.sink.lives
    assert max(live.media_90k for live in lives) <= 45_000
    places = [(live.media_start_90k, live.media_90k) for live in lives]
    assert all(a + b == c for (a, b), (c, _) in itertools.pairwise(places))
    gop = camera.parser.fragmenter.newest_gop()
    assert gop[0].keyframe
    assert gop[-1] is lives[-1]
    camera.finish()
    assert len(camera.sink.samples) == 53


def test_a_viewer_that_joins_mid_gop_gets_all_units_since_the_key_picture(camera: Any) -> None:
    record(camera, 80, gop=50)
    camera.parser.fragmenter.watch(watched=True)
    record(camera, 1, gop=2)
    gop = [*camera.parser.fragmenter.newest_gop()]
    starts = [piece.media_start_90k for piece in gop]
    assert starts == sorted(starts)
    assert gop[0].keyframe


def test_live_cuts_leave_the_recording_as_it_is(camera: Any, make_camera: Any) -> None:
    quiet = make_camera()
    record(quiet, 60)
    record(camera, 1)
    camera.parser.fragmenter.watch(watched=True)
    for n in range(1, 60):
        camera.unit(IDR if n % 25 == 0 else SLICE)
    assert camera.finish() == quiet.finish()


def test_a_sink_that_gives_nothing_back_costs_a_gap_and_not_the_session(camera: Any) -> None:
    kept: list[Any] = []
    given = camera.sink.fragment
    camera.sink.fragment = kept.append
    record(camera, 25 * 25)
    assert len(kept) < 20
    camera.sink.fragment = given
    for fragment in kept:
        fragment.release()
    record(camera, 50)
    camera.finish()
    (hole,) = camera.sink.holes
    assert (hole.cause, hole.detail) == ("kafka_unavailable", "no_buffer")


def test_a_stepped_host_clock_makes_a_run_at_the_key_picture_and_loses_nothing(camera: Any) -> None:
    from services.ingest.fragmenter import Missing
    from services.ingest.media_types import EndDetail

    record(camera, 30)
    camera.parser.fragmenter.new_run_at_key(Missing(cause="clock_step", detail=EndDetail.FORWARD, evidence={}))
    camera.now_us += 10_000_000
    record(camera, 30)
    camera.finish()
    assert [f.run for f in camera.sink.fragments] == [0, 0, 1, 1]
    assert len(camera.sink.samples) == 60
    (hole,) = camera.sink.holes
    assert hole.cause == "clock_step"
    assert hole.to_us - hole.from_us == pytest.approx(10_000_000, abs=50_000)


def test_times_tile_without_overlap(camera: Any) -> None:
    record(camera, 200, gop=50)
    camera.finish()
    ends = [f.end_us for f in camera.sink.fragments]
    starts = [f.start_us for f in camera.sink.fragments]
    assert starts[1:] == ends[:-1]
    assert camera.sink.runs[-1].end_us == ends[-1]
