"""Whatever bytes come, the parsers raise nothing but our own errors and keep their bounds."""

import contextlib
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.ingest import parameter_sets
from services.ingest.media_types import ClosedFragment, EndDetail
from services.ingest.rtsp import auth, framing, message, rtp, sdp
from services.ingest.rtsp.depacketiser import h264, h265
from services.ingest.rtsp.errors import BitstreamError, CameraError, MessageError, PacketError, SdpError
from services.ingest.rtsp.fast_path import SLACK_BYTES, MediaParser
from services.ingest.rtsp.sdp import Codec, VideoTrack

SETS = (bytes.fromhex("6742c014da083684000003000400000300c83c50aa80"), bytes.fromhex("68ce3c80"))
SHORT = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
LINES = st.text(st.sampled_from('RTSP/1.0 2:;=,"\\\r\n\tCSeqDigestBasic96amvo-@%x'), max_size=300)


class _Quiet:
    def __getattr__(self, name: str) -> Any:
        return lambda *_args: None

    def fragment(self, fragment: ClosedFragment) -> None:
        fragment.release()


@SHORT
@given(st.one_of(st.binary(max_size=400), LINES.map(str.encode)))
def test_messages(data: bytes) -> None:
    try:
        framing.next_piece(data, 0, len(data))
        parsed = message.parse(data)
    except MessageError:
        return
    if isinstance(parsed, message.Response):
        assert parsed.cseq is None or parsed.cseq >= 0
        message.public_methods(parsed)


@SHORT
@given(LINES)
def test_header_values(text: str) -> None:
    message.session_id(text)
    message.transport(text)
    auth.choose(auth.challenges([text, f"Digest {text}"]), basic_allowed=True)
    sdp.control_url(sdp.base_url("rtsp://h/", text, None), text)


@SHORT
@given(st.one_of(st.binary(max_size=500), LINES.map(str.encode)), st.booleans())
def test_descriptions(body: bytes, with_video: bool) -> None:
    video = (
        b"\r\nm=video 0 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\na=fmtp:96 sprop-parameter-sets=" if with_video else b""
    )
    try:
        sdp.parse(video + body)
    except SdpError:
        return


@SHORT
@given(st.binary(max_size=80))
def test_packets_and_parameter_sets(data: bytes) -> None:
    for read in (rtp.read_packet, h264.steps, h265.steps):
        with contextlib.suppress(PacketError):
            read(data, 0, len(data))
    rtp.sender_report(data, 0, len(data))
    for parse in (parameter_sets.h264, parameter_sets.h265):
        for head in (b"", b"\x67", b"\x42\x01"):
            with contextlib.suppress(BitstreamError):
                parse(head + data)


@st.composite
def _frames(draw: st.DrawFn) -> bytes:
    """Mostly plausible interleaved packets, some of them broken."""
    out, seq, stamp = b"", 0, 0
    for _ in range(draw(st.integers(1, 30))):
        seq += draw(st.sampled_from([1, 1, 1, 1, 2, 0, 40_000]))
        stamp += draw(st.sampled_from([0, 0, 3_600, 3_600, -9_000, 1 << 31]))
        head = draw(st.sampled_from([b"\x80", b"\x80", b"\x80", b"\x90", b"\xa0", b"\x40"]))
        kind = draw(st.sampled_from([b"\x60", b"\xe0", b"\xe0", b"\x61"]))
        begin = draw(
            st.sampled_from(
                [
                    b"\x65\x88",
                    b"\x41\x9a",
                    b"\x7c\x85",
                    b"\x7c\x05",
                    b"\x7c\x45",
                    b"\x5c\x81",
                    b"\x78\0\x03",
                    b"\x06\x05",
                    b"\0\0\1",
                    b"\x62\x01\x93",
                    b"\x26\x01",
                    *SETS,
                ]
            )
        )
        payload = begin + draw(st.binary(max_size=60))
        body = head + kind + (seq & 0xFFFF).to_bytes(2, "big") + (stamp & 0xFFFFFFFF).to_bytes(4, "big")
        body += draw(st.sampled_from([b"\0\0\0\7", b"\0\0\0\7", b"\0\0\0\x09"])) + payload
        out += draw(st.sampled_from([b"$\0", b"$\0", b"$\0", b"$\1", b"$\5"])) + len(body).to_bytes(2, "big") + body
        out += draw(st.sampled_from([b"", b"", b"", b"\r\n", b"RTSP/1.0 200 OK\r\nCSeq: 1\r\n\r\n"]))
    return out


@pytest.mark.parametrize("codec", ["h264", "h265"])
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.one_of(_frames(), st.binary(max_size=300)), cut=st.integers(1, 400))
def test_streams(codec: Codec, data: bytes, cut: int) -> None:
    parser = MediaParser(_Quiet(), _Quiet())
    track = VideoTrack(codec=codec, payload_type=96, control="", parameter_sets=SETS, frame_rate=None)
    parser.use(track, rtp_channel=0, rtcp_channel=1)
    parser.playing = True
    rest, now_us = b"", 1_700_000_000_000_000
    try:
        for place in range(0, len(data), cut):
            whole = rest + data[place : place + cut]
            used = parser.feed(bytearray(whole + bytes(SLACK_BYTES)), 0, len(whole), now_us)
            assert 0 <= used <= len(whole)
            rest = whole[used:]
            now_us += 40_000
    except CameraError:
        pass
    parser.finish("network_loss", EndDetail.RESET)
