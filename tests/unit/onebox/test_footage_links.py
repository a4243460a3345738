"""Whether a clip is a stretch of a loop."""

import pytest

from services.onebox.footage_links import is_stretch

PLAYED = ["a", "b", "c", "a", "d"]


@pytest.mark.parametrize("found", [["a", "b", "c"], ["a", "d", "a", "b"], ["d"], [*PLAYED, *PLAYED]])
def test_a_stretch_may_begin_anywhere_and_pass_the_end_of_the_loop(found: list[str]) -> None:
    assert is_stretch(found, PLAYED)


@pytest.mark.parametrize("found", [[], ["a", "c"], ["x"], ["a", "b", "c", "d"], [*PLAYED, "b"]])
def test_a_missing_a_foreign_and_an_exchanged_one_are_seen(found: list[str]) -> None:
    assert not is_stretch(found, PLAYED)
