"""RTP and RTCP packets, read from a buffer in place; receiver reports written. Pure.

The fast path reads plain packets itself; everything unusual comes here and is held to the same rules.
Source: RFC 3550 sections 5.1 and 6.4, cameras.md 3.7.
"""

from struct import Struct
from typing import Final, NamedTuple

from services.ingest.rtsp.errors import PacketError

_HEADER: Final = Struct(">BBHII")
_EXTENSION: Final = Struct(">HH")
_SENDER_INFO: Final = Struct(">IIII")
_RECEIVER_REPORT: Final = Struct(">BBHIIIIIII")
_NTP_EPOCH_S: Final = 2_208_988_800

Buffer = bytes | bytearray | memoryview


class RtpPacket(NamedTuple):
    """Where the payload stands, and the header's facts."""

    start: int
    end: int
    marker: bool
    payload_type: int
    seq: int
    timestamp: int
    ssrc: int


class SenderReport(NamedTuple):
    """The camera's clock (UTC, us; 0 when it has none) beside its RTP time."""

    ssrc: int
    camera_us: int
    timestamp: int
    ntp_middle: int


def read_packet(buffer: Buffer, start: int, end: int) -> RtpPacket:
    """Read one packet, honouring CSRC count, extension and padding.

    Raises:
        PacketError: too short, another version, or lengths that do not fit.
    """
    if end - start < _HEADER.size:
        raise PacketError("short_header", position=start)
    first, second, seq, timestamp, ssrc = _HEADER.unpack_from(buffer, start)
    if first >> 6 != 2:
        raise PacketError("version", position=start)
    payload = start + _HEADER.size + 4 * (first & 15)
    if first & 0x10:
        if payload + 4 > end:
            raise PacketError("extension", position=start)
        payload += 4 + 4 * _EXTENSION.unpack_from(buffer, payload)[1]
    if payload > end:
        raise PacketError("extension", position=start)
    stop = end
    if first & 0x20 and payload < end:
        padding = buffer[end - 1]
        if padding == 0 or payload + padding > end:
            raise PacketError("padding", position=start)
        stop -= padding
    return RtpPacket(payload, stop, second > 127, second & 127, seq, timestamp, ssrc)


def sender_report(buffer: Buffer, start: int, end: int) -> SenderReport | None:
    """Find a sender report in a compound packet; what follows it may be broken (P01)."""
    place = start
    while end - place >= 8:
        version, kind = buffer[place] >> 6, buffer[place + 1]
        words = _EXTENSION.unpack_from(buffer, place)[1]
        if version != 2:
            return None
        if kind == 200 and end - place >= 28:
            ssrc = int.from_bytes(buffer[place + 4 : place + 8], "big")
            seconds, fraction, timestamp, _ = _SENDER_INFO.unpack_from(buffer, place + 8)
            camera_us = (seconds - _NTP_EPOCH_S) * 1_000_000 + (fraction * 1_000_000 >> 32)
            middle = (seconds & 0xFFFF) << 16 | fraction >> 16
            return SenderReport(ssrc, max(0, camera_us), timestamp, middle)
        place += 4 + 4 * words
    return None


def receiver_report(*, ours: int, source: int, highest_seq: int, lost: int, last_sr: int, delay_65536: int) -> bytes:
    """Return a receiver report with one block (RFC 3550 section 6.4.2)."""
    return _RECEIVER_REPORT.pack(
        0x81, 201, 7, ours, source, min(lost, 0x7FFFFF), highest_seq & 0xFFFFFFFF, 0, last_sr, delay_65536 & 0xFFFFFFFF
    )
