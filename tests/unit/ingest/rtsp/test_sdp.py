"""Descriptions as real cameras write them: the S fixtures of cameras.md 16, and the recorded ones."""

from pathlib import Path

import pytest

from services.ingest.rtsp import message, sdp
from services.ingest.rtsp.errors import SdpError
from services.ingest.rtsp.message import Response

HEAD = "v=0\no=- 1 1 IN IP4 10.0.0.1\ns=x\nc=IN IP4 0.0.0.0\nt=0 0\na=control:*\n"
VIDEO = "m=video 0 RTP/AVP 96\na=rtpmap:96 H264/90000\na=fmtp:96 packetization-mode=1\na=control:trackID=1\n"


def read(text: str, *, newline: str = "\r\n") -> sdp.Description:
    return sdp.parse(text.replace("\n", newline).encode())


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(HEAD.replace("IN IP4", "IN IPV4") + VIDEO, id="S01 IPV4"),
        pytest.param(
            "v=0\ns=x\nm=text 0 RTP/AVP 107\na=rtpmap:107 object-detection/1000\n" + VIDEO, id="S02 no o= and t="
        ),
        pytest.param(HEAD.replace("o=- 1 1 IN IP4 10.0.0.1", "o=") + VIDEO, id="S03 empty origin"),
        pytest.param("m=metadata 0 RTP/AVP 98\n" + HEAD + VIDEO, id="S04 media before the header"),
        pytest.param(HEAD.replace("IN IP4", "IP") + VIDEO, id="S05 IP for IN"),
        pytest.param(HEAD.replace("c=IN IP4 0.0.0.0", "c=IN ") + VIDEO, id="S06 empty address"),
        pytest.param(HEAD.replace("c=IN IP4 0.0.0.0", "c=IN 0.0.0.0") + VIDEO, id="S07 no address type"),
        pytest.param(HEAD.replace("o=- 1 1", "o=- 0xAF zz") + VIDEO, id="S08 session ids that are no numbers"),
        pytest.param(HEAD.removeprefix("v=0\n") + VIDEO, id="S09 no v="),
        pytest.param(HEAD.replace("s=x\n", "") + VIDEO, id="S10 no s="),
        pytest.param(
            HEAD + "m=video 0 RTP/AVP 96\na=control:trackID=1\na=fmtp:96 x=1\na=rtpmap:96 H264/90000\n",
            id="S12 control first",
        ),
        pytest.param(
            HEAD + "m=application/MERCURY 0 RTP/AVP 110\na=rtpmap:110 smart/1/90000\n" + VIDEO, id="S13 MERCURY"
        ),
        pytest.param(HEAD + VIDEO + "c=SM 1 2\n", id="S14 second c="),
        pytest.param(HEAD + "m=audio 0 RTP/AVP 0\na=sendonly\na=control:back\n" + VIDEO, id="S15 back channel"),
        pytest.param(HEAD + VIDEO.replace("a=r", "b=TIAS:1\nb=RR:0\nb=RS:0\na=r", 1), id="S16 bandwidth lines"),
        pytest.param(HEAD + "m=video\nm=\nm=video x y z\na=rtpmap:z\n" + VIDEO, id="S17 a block that cannot be read"),
        pytest.param(HEAD + VIDEO.replace("a=fmtp:96 packetization-mode=1", "a=fmtp:96"), id="S18 fmtp without data"),
        pytest.param(HEAD + VIDEO.replace("H264/90000", "H264/90000   "), id="S19 trailing spaces"),
        pytest.param(HEAD + VIDEO.replace("96", "35"), id="P03 payload type 35"),
    ],
)
def test_careless_descriptions_still_name_their_video(text: str) -> None:
    description = read(text)
    assert (description.video.codec, description.video.control) == ("h264", "trackID=1")


def test_s11_lines_that_end_in_lf_only() -> None:
    assert read(HEAD + VIDEO, newline="\n").video.payload_type == 96


def test_audio_is_counted_and_never_chosen() -> None:
    audio = "m=audio 0 RTP/AVP 0\na=control:trackID=2\n"
    description = read(HEAD + audio + VIDEO + audio)
    assert (description.audio_tracks, description.video.control) == (2, "trackID=1")


def test_without_video_that_can_be_recorded_it_says_so() -> None:
    with pytest.raises(SdpError, match="is offered"):
        read(HEAD + "m=video 0 RTP/AVP 26\na=rtpmap:26 JPEG/90000\n")


def test_decoding_order_numbers_are_not_supported() -> None:
    with pytest.raises(SdpError):
        read(HEAD + "m=video 0 RTP/AVP 96\na=rtpmap:96 H265/90000\na=fmtp:96 sprop-max-don-diff=2\n")


def test_h04_start_codes_in_sprop_split_it() -> None:
    text = VIDEO.replace("packetization-mode=1", "sprop-parameter-sets=AAAAAWdCwBQAAAABaM48gA==,!!,")
    assert read(HEAD + text).video.parameter_sets == (b"\x67\x42\xc0\x14", b"\x68\xce\x3c\x80")


@pytest.mark.parametrize(
    ("base", "control", "joined"),
    [
        ("rtsp://h/p/", "trackID=1", "rtsp://h/p/trackID=1"),
        ("rtsp://h/p", "/trackID=1", "rtsp://h/p/trackID=1"),
        ("rtsp://h/p?ch=1", "trackID=1", "rtsp://h/p?ch=1/trackID=1"),
        ("rtsp://h/p%20x", "a%2Fb", "rtsp://h/p%20x/a%2Fb"),
        ("rtsp://h/p", "*", "rtsp://h/p"),
        ("rtsp://h/p", "", "rtsp://h/p"),
        ("rtsp://h/p", "rtsp://o/q", "rtsp://o/q"),
        ("rtsp://h/p", "rtsp://rtsp://o/q", "rtsp://o/q"),
    ],
)
def test_r02_controls_are_joined_as_servers_mean_them(base: str, control: str, joined: str) -> None:
    assert sdp.control_url(base, control) == joined


def test_r01_a_content_base_without_a_scheme() -> None:
    assert (
        sdp.base_url("rtsp://192.168.1.10/s", "192.168.1.10:554/stream0/", None) == "rtsp://192.168.1.10:554/stream0/"
    )
    assert sdp.base_url("rtsp://h/s", "/stream0/", None) == "rtsp://h/stream0/"
    assert sdp.base_url("rtsp://h/s", None, "rtsp://h/loc") == "rtsp://h/loc"
    assert sdp.base_url("rtsp://h/s", None, None) == "rtsp://h/s"


def test_every_recorded_description_names_its_video(shared_data: Path) -> None:
    folder = shared_data / "rtsp-dialogues"
    bodies = [(folder / "ubiquiti_sdp.txt").read_bytes()]
    for file in sorted(folder.glob("*_describe*.txt")):
        parsed = message.parse(file.read_bytes())
        assert isinstance(parsed, Response)
        bodies.append(parsed.body)
    codecs = [sdp.parse(body).video.codec for body in bodies]
    assert len(codecs) >= 8
    assert set(codecs) == {"h264", "h265"}
