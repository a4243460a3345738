"""What judges the benchmarks: fragments are read as they stand, and nothing missing is overlooked."""

import hashlib
import struct

import pytest

from benchmarks.units import BadFragmentError, Cut, Follow, Played, cuts

UNITS = [hashlib.sha256(bytes([number])).hexdigest() for number in range(4)]
PLAYED = Played(hashes=UNITS, unit_us=40_000)


def box(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I4s", 8 + len(content), name) + content


def fragment(at_90k: int, units: list[bytes], *, offsets: bool = False) -> bytes:
    rows = b"".join(
        struct.pack(">II", 3600, len(unit)) + (struct.pack(">i", -3600) if offsets else b"") for unit in units
    )
    flags = 0x01000305 | (0x800 if offsets else 0)
    trun = box(b"trun", struct.pack(">IIiI", flags, len(units), 0, 0) + rows)
    tfdt = box(b"tfdt", struct.pack(">IQ", 0x01000000, at_90k))
    moof = box(b"moof", box(b"mfhd", bytes(8)) + box(b"traf", tfdt + trun))
    return box(b"prft", bytes(24)) + moof + box(b"mdat", b"".join(units))


def cut(first: int, count: int, at_90k: int) -> Cut:
    return Cut(at_90k=at_90k, media_90k=3600 * count, hashes=[UNITS[(first + n) % 4] for n in range(count)])


def follow(*fragments: tuple[tuple[int, int, int], Cut, int]) -> Follow:
    followed = Follow(played=PLAYED)
    for identity, one, start_us in fragments:
        followed.fragment(identity, one, start_us=start_us, end_us=start_us + one.media_90k * 100 // 9)
    return followed


@pytest.mark.parametrize("offsets", [False, True], ids=["in order", "with B pictures"])
def test_each_unit_of_each_fragment_is_hashed_as_it_stands(offsets: bool) -> None:
    data = fragment(0, [b"one", b"three"], offsets=offsets) + fragment(7200, [b"5"], offsets=offsets)
    found = list(cuts(memoryview(data)))
    assert [(one.at_90k, one.media_90k) for one in found] == [(0, 7200), (7200, 3600)]
    hashes = [[hashlib.sha256(unit).hexdigest() for unit in units] for units in ([b"one", b"three"], [b"5"])]
    assert [list(one.hashes) for one in found] == hashes


@pytest.mark.parametrize("missing", [1, 9], ids=["data", "box"])
def test_a_fragment_that_ends_too_early_is_refused(missing: int) -> None:
    data = fragment(0, [b"one", b"three"])
    with pytest.raises(BadFragmentError):
        list(cuts(memoryview(data)[:-missing]))


def test_a_loop_over_the_clip_without_a_hole_loses_nothing() -> None:
    found = follow(((1, 0, 0), cut(2, 3, 0), 0), ((1, 0, 1), cut(1, 3, 10_800), 120_000))
    assert (found.units, found.lost, found.wrong, found.runs) == (6, 0, 0, 1)


def test_a_hole_in_media_time_counts_its_units_even_when_it_is_a_whole_loop() -> None:
    found = follow(((1, 0, 0), cut(0, 2, 0), 0), ((1, 0, 1), cut(2, 2, 7_200 + 4 * 3_600), 240_000))
    assert (found.lost, found.wrong) == (4, 0)


def test_a_unit_with_other_bytes_is_told_from_a_lost_one() -> None:
    other = Cut(at_90k=7_200, media_90k=7_200, hashes=[UNITS[2], UNITS[0]])
    found = follow(((1, 0, 0), cut(0, 2, 0), 0), ((1, 0, 1), other, 80_000))
    assert (found.lost, found.wrong) == (0, 1)


def test_a_record_that_was_sent_twice_is_not_counted_twice() -> None:
    found = follow(((1, 0, 0), cut(0, 2, 0), 0), ((1, 0, 0), cut(0, 2, 0), 0))
    assert (found.units, found.repeats, found.lost) == (2, 1, 0)


def test_between_two_runs_wall_time_says_what_was_lost() -> None:
    found = follow(((1, 0, 0), cut(0, 2, 0), 0), ((1, 1, 1), cut(0, 2, 0), 200_000))
    assert (found.lost, found.runs) == (3, 2)


@pytest.mark.parametrize(
    ("from_us", "to_us", "units"),
    [(0, 80_000, 0), (0, 200_000, 3), (-80_000, 80_000, 2)],
    ids=["covered", "ended early", "began late"],
)
def test_what_the_window_lacks_at_its_ends_is_lost(from_us: int, to_us: int, units: int) -> None:
    assert follow(((1, 0, 0), cut(0, 2, 0), 0)).shortfall(from_us, to_us) == units


def test_a_camera_without_footage_has_lost_the_whole_window() -> None:
    assert follow().shortfall(0, 1_000_000) == 25
