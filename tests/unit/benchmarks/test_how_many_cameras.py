"""How several runs become one result."""

from typing import Any

from benchmarks.how_many_cameras import _merged


def run(ms: float, lost: int) -> dict[str, Any]:
    return {"cameras": 20, "ms_per_camera_second": ms, "access_units_lost": lost, "ratio_to_ffmpeg": ms / 4}


def test_a_figure_is_the_median_of_its_runs_and_losses_add_up() -> None:
    merged = _merged([run(2.0, 0), run(9.0, 3), run(2.4, 1)])
    assert (merged["ms_per_camera_second"], merged["ratio_to_ffmpeg"], merged["access_units_lost"]) == (2.4, 0.6, 4)
    assert merged["ratio_of_runs"] == [0.5, 2.25, 0.6]


def test_without_ffmpeg_the_ratio_is_null() -> None:
    without = run(2.0, 0) | {"ratio_to_ffmpeg": None, "ffmpeg_ms_per_camera_second": None}
    assert _merged([without, without])["ratio_to_ffmpeg"] is None
