"""The operations both depacketisers return: what to do with which bytes. Pure."""

from typing import Final, NamedTuple

Buffer = bytes | bytearray | memoryview

WHOLE: Final = 0  # a NAL unit begins and ends here
START: Final = 1  # a NAL unit begins; more follows
MIDDLE: Final = 2
END: Final = 3


class Step(NamedTuple):
    """Append `header` and then `buffer[start:end]`."""

    what: int
    header: bytes
    start: int
    end: int


def begins_with_start_code(buffer: Buffer, start: int, end: int) -> bool:
    """Tell whether an Annex B start code stands where a NAL header should (H04)."""
    return bytes(buffer[start : min(end, start + 4)]) == b"\x00\x00\x00\x01" or (
        bytes(buffer[start : min(end, start + 3)]) == b"\x00\x00\x01"
    )
