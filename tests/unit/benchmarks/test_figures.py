"""How a figure is made of many."""

import json
from datetime import date
from pathlib import Path

import pytest

from benchmarks.figures import median, percentile, save


@pytest.mark.parametrize(("share", "value"), [(0.5, 50), (0.99, 99), (1.0, 100)])
def test_a_percentile_is_the_value_of_its_rank(share: float, value: int) -> None:
    assert percentile(list(range(1, 101)), share) == value


def test_a_percentile_of_one_value_is_that_value() -> None:
    assert percentile([7.0], 0.99) == 7.0


def test_a_median_is_rounded_to_what_one_run_can_tell() -> None:
    assert median([1.0, 2.00049, 9.0]) == 2.0


def test_a_kept_result_says_its_day_and_its_command(tmp_path: Path) -> None:
    file = save({"cameras": 20}, "how_many_cameras", day=date(2026, 11, 25), directory=tmp_path / "results")
    kept = json.loads(file.read_text(encoding="utf-8"))
    assert file.name == "how_many_cameras-2026-11-25.json"
    assert (kept["day"], kept["cameras"]) == ("2026-11-25", 20)
    assert kept["command"].startswith("python -m benchmarks.how_many_cameras")
