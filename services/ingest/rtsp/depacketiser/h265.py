"""H.265 payloads to NAL units: single, AP, FU. Pure. Decoding order numbers are not supported.

Source: RFC 7798 4.4, cameras.md 4.
"""

from typing import Final

from services.ingest.rtsp.depacketiser.steps import END, MIDDLE, START, WHOLE, Buffer, Step, begins_with_start_code
from services.ingest.rtsp.errors import PacketError

HEADER_BYTES: Final = 2
FRAGMENT: Final = 49
_AGGREGATE: Final = 48


def kind_of(first: int) -> int:
    return (first >> 1) & 0x3F


def is_known(first: int) -> bool:
    """Tell whether a NAL unit may begin with this byte."""
    return first < 0x80 and first >> 1 < _AGGREGATE


def is_slice(kind: int) -> bool:
    return kind <= 31


def is_key(kind: int) -> bool:
    return 16 <= kind <= 21


def is_sei(kind: int) -> bool:
    return kind in (39, 40)


def is_parameter_set(kind: int) -> bool:
    return 32 <= kind <= 34


def is_sequence_set(kind: int) -> bool:
    return kind == 33


def steps(buffer: Buffer, start: int, end: int) -> list[Step]:
    """Take one payload apart.

    Raises:
        PacketError: a type that is not ours, the forbidden bit, or sizes that do not fit.
    """
    if start == end:
        return []
    if begins_with_start_code(buffer, start, end):
        return [Step(WHOLE, b"", start, end)]
    if end - start < HEADER_BYTES:
        raise PacketError("short_header", position=start)
    first = buffer[start]
    if first & 0x80:
        raise PacketError("forbidden_bit", position=start)
    kind = first >> 1
    if kind < _AGGREGATE:
        return [Step(WHOLE, b"", start, end)]
    if kind == FRAGMENT:
        return _fragment(buffer, start, end, first)
    if kind == _AGGREGATE:
        return _aggregate(buffer, start + HEADER_BYTES, end)
    raise PacketError(f"nal_type_{kind}", position=start)


def _fragment(buffer: Buffer, start: int, end: int, first: int) -> list[Step]:
    if end - start < 3:
        raise PacketError("fragment", position=start)
    flags = buffer[start + 2]
    if not flags & 0x80:
        return [Step(END if flags & 0x40 else MIDDLE, b"", start + 3, end)]
    kind = flags & 0x3F
    if kind >= _AGGREGATE:
        raise PacketError("fragment_type", position=start)
    header = bytes(((first & 0x81) | (kind << 1), buffer[start + 1]))
    return [Step(WHOLE if flags & 0x40 else START, header, start + 3, end)]


def _aggregate(buffer: Buffer, start: int, end: int) -> list[Step]:
    found: list[Step] = []
    place = start
    while place + 2 <= end:
        size = buffer[place] << 8 | buffer[place + 1]
        if size == 0:
            break
        if place + 2 + size > end:
            raise PacketError("aggregate", position=place)
        found.append(Step(WHOLE, b"", place + 2, place + 2 + size))
        place += 2 + size
    return found
