"""How a figure is made of many."""

import pytest

from benchmarks.figures import median, percentile


@pytest.mark.parametrize(("share", "value"), [(0.5, 50), (0.99, 99), (1.0, 100)])
def test_a_percentile_is_the_value_of_its_rank(share: float, value: int) -> None:
    assert percentile(list(range(1, 101)), share) == value


def test_a_percentile_of_one_value_is_that_value() -> None:
    assert percentile([7.0], 0.99) == 7.0


def test_a_median_is_rounded_to_what_one_run_can_tell() -> None:
    assert median([1.0, 2.00049, 9.0]) == 2.0
