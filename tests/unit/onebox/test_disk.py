import pytest

from services.contracts.topics import MIB, VIDEO
from services.onebox.disk import GIB, broker_share, reserve_bytes


@pytest.mark.parametrize("free_gib", [1, 2.9, 10, 80, 4000])
def test_video_takes_at_most_a_tenth_of_the_free_disk_active_segments_counted(free_gib: float) -> None:
    free_bytes = int(free_gib * GIB)
    assert broker_share(free_bytes).video_bytes_max <= free_bytes // 10


def test_a_segment_is_never_too_small_for_the_largest_video_record() -> None:
    assert broker_share(0).video_segment_bytes >= 2 * VIDEO.message_bytes_max


def test_a_segment_is_never_smaller_than_kafka_takes() -> None:
    assert broker_share(0).records_segment_bytes >= MIB


def test_a_roomy_disk_has_the_segments_of_the_design() -> None:
    share = broker_share(80 * GIB)
    assert share.video_segment_bytes == share.records_segment_bytes == 16 * MIB


def test_on_three_gibibytes_the_broker_stays_below_a_third_in_the_worst_case() -> None:
    share = broker_share(3 * GIB)
    assert share.video_bytes_max + share.records_bytes_max < GIB


@pytest.mark.parametrize(
    ("size_gib", "reserve_gib"),
    [(3, 2), (40, 2), (80, 4)],
    ids=["two thirds of a small disk", "two gibibytes", "five per cent"],
)
def test_the_reserve_is_two_gibibytes_or_five_per_cent(size_gib: int, reserve_gib: int) -> None:
    assert reserve_bytes(size_gib * GIB) == reserve_gib * GIB


def test_a_disk_smaller_than_the_reserve_still_records() -> None:
    assert reserve_bytes(2 * GIB) < 2 * GIB
