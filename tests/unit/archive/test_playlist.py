"""What a playlist promises of its entries."""

import pytest

from services.archive.playlist import Entry, GopSpan, grouped, render

SECOND_US = 1_000_000


def entry(second: int, *, key: bool) -> Entry:
    return Entry(uri="a.mp4", from_us=second * SECOND_US, to_us=(second + 2) * SECOND_US, size_bytes=10, key=key)


@pytest.mark.parametrize(("keys", "promised"), [((True, True), True), ((True, False), False)])
def test_entries_are_called_independent_only_when_each_begins_with_a_key_picture(
    keys: tuple[bool, bool], *, promised: bool
) -> None:
    text = render(entry(2 * place, key=key) for place, key in enumerate(keys))
    assert ("#EXT-X-INDEPENDENT-SEGMENTS" in text.splitlines()) is promised


def test_joined_gops_begin_as_their_first_one_does() -> None:
    gops = [
        GopSpan(from_us=at * SECOND_US, to_us=(at + 1) * SECOND_US, offset=at * 10, size_bytes=10, key=at > 0)
        for at in range(4)
    ]
    assert [(one.key, one.offset, one.size_bytes) for one in grouped(gops)] == [(False, 0, 20), (True, 20, 20)]
