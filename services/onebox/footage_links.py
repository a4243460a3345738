"""Footage from its camera to a clip that equals what the camera sent."""

import asyncio
import struct
from collections.abc import Sequence
from typing import Any, Final

import msgspec

from services.contracts import codec
from services.contracts.audit import Access
from services.contracts.console import LIVE_HEADER
from services.contracts.topics import AUDIT
from services.onebox.links import Link, Probe, expect
from services.simulators import clip_source

PURPOSE: Final = "demo-check"
CLIP_US: Final = 15_500_000
OFF_GOP_US: Final = 1_370_000
HOUR_US: Final = 3_600_000_000
READABLE_MAX_S: Final = 3.0
LOOK_EVERY_S: Final = 0.25


async def recorded(probe: Probe) -> Link:
    """Wait for enough footage for the clip."""
    while True:
        items = await _recorded_items(probe)
        length_us = items[-1]["to_us"] - items[0]["from_us"] if items else 0
        if length_us >= CLIP_US + OFF_GOP_US + 1_000_000:
            probe.found["from_us"] = items[0]["from_us"] + OFF_GOP_US
            return Link(holds=True, figure=round(length_us / 1e6, 1), unit="s")
        await probe.clock.sleep(LOOK_EVERY_S)


async def readable(probe: Probe) -> Link:
    """Tell how long after it was recorded the newest footage could be read."""
    items = await _recorded_items(probe)
    expect(bool(items), "nothing is recorded")
    behind_s = (probe.clock.now_us() - items[-1]["to_us"]) / 1e6
    expect(behind_s <= READABLE_MAX_S, f"the newest footage is {behind_s:.1f} s old")
    return Link(holds=True, figure=round(behind_s, 2), unit="s")


async def live_picture(probe: Probe) -> Link:
    """Watch the camera over the live socket until a picture comes."""
    url = f"{probe.endpoints.gateway}/api/v1/live"
    begin_ns = probe.clock.monotonic_ns()
    async with probe.http.ws_connect(url, headers=probe.bearer("operator")) as socket:
        await socket.send_json({"op": "sub", "ch": 7, "camera": probe.camera_id, "purpose": PURPOSE})
        kinds: set[int] = set()
        while not {0, 1} <= kinds:
            message = await socket.receive()
            if isinstance(message.data, bytes):
                _, kind, channel, _, _ = LIVE_HEADER.unpack_from(message.data)
                expect(channel == 7, f"a frame came on channel {channel}")
                kinds.add(kind)
            else:
                expect('"err"' not in str(message.data), f"the relay said {message.data}")
    return Link(holds=True, figure=round((probe.clock.monotonic_ns() - begin_ns) / 1e6), unit="ms to the first frame")


async def clip(probe: Probe) -> Link:
    """Take out 15.5 s that begin off a key picture."""
    from_us = probe.found["from_us"]
    query: dict[str, int | str] = {"from": from_us, "to": from_us + CLIP_US, "purpose": PURPOSE}
    begin_ns = probe.clock.monotonic_ns()
    async with probe.http.get(probe.archive_url("clip.mp4"), params=query, headers=probe.bearer("auditor")) as answer:
        data = await answer.read()
        expect(answer.status == 200, f"archive answered {answer.status} {data[:200]!r}")
        contained = answer.headers["Safealley-Contained"]
    took_ms = (probe.clock.monotonic_ns() - begin_ns) / 1e6
    probe.found["clip"] = data
    probe.found["clip_file"] = probe.scratch / "clip.mp4"
    await asyncio.to_thread(probe.found["clip_file"].write_bytes, data)
    begin, _, end = contained.partition("-")
    expect(int(begin) <= from_us and from_us + CLIP_US <= int(end) + 200_000, f"it contains {contained}")
    shown_us = shown_length_us(data)
    expect(abs(shown_us - CLIP_US) <= 50_000, f"it shows {shown_us / 1e6:.3f} s")
    return Link(holds=True, figure=round(took_ms), unit="ms", detail=f"{len(data) / 1e6:.1f} MB")


async def equal(probe: Probe) -> Link:
    """Compare every NAL unit of the clip with what the simulator played, in order."""
    taken = await asyncio.to_thread(clip_source.from_file, probe.found["clip_file"])
    played = msgspec.json.decode(await asyncio.to_thread(probe.hashes.read_bytes))
    source = [digest for unit in played["units"] for digest in unit["nals"]]
    found = [digest for unit in taken.units for digest in unit.nal_sha256]
    expect(is_stretch(found, source), f"{len(found)} NAL units are no stretch of the {len(source)} played")
    return Link(holds=True, figure=len(taken.units), unit="access units", detail=f"{len(found)} NAL units")


async def silent(probe: Probe) -> Link:
    """Look for a sound track in the clip."""
    expect(b"soun" not in probe.found["clip"][:65536] and b"mp4a" not in probe.found["clip"], "there is a sound track")
    return Link(holds=True)


async def playlist(probe: Probe) -> Link:
    """Read the playlist of the same range, and its first entry."""
    from_us = probe.found["from_us"]
    query: dict[str, int | str] = {"from": from_us, "to": from_us + CLIP_US, "purpose": PURPOSE}
    supervisor = probe.bearer("supervisor")
    async with probe.http.get(probe.archive_url("playlist.m3u8"), params=query, headers=supervisor) as answer:
        text = await answer.text()
        expect(answer.status == 200 and "#EXT-X-ENDLIST" in text, f"archive answered {answer.status}")
    entries = [line for line in text.splitlines() if line and not line.startswith("#")]
    return Link(holds=bool(entries), figure=len(entries), unit="entries")


async def purpose_asked(probe: Probe) -> Link:
    """Try without a purpose, and as somebody who may not."""
    query: dict[str, int | str] = {"from": probe.found["from_us"], "to": probe.found["from_us"] + CLIP_US}
    async with probe.http.get(probe.archive_url("clip.mp4"), params=query, headers=probe.bearer("auditor")) as answer:
        expect(answer.status == 422, f"without a purpose archive answered {answer.status}")
    query["purpose"] = PURPOSE
    async with probe.http.get(probe.archive_url("clip.mp4"), params=query, headers=probe.bearer("admin")) as answer:
        expect(answer.status == 403, f"to an admin archive answered {answer.status}")
    return Link(holds=True)


async def audited(probe: Probe) -> Link:
    """Find the clip, the live picture and the refused look in `audit`."""
    wanted = {("clip", "allowed"), ("live", "allowed"), ("clip", "denied")}
    async with probe.kafka.reader(await probe.kafka.whole(AUDIT.name)) as reader:
        while wanted:
            for record in await reader.poll(timeout_s=1.0):
                body = codec.decode_event(record.headers, record.value).body
                if isinstance(body, Access) and body.camera_id == probe.camera_id:
                    wanted.discard((body.action, body.result))
    return Link(holds=True)


async def _recorded_items(probe: Probe) -> list[dict[str, Any]]:
    now_us = probe.clock.now_us()
    query: dict[str, int | str] = {"from": now_us - HOUR_US, "to": now_us, "purpose": PURPOSE}
    async with probe.http.get(probe.archive_url("timeline"), params=query, headers=probe.bearer("auditor")) as answer:
        said = await answer.json()
        expect(answer.status in (200, 404), f"the timeline was answered {answer.status} {said}")
    return [item for item in said.get("items", ()) if item["state"] in ("recorded", "open")]


def is_stretch(found: Sequence[str], source: Sequence[str]) -> bool:
    """Tell whether `found` is what a loop over `source` plays from somewhere on.

    By NAL and not by access unit: a recording may end in a unit without a picture (the signature of
    what came before), and such a unit is carried with the picture that follows it.
    """
    looped = len(source)
    return any(
        all(one == source[(begin + at) % looped] for at, one in enumerate(found))
        for begin in range(looped)
        if found and source[begin] == found[0]
    )


def shown_length_us(data: bytes) -> int:
    """Return how long an MP4 shows, by its edit list or else its track's length (ISO/IEC 14496-12)."""
    header = data.index(b"mvhd") + 4
    version = data[header]
    timescale: int = struct.unpack_from(">I", data, header + (20 if version else 12))[0]
    edits = data.find(b"elst")
    if edits < 0:
        length = struct.unpack_from(">Q" if version else ">I", data, header + (24 if version else 16))[0]
        return int(length) * 1_000_000 // timescale
    count = struct.unpack_from(">I", data, edits + 8)[0]
    size = 20 if data[edits + 4] else 12
    lengths = [
        struct.unpack_from(">Qq" if size == 20 else ">Ii", data, edits + 12 + size * index) for index in range(count)
    ]
    shown: int = sum(length for length, media_time in lengths if media_time >= 0)
    return shown * 1_000_000 // timescale
