"""The look-up benchmark asks a catalog that is filled as archive fills it."""

from benchmarks.archive_lookup import measure


def test_a_small_city_is_filled_and_looked_up() -> None:
    result = measure(cameras=2, lookups=5)
    assert result["rows"] == 2 * 1440
    assert 0 < result["p50_ms"] <= result["p99_ms"] <= result["max_ms"]
