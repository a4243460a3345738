"""The client against an RTSP server none of us wrote: what it sends is recorded byte for byte."""

import asyncio
import hashlib
import subprocess
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import av
import pytest

from services.ingest.media_types import CameraTarget, EndDetail
from services.ingest.rtsp.client import CameraSession, SharedBuffer
from services.runtime.clock import SystemClock
from tests.clips import CODECS, Codec, clip_of

SERVER = """
import sys, gi
gi.require_version("Gst", "1.0"); gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtspServer
Gst.init(None)
factory = GstRtspServer.RTSPMediaFactory()
codec = sys.argv[2]
parts = ("filesrc location=" + sys.argv[1], "qtdemux", codec + "parse config-interval=-1")
factory.set_launch("( " + " ! ".join((*parts, "rtp" + codec + "pay name=pay0 pt=96")) + " )")
server = GstRtspServer.RTSPServer()
server.set_service("0"); server.set_address("127.0.0.1")
server.get_mount_points().add_factory("/clip", factory)
server.attach(None)
print(server.get_bound_port(), flush=True)
GLib.MainLoop().run()
"""


def has_gstreamer() -> bool:
    probe = "import gi; gi.require_version('GstRtspServer', '1.0'); from gi.repository import GstRtspServer"
    try:
        found = subprocess.run(["/usr/bin/python3", "-c", probe], capture_output=True, check=False, timeout=20)
    except OSError:
        return False
    return found.returncode == 0


def units_of(source: BytesIO, codec: str) -> tuple[list[list[str]], set[bytes]]:
    """Return the hashes of the NAL units of each access unit, and apart the parameter sets that stand among them."""
    units: list[list[str]] = []
    sets: set[bytes] = set()
    with av.open(source, "r", format="mp4") as container:
        for packet in container.demux(container.streams.video[0]):
            if packet.size:
                nals = list(nal_units(bytes(packet)))
                units.append([hashlib.sha256(nal).hexdigest() for nal in nals if not is_parameter_set(nal, codec)])
                sets.update(nal for nal in nals if is_parameter_set(nal, codec))
    return units, sets


def nal_units(unit: bytes) -> Iterator[bytes]:
    at = 0
    while at < len(unit):
        size = int.from_bytes(unit[at : at + 4], "big")
        yield unit[at + 4 : at + 4 + size]
        at += 4 + size


def is_parameter_set(nal: bytes, codec: str) -> bool:
    return nal[0] & 31 in (7, 8) if codec == "h264" else nal[0] >> 1 in (32, 33, 34)


@pytest.mark.skipif(not has_gstreamer(), reason="GStreamer's RTSP server (gir1.2-gst-rtsp-server-1.0) is not installed")
@pytest.mark.parametrize("codec", CODECS)
async def test_what_a_foreign_server_sends_is_recorded_whole(codec: Codec, tmp_path: Path, waiting_sink: Any) -> None:
    file = clip_of(codec, tmp_path)
    server = await asyncio.create_subprocess_exec(
        "/usr/bin/python3", "-c", SERVER, str(file), codec, stdout=asyncio.subprocess.PIPE
    )
    try:
        assert server.stdout is not None
        async with asyncio.timeout(20):
            port = int(await server.stdout.readline())
        target = CameraTarget(camera_id="cam-1", url=f"rtsp://127.0.0.1:{port}/clip")
        running = CameraSession(target, waiting_sink, SystemClock(), shared=SharedBuffer())
        async with asyncio.timeout(60):
            end = await running.run()
        assert end.detail in (EndDetail.STALL, EndDetail.RESET)
        assert running.parser.units_lost == 0
        film = b"".join([waiting_sink.fragments[0][0].init.data, *(data for _, data in waiting_sink.fragments)])
        recorded, repeated = units_of(BytesIO(film), codec)
        source = file.read_bytes()
        assert recorded == units_of(BytesIO(source), codec)[0]
        assert all(nal in source for nal in repeated), "the server repeats the file's own parameter sets and no others"
    finally:
        server.kill()
        await server.wait()
