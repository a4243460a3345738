"""Where text stands between interleaved frames."""

import pytest

from services.ingest.rtsp.errors import MessageError
from services.ingest.rtsp.framing import Found, Piece, next_piece

REPLY = b"RTSP/1.0 200 OK\r\nCSeq: 1\r\nContent-Length: 3\r\n\r\nabc"


def test_a_message_ends_after_its_body() -> None:
    data = REPLY + b"$\0\0\4rest"
    assert next_piece(data, 0, len(data)) == Piece(Found.MESSAGE, len(REPLY))


@pytest.mark.parametrize("cut", range(1, len(REPLY)))
def test_a_message_that_is_not_whole_waits(cut: int) -> None:
    assert next_piece(REPLY[:cut], 0, cut) == Piece(Found.MORE, 0)


def test_n09_stray_bytes_are_skipped_to_the_next_frame() -> None:
    data = b"\r\n\0\xff" + b"$\0\0\0"
    assert next_piece(data, 0, len(data)) == Piece(Found.STRAY, 4)


def test_a_body_above_its_cap_is_refused() -> None:
    data = b"RTSP/1.0 200 OK\r\nContent-Length: 999999\r\n\r\n"
    with pytest.raises(MessageError, match="body of 999999 bytes"):
        next_piece(data, 0, len(data))


def test_a_head_without_end_is_refused() -> None:
    data = b"RTSP/1.0 200 OK\r\n" + b"x" * 70_000
    with pytest.raises(MessageError, match="head longer"):
        next_piece(data, 0, len(data))
