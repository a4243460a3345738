"""Clips for simulated cameras: what is encoded, what is taken from a file, how it is packetised."""

import json
from pathlib import Path

import av
import pytest

from services.simulators import clip_source
from services.simulators.clip_source import Clip, Unit


@pytest.mark.parametrize("codec", ["h264", "h265"])
def test_a_pattern_has_the_asked_gop_and_length(codec: clip_source.Codec) -> None:
    clip = clip_source.pattern(codec, width=128, height=96, frame_rate=10, gop=5, seconds=2, bitrate_bps=200_000)
    assert [n for n, unit in enumerate(clip.units) if unit.key] == [0, 5, 10, 15]
    assert clip.duration_90k == 2 * 90_000
    assert len(clip.parameter_sets) == (2 if codec == "h264" else 3)


def test_a_file_is_taken_nal_for_nal(tmp_path: Path) -> None:
    file = tmp_path / "clip.mp4"
    made = clip_source.pattern(width=128, height=96, seconds=1, bitrate_bps=200_000)
    with av.open(str(file), "w") as sink:
        stream = sink.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 128, 96, "yuv420p"
        for number in range(25):
            sink.mux(stream.encode(clip_source._picture(number, 128, 96)))
        sink.mux(stream.encode(None))
    clip = clip_source.from_file(file)
    assert len(clip.units) == len(made.units) == 25
    assert clip.duration_90k == 90_000
    with av.open(str(file), "r") as source:
        sizes = [packet.size for packet in source.demux(video=0) if packet.size]
    assert [sum(4 + len(nal) for nal in unit.nals) for unit in clip.units] == sizes


def test_large_nal_units_become_fragments_that_carry_every_byte() -> None:
    nal = b"\x65" + bytes(range(256)) * 20
    clip = Clip(codec="h264", units=(Unit(nals=(nal,), key=True, time_90k=0),), parameter_sets=(), duration_90k=3_600)
    (payloads,) = clip.packets
    assert max(len(payload) for payload in payloads) <= clip_source.PAYLOAD_BYTES_MAX
    assert b"".join(payload[2:] for payload in payloads) == nal[1:]
    assert [payload[1] >> 6 for payload in payloads] == [2, *[0] * (len(payloads) - 2), 1]


def test_the_hash_list_says_each_unit_in_order(tmp_path: Path) -> None:
    clip = clip_source.pattern(width=128, height=96, seconds=1, bitrate_bps=200_000)
    clip.write_hashes(tmp_path / "hashes.json")
    written = json.loads((tmp_path / "hashes.json").read_text())
    assert [row["sha256"] for row in written["units"]] == [unit.sha256 for unit in clip.units]
