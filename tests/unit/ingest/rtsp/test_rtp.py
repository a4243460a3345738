"""RTP and RTCP packets."""

import struct

import pytest

from services.ingest.rtsp import rtp
from services.ingest.rtsp.errors import PacketError


def sender_report() -> bytes:
    return struct.pack(">BBHIIIIII", 0x80, 200, 6, 7, 2_208_988_800 + 1_700_000_000, 1 << 31, 90_000, 1, 2)


def test_p01_a_description_without_terminator_does_not_hide_the_report() -> None:
    broken = sender_report() + b"\x81\xca\x00\x09" + b"\0\0\0\7\1\4abc"
    report = rtp.sender_report(broken, 0, len(broken))
    assert report is not None
    assert (report.ssrc, report.camera_us, report.timestamp) == (7, 1_700_000_000_500_000, 90_000)


def test_p04_csrc_extension_and_padding_are_honoured() -> None:
    head = struct.pack(">BBHII", 0xB1, 224, 5, 6, 7)
    packet = head + b"csrc" + b"\xab\xac\0\1xxxx" + b"payload" + b"\0\0\3"
    read = rtp.read_packet(packet, 0, len(packet))
    assert packet[read.start : read.end] == b"payload"
    assert (read.marker, read.payload_type, read.seq, read.timestamp, read.ssrc) == (True, 96, 5, 6, 7)


@pytest.mark.parametrize(
    ("packet", "reason"),
    [
        (b"\x80\x60", "short_header"),
        (b"\x40" + bytes(11), "version"),
        (b"\x90" + bytes(11) + b"\0\0\xff\xff", "extension"),
        (b"\x8f" + bytes(11), "extension"),
        (b"\xa0" + bytes(11) + b"\x09", "padding"),
    ],
)
def test_a_packet_that_does_not_fit_says_why(packet: bytes, reason: str) -> None:
    with pytest.raises(PacketError) as caught:
        rtp.read_packet(packet, 0, len(packet))
    assert caught.value.reason == reason


def test_a_receiver_report_has_one_block() -> None:
    report = rtp.receiver_report(ours=1, source=2, highest_seq=3, lost=4, last_sr=5, delay_65536=6)
    assert len(report) == 32
    assert struct.unpack(">BBHIIIIIII", report) == (0x81, 201, 7, 1, 2, 4, 3, 0, 5, 6)
