"""The drawn picture: its number can be read, something moves, a repeat has no jump."""

import numpy as np
import pytest

from services.simulators import night_alley


@pytest.mark.parametrize("size", [(640, 360), (128, 96)])
def test_the_frame_number_is_read_from_the_blocks(size: tuple[int, int]) -> None:
    width, height = size
    side = max(8, width // 64)
    for number in (0, 1, 77, 40_000):
        luma = night_alley.picture(number, width, height)[:height]
        bits = [luma[side // 2, bit * side + side // 2] > 128 for bit in range(night_alley.BITS)]
        assert sum(1 << bit for bit, lit in enumerate(bits) if lit) == number


def test_somebody_walks_through_and_a_repeat_is_the_same_picture_but_for_number_and_grain() -> None:
    def whole(number: int) -> np.ndarray[tuple[int, ...], np.dtype[np.int16]]:
        return night_alley.picture(number, 640, 360)[20:360].astype(np.int16)

    assert (np.abs(whole(40) - whole(48)) > 60).sum() > 2_000
    assert (np.abs(whole(40) - whole(40 + 2 * night_alley.WALK_FRAMES)) > 60).sum() == 0
