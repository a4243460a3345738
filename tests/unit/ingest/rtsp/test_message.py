"""RTSP messages of careless cameras (R fixtures of cameras.md 16) and of real ones."""

from pathlib import Path

import pytest

from services.ingest.rtsp import message
from services.ingest.rtsp.errors import MessageError
from services.ingest.rtsp.message import PeerRequest, Response


def response(text: str) -> Response:
    parsed = message.parse(text.replace("\n", "\r\n").encode())
    assert isinstance(parsed, Response)
    return parsed


def test_r03_describe_without_content_type_keeps_its_body() -> None:
    parsed = response("RTSP/1.0 200 OK\nCSeq: 2\nContent-Length: 5\n\nv=0\n")
    assert parsed.body == b"v=0\r\n"


@pytest.mark.parametrize("line", ["RTSP/1.0 200", "RTSP/1.0 200 ", "RTSP/1.0  200  OK fine"])
def test_r04_the_reason_phrase_may_be_missing(line: str) -> None:
    assert response(f"{line}\nCSeq: 1\n\n").status == 200


def test_r05_and_r18_spaces_round_values() -> None:
    parsed = response("RTSP/1.0 200 OK\nCSeq:   4 \nSession :  abc ; timeout = 30 \n\n")
    assert parsed.cseq == 4
    assert message.session_id(parsed.first("session") or "") == ("abc", 30)


def test_s11_lines_that_end_in_lf_only() -> None:
    parsed = message.parse(b"RTSP/1.0 200 OK\nCSeq: 3\nContent-Length: 3\n\nabc")
    assert isinstance(parsed, Response)
    assert (parsed.cseq, parsed.body) == (3, b"abc")


def test_r06_a_session_without_timeout_has_sixty_seconds() -> None:
    assert message.session_id("634214684047") == ("634214684047", 60)
    assert message.session_id("a;timeout=x") == ("a", 60)


def test_r11_and_r12_ssrc_with_spaces_and_in_front() -> None:
    parsed = message.transport("RTP/AVP/TCP;ssrc= 4B2D1A ;unicast;interleaved=2-3")
    assert parsed == message.Transport(rtp_channel=2, rtcp_channel=3, ssrc=0x4B2D1A, interleaved=True)


def test_n08_swapped_interleaved_channels() -> None:
    parsed = message.transport("RTP/AVP/TCP;unicast;interleaved=5-4")
    assert (parsed.rtp_channel, parsed.rtcp_channel) == (5, 4)


def test_a_request_from_the_camera_is_recognised() -> None:
    parsed = message.parse(b"ANNOUNCE rtsp://c/ RTSP/1.0\r\nCSeq: 12\r\n\r\n")
    assert parsed == PeerRequest(method="ANNOUNCE", cseq="12")


def test_nonsense_is_refused_with_its_reason() -> None:
    with pytest.raises(MessageError, match="neither a status nor a request"):
        message.parse(b"RTSP/1.0 what\r\n\r\n")


def test_every_recorded_answer_of_a_real_camera_is_read(shared_data: Path) -> None:
    files = sorted((shared_data / "rtsp-dialogues").glob("*.txt"))
    assert len(files) >= 20
    for file in files:
        if file.name == "ubiquiti_sdp.txt":
            continue
        parsed = message.parse(file.read_bytes())
        assert isinstance(parsed, Response)
        assert parsed.status in (200, 401), file.name
        assert parsed.cseq is not None, file.name
        message.transport(parsed.first("transport") or "")
