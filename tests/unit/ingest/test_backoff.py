"""When a camera is tried again: soon at first, with jitter always, slowly where it locks accounts."""

from services.ingest.backoff import Backoff
from services.ingest.media_types import RetryHint


def longest(_low: float, high: float) -> float:
    return high


def shortest(low: float, _high: float) -> float:
    return low


def test_in_the_first_minute_of_an_outage_it_is_tried_within_two_seconds() -> None:
    for pick, wait_s in ((shortest, 0.5), (longest, 2.0)):
        backoff = Backoff(pick)
        waits = [backoff.ended(now_s=now_s, media_from_s=None, hint=RetryHint.NORMAL) for now_s in range(0, 60, 10)]
        assert set(waits) == {wait_s}


def test_after_a_minute_the_waits_grow_to_a_minute_and_never_fall_below_a_second() -> None:
    long, short = Backoff(longest), Backoff(shortest)
    long.ended(now_s=0, media_from_s=None, hint=RetryHint.NORMAL)
    short.ended(now_s=0, media_from_s=None, hint=RetryHint.NORMAL)

    assert [long.ended(now_s=61 + n, media_from_s=None, hint=RetryHint.NORMAL) for n in range(6)] == [
        4.0, 8.0, 16.0, 32.0, 60.0, 60.0,
    ]  # fmt: skip
    assert short.ended(now_s=61, media_from_s=None, hint=RetryHint.NORMAL) == 1.0


def test_media_that_held_a_minute_ends_the_outage_and_media_that_did_not_goes_on_with_it() -> None:
    backoff = Backoff(longest)
    backoff.ended(now_s=0, media_from_s=None, hint=RetryHint.NORMAL)
    assert backoff.ended(now_s=100, media_from_s=90, hint=RetryHint.NORMAL) == 4.0
    assert backoff.ended(now_s=200, media_from_s=139, hint=RetryHint.NORMAL) == 2.0


def test_a_wrong_password_is_not_hammered() -> None:
    backoff = Backoff(shortest)

    waits = [backoff.ended(now_s=n, media_from_s=None, hint=RetryHint.AUTH) for n in range(3)]

    assert waits == [54.0, 270.0, 270.0]


def test_a_restarted_camera_is_tried_at_once_but_only_once() -> None:
    backoff = Backoff(shortest)

    assert backoff.ended(now_s=0, media_from_s=None, hint=RetryHint.AT_ONCE) == 0.0
    assert backoff.ended(now_s=0, media_from_s=None, hint=RetryHint.AT_ONCE) == 0.5


def test_full_slots_and_stale_sessions_are_waited_for() -> None:
    assert Backoff(shortest).ended(now_s=0, media_from_s=None, hint=RetryHint.SLOTS_FULL) == 10.0
    assert Backoff(shortest).ended(now_s=0, media_from_s=None, hint=RetryHint.STALE) == 65.0
