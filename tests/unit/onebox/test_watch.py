import pytest

from services.onebox.watch import FIRST_PAUSE_S, PAUSE_S_MAX, STEADY_S, next_pause_s


def test_the_first_restart_comes_at_once() -> None:
    assert next_pause_s(0, ran_s=1) == FIRST_PAUSE_S


def test_who_ends_at_every_start_waits_longer_each_time_up_to_a_limit() -> None:
    pauses_s = [0.0]
    for _ in range(10):
        pauses_s.append(next_pause_s(pauses_s[-1], ran_s=1))
    assert pauses_s[1:4] == pytest.approx([0.2, 0.4, 0.8])
    assert pauses_s[-1] == PAUSE_S_MAX


def test_who_ran_for_long_starts_again_at_once() -> None:
    assert next_pause_s(PAUSE_S_MAX, ran_s=STEADY_S) == FIRST_PAUSE_S
