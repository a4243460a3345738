"""Real recordings, packetised as a camera does it, come out of the fragments NAL for NAL."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import pytest

from services.simulators import clip_source
from services.simulators.clip_source import Clip

CLIPS = ("test_h264", "test_signed_h264", "test_h265", "test_signed_h265")


def is_sei(codec: str, nal: bytes) -> bool:
    return nal[0] & 31 == 6 if codec == "h264" else nal[0] >> 1 == 39


def play(make_camera: Callable[..., Any], clip: Clip) -> Any:
    camera = make_camera(codec=clip.codec, sets=clip.parameter_sets)
    begin, begin_us = camera.stamp, camera.now_us
    for unit, payloads in zip(clip.units, clip.packets, strict=True):
        camera.stamp = begin + unit.time_90k
        camera.now_us = begin_us + unit.time_90k * 100 // 9
        for number, payload in enumerate(payloads):
            camera.send(payload, marker=number == len(payloads) - 1)
    return camera


@pytest.mark.parametrize("name", CLIPS)
def test_nal_for_nal_equal_and_playable(name: str, shared_data: Path, make_camera: Callable[..., Any]) -> None:
    clip = clip_source.from_file(shared_data / "clips" / f"{name}.mp4")
    camera = play(make_camera, clip)
    out = [nal for sample in camera.finish() for nal in sample]
    assert out == [nal for unit in clip.units for nal in unit.nals]
    assert camera.parser.units_lost == 0
    assert not camera.sink.holes
    whole = camera.sink.fragments[0].init.data + b"".join(camera.sink.bytes_of)
    with av.open(io.BytesIO(whole), "r") as container:
        assert not container.streams.audio
        pictures = sum(not all(is_sei(clip.codec, nal) for nal in unit.nals) for unit in clip.units)
        assert sum(1 for _ in container.decode(video=0)) == pictures


@pytest.mark.parametrize("name", ["test_signed_h264", "test_signed_h265"])
def test_signed_fragments_say_so(name: str, shared_data: Path, make_camera: Callable[..., Any]) -> None:
    camera = play(make_camera, clip_source.from_file(shared_data / "clips" / f"{name}.mp4"))
    camera.finish()
    states = [fragment.signed_sei for fragment in camera.sink.fragments]
    assert "present" in states
    assert all(fragment.wall_us <= 1_001_000 for fragment in camera.sink.fragments)


@pytest.mark.parametrize("codec", ["h264", "h265"])
def test_b_frames_keep_their_order_and_their_times(codec: clip_source.Codec, make_camera: Callable[..., Any]) -> None:
    clip = clip_source.pattern(codec, width=128, height=96, seconds=1, b_frames=2)
    camera = play(make_camera, clip)
    assert camera.finish() == [unit.nals for unit in clip.units]
    whole = camera.sink.fragments[0].init.data + b"".join(camera.sink.bytes_of)
    with av.open(io.BytesIO(whole), "r") as container:
        times = [packet.pts or 0 for packet in container.demux(video=0) if packet.size]
    first = times[0] - clip.units[0].time_90k
    assert [time - first for time in times] == [unit.time_90k for unit in clip.units]
