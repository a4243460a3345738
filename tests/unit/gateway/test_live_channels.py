"""One stream read once, watched by many: join at the newest key picture, drop to the next one."""

from services.contracts.console import LIVE_FRAGMENT, LIVE_HEADER, LIVE_INIT, LIVE_JPEG, LiveDrop, LiveErr, LiveInit
from services.gateway.live_channels import GOP_BYTES_MAX, Feed, FeedKey, Media, WatchedChannel, read_media

KEY = FeedKey(camera_id="cam-1", stream="main", want="video")


def media(
    seq: int, *, key: bool = False, kind: int = LIVE_FRAGMENT, capture_us: int | None = None, size: int = 10
) -> Media:
    at_us = seq * 500_000 if capture_us is None else capture_us
    return Media(kind=kind, capture_us=at_us, seq=seq, key=key, payload=memoryview(bytes(size)))


def channel() -> WatchedChannel:
    return WatchedChannel(number=4, wake=lambda: None)


def drain(watched: WatchedChannel) -> list[object]:
    taken: list[object] = []
    while (item := watched.take()) is not None:
        taken.append(item.seq if isinstance(item, Media) else item)
    return taken


def test_a_joining_window_gets_codec_init_and_the_newest_gop() -> None:
    feed = Feed(key=KEY)
    feed.text(LiveInit(ch=0, codec="avc1.640028"))
    feed.media(media(0, kind=LIVE_INIT))
    for item in (media(1, key=True), media(2), media(3, key=True), media(4)):
        feed.media(item)

    first = feed.joined(channel())

    assert first[0] == LiveInit(ch=4, codec="avc1.640028")
    assert [item.seq for item in first if isinstance(item, Media)] == [0, 3, 4]


def test_a_window_that_joins_in_trouble_is_told() -> None:
    feed = Feed(key=KEY)
    feed.text(LiveErr(ch=0, code="not_recording"))

    assert feed.joined(channel()) == [LiveErr(ch=0, code="not_recording")]


def test_a_gop_larger_than_its_bound_is_not_kept() -> None:
    feed = Feed(key=KEY)
    feed.media(media(1, key=True, size=GOP_BYTES_MAX))
    feed.media(media(2, size=1))

    assert (feed.gop, feed.gop_bytes) == ([], 0)


def test_the_newest_still_replaces_the_one_before() -> None:
    feed = Feed(key=KEY)
    feed.media(media(1, kind=LIVE_JPEG))
    feed.media(media(2, kind=LIVE_JPEG))

    assert [item.seq for item in feed.gop] == [2]


def test_a_window_behind_by_more_than_two_seconds_drops_to_the_next_key_picture_and_is_told() -> None:
    watched = channel()
    for seq in range(5):
        watched.offer(media(seq, key=seq == 0))

    watched.offer(media(5))
    watched.offer(media(6))
    watched.offer(media(7, key=True))
    watched.offer(media(8))

    assert drain(watched) == [LiveDrop(ch=4, frames=7), 7, 8]
    assert watched.bytes_waiting == 0


def test_a_window_that_keeps_up_loses_nothing() -> None:
    watched = channel()
    for seq in range(20):
        watched.offer(media(seq, key=seq % 4 == 0))
        assert drain(watched) == [seq]


def test_a_slow_window_gets_the_newest_still_only() -> None:
    watched = channel()
    watched.offer(media(1, kind=LIVE_JPEG))
    watched.offer(media(2, kind=LIVE_JPEG))

    assert drain(watched) == [2]


def test_a_frame_keeps_its_bytes_and_gets_the_windows_channel() -> None:
    frame = LIVE_HEADER.pack(1, LIVE_FRAGMENT, 0, 123, 7) + b"moof"

    number, read = read_media(frame, key=True)

    assert number == 0
    assert read.frame(9) == LIVE_HEADER.pack(1, LIVE_FRAGMENT, 9, 123, 7) + b"moof"
