"""H.264 payloads to NAL units: single, STAP-A, FU-A, whatever the packetization mode says. Pure.

Source: RFC 6184 5.2-5.8, cameras.md 4.
"""

from typing import Final

from services.ingest.rtsp.depacketiser.steps import END, MIDDLE, START, WHOLE, Buffer, Step, begins_with_start_code
from services.ingest.rtsp.errors import PacketError

HEADER_BYTES: Final = 1
FRAGMENT: Final = 28
_STAP_A: Final = 24


def kind_of(first: int) -> int:
    return first & 0x1F


def is_known(first: int) -> bool:
    """Tell whether a NAL unit may begin with this byte."""
    return first < 0x80 and 1 <= first & 0x1F <= 23


def is_slice(kind: int) -> bool:
    return 1 <= kind <= 5


def is_key(kind: int) -> bool:
    return kind == 5


def is_sei(kind: int) -> bool:
    return kind == 6


def is_parameter_set(kind: int) -> bool:
    return kind in (7, 8)


def is_sequence_set(kind: int) -> bool:
    return kind == 7


def steps(buffer: Buffer, start: int, end: int) -> list[Step]:
    """Take one payload apart.

    Raises:
        PacketError: a type that is not ours, the forbidden bit, or sizes that do not fit.
    """
    if start == end:
        return []
    first = buffer[start]
    if first == 0 and begins_with_start_code(buffer, start, end):
        return [Step(WHOLE, b"", start, end)]
    if first & 0x80:
        raise PacketError("forbidden_bit", position=start)
    kind = first & 0x1F
    if 1 <= kind <= 23:
        return [Step(WHOLE, b"", start, end)]
    if kind == FRAGMENT:
        return _fragment(buffer, start, end, first)
    if kind == _STAP_A:
        return _aggregate(buffer, start + 1, end)
    raise PacketError(f"nal_type_{kind}", position=start)


def _fragment(buffer: Buffer, start: int, end: int, first: int) -> list[Step]:
    if end - start < 2:
        raise PacketError("fragment", position=start)
    flags = buffer[start + 1]
    if not flags & 0x80:
        return [Step(END if flags & 0x40 else MIDDLE, b"", start + 2, end)]
    if not 1 <= flags & 0x1F <= 23:
        raise PacketError("fragment_type", position=start)
    header = bytes(((first & 0xE0) | (flags & 0x1F),))
    return [Step(WHOLE if flags & 0x40 else START, header, start + 2, end)]


def _aggregate(buffer: Buffer, start: int, end: int) -> list[Step]:
    found: list[Step] = []
    place = start
    while place + 2 <= end:
        size = buffer[place] << 8 | buffer[place + 1]
        if size == 0:
            break  # zero padding after the last unit
        if place + 2 + size > end:
            raise PacketError("aggregate", position=place)
        found.append(Step(WHOLE, b"", place + 2, place + 2 + size))
        place += 2 + size
    return found
