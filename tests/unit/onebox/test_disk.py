from pathlib import Path

import pytest

from services.contracts.topics import MIB, VIDEO
from services.onebox.disk import GIB, Disk, broker_share, first_plan, keep_plan, reserve_bytes, warning
from services.runtime.errors import SettingsError

ROOMY = Disk(size_bytes=40 * GIB, free_bytes=10 * GIB)
LOW = Disk(size_bytes=40 * GIB, free_bytes=GIB // 2)


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
    assert share.video_bytes_max + share.records_bytes_max + share.state_bytes_planned < GIB


@pytest.mark.parametrize(
    ("size_gib", "reserve_gib"),
    [(3, 2), (40, 2), (80, 4)],
    ids=["two thirds of a small disk", "two gibibytes", "five per cent"],
)
def test_the_reserve_is_two_gibibytes_or_five_per_cent(size_gib: int, reserve_gib: int) -> None:
    assert reserve_bytes(size_gib * GIB) == reserve_gib * GIB


def test_a_disk_smaller_than_the_reserve_still_records() -> None:
    assert reserve_bytes(2 * GIB) < 2 * GIB


def test_a_first_start_on_a_disk_that_is_too_small_is_refused_each_time(tmp_path: Path) -> None:
    for _ in range(2):
        with pytest.raises(SettingsError, match=r"512 MiB are free and 1\.0 GiB are needed"):
            first_plan(tmp_path / "disk.json", LOW)


def test_a_later_start_on_a_full_disk_goes_on_with_the_plan_of_the_first(tmp_path: Path) -> None:
    keep_plan(tmp_path / "disk.json", first_plan(tmp_path / "disk.json", ROOMY))
    assert first_plan(tmp_path / "disk.json", LOW) == ROOMY
    keep_plan(tmp_path / "disk.json", LOW)
    assert first_plan(tmp_path / "disk.json", LOW) == ROOMY


def test_a_start_that_made_no_topics_plans_nothing_for_the_next(tmp_path: Path) -> None:
    first_plan(tmp_path / "disk.json", ROOMY)
    with pytest.raises(SettingsError, match="are needed to begin"):
        first_plan(tmp_path / "disk.json", LOW)


def test_a_damaged_plan_refuses_no_later_start(tmp_path: Path) -> None:
    (tmp_path / "disk.json").write_bytes(b"{")
    assert first_plan(tmp_path / "disk.json", LOW) == LOW


def test_a_low_disk_is_said_with_its_cure() -> None:
    assert "cure: free some" in (warning(LOW) or "")
    assert warning(ROOMY) is None
