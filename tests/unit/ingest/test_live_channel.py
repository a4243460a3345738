"""A window begins with the newest GOP, and one that is too slow goes on with the next key picture."""

import json
from typing import Any

from services.contracts.console import LIVE_FRAGMENT, LIVE_HEADER, LIVE_INIT, LIVE_JPEG, LiveErr, Sub
from services.ingest.live_channel import Channel
from services.ingest.media_types import InitSegment, LiveFragment

BEGUN_US = 1_777_640_000_000_000
INIT = InitSegment(data=b"ftypmoov", sha256="aa", codec="avc1.64001f", width=640, height=360)
OTHER = InitSegment(data=b"ftypmoo2", sha256="cc", codec="hvc1.1.6.L93.B0", width=640, height=360)


def fragment(halves: int, *, key: bool = False, init: InitSegment = INIT) -> LiveFragment:
    return LiveFragment(
        data=b"moof%02d" % halves, init=init, run=0, start_us=BEGUN_US + halves * 500_000,
        media_start_90k=halves * 45_000, media_90k=45_000, keyframe=key, units=12,
    )  # fmt: skip


def channel() -> Channel:
    return Channel(Sub(ch=3, camera="cam-1", purpose="relay"))


def taken(of: Channel) -> list[Any]:
    """Return what is sent: the op of a text, (kind, payload) of a binary."""
    found: list[Any] = []
    while frames := of.take():
        for frame in frames:
            if isinstance(frame, str):
                found.append(json.loads(frame)["op"])
            else:
                version, kind, number, _, _ = LIVE_HEADER.unpack_from(frame)
                assert (version, number) == (1, 3)
                found.append((kind, frame[LIVE_HEADER.size :]))
    return found


def test_a_window_gets_init_and_the_newest_gop_at_once() -> None:
    watched = channel()
    watched.join([fragment(0, key=True), fragment(1)])
    watched.offer(fragment(2))

    assert taken(watched) == [
        "init", (LIVE_INIT, b"ftypmoov"), "key", (LIVE_FRAGMENT, b"moof00"), (LIVE_FRAGMENT, b"moof01"),
        (LIVE_FRAGMENT, b"moof02"),
    ]  # fmt: skip


def test_without_a_gop_a_window_begins_with_the_next_key_picture() -> None:
    watched = channel()
    watched.join([])
    watched.offer(fragment(1))
    watched.offer(fragment(2, key=True))

    assert taken(watched) == ["init", (LIVE_INIT, b"ftypmoov"), "key", (LIVE_FRAGMENT, b"moof02")]


def test_a_window_two_seconds_behind_goes_on_with_the_next_key_picture_and_is_told() -> None:
    watched = channel()
    watched.join([fragment(0, key=True)])
    taken(watched)
    left_out = [watched.offer(fragment(n)) for n in range(1, 7)]
    assert left_out == [0, 0, 0, 0, 0, 5]
    watched.offer(fragment(7))
    watched.offer(fragment(8, key=True))

    assert taken(watched) == ["drop", "key", (LIVE_FRAGMENT, b"moof08")]


def test_a_new_init_is_sent_before_the_fragment_that_needs_it() -> None:
    watched = channel()
    watched.join([fragment(0, key=True)])
    watched.offer(fragment(1, key=True, init=OTHER))

    assert taken(watched)[4:] == ["init", (LIVE_INIT, b"ftypmoo2"), "key", (LIVE_FRAGMENT, b"moof01")]


def test_a_still_replaces_one_that_was_not_sent_yet() -> None:
    watched = channel()
    watched.still(b"old", BEGUN_US)
    watched.still(b"new", BEGUN_US + 1)

    assert taken(watched) == [(LIVE_JPEG, b"new")]


def test_seq_counts_the_binary_frames_of_a_channel() -> None:
    watched = channel()
    watched.join([fragment(0, key=True)])
    watched.offer(fragment(1))
    seqs = []
    while frames := watched.take():
        seqs += [LIVE_HEADER.unpack_from(frame)[4] for frame in frames if isinstance(frame, bytes)]

    assert seqs == [0, 1, 2]


def test_the_same_trouble_is_told_once() -> None:
    watched = channel()
    watched.say(LiveErr(ch=3, code="not_recording"))
    watched.say(LiveErr(ch=3, code="not_recording"))

    assert taken(watched) == ["err"]
