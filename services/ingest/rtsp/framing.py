"""Where an RTSP text message stands between interleaved frames. Pure: offsets in, offsets out.

Interleaved frames themselves are read by the fast path; this file sees only what does not begin with `$`.
Source: RFC 2326 sections 4 and 10.12, cameras.md 3.2.
"""

import re
from enum import Enum
from typing import Final, NamedTuple

from services.ingest.rtsp.errors import MessageError

HEAD_BYTES_MAX: Final = 64 * 1024
BODY_BYTES_MAX: Final = 64 * 1024
STRAY_BYTES_MAX: Final = 2 * 1024

_BLANK_LINE: Final = re.compile(rb"\r?\n\r?\n")
_CONTENT_LENGTH: Final = re.compile(rb"^content-length[ \t]*:[ \t]*(\d{1,9})[ \t]*\r?$", re.IGNORECASE | re.MULTILINE)
_REQUEST: Final = re.compile(rb"[A-Z][A-Z_]{2,15} [^\r\n]{0,1024}")
_POSSIBLE_START: Final = re.compile(rb"\$|RTSP/|[A-Z][A-Z_]{2,15} (?:rtsp|\*)")
_PREFIX: Final = b"RTSP/"


class Found(Enum):
    """What the bytes are."""

    MORE = "more"  # nothing can be said before more bytes come
    MESSAGE = "message"  # a whole message
    STRAY = "stray"  # bytes to skip


class Piece(NamedTuple):
    """What stands at the asked place, and where it ends."""

    found: Found
    end: int


def next_piece(buffer: bytearray | memoryview | bytes, start: int, end: int) -> Piece:
    """Tell what stands at `start`, which is not `$`.

    Raises:
        MessageError: the head or the body is larger than its cap.
    """
    window = bytes(buffer[start : min(end, start + HEAD_BYTES_MAX + 4)])
    if len(window) < len(_PREFIX) and _PREFIX.startswith(window):
        return Piece(Found.MORE, start)
    if not (window.startswith(_PREFIX) or _REQUEST.match(window)):
        return _stray(window, start)
    blank = _BLANK_LINE.search(window)
    if blank is None:
        if len(window) > HEAD_BYTES_MAX:
            raise MessageError(f"head longer than {HEAD_BYTES_MAX} bytes", position=start)
        return Piece(Found.MORE, start)
    length = _CONTENT_LENGTH.search(window, 0, blank.start() + 1)
    body_bytes = int(length[1]) if length else 0
    if body_bytes > BODY_BYTES_MAX:
        raise MessageError(f"body of {body_bytes} bytes, at most {BODY_BYTES_MAX}", position=start)
    stop = start + blank.end() + body_bytes
    return Piece(Found.MESSAGE, stop) if stop <= end else Piece(Found.MORE, start)


def _stray(window: bytes, start: int) -> Piece:
    following = _POSSIBLE_START.search(window, 1)
    return Piece(Found.STRAY, start + (following.start() if following else len(window)))
