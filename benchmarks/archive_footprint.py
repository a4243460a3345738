"""Measure what the archive costs per camera, how soon footage can be read, and whether every unit arrives.

    python -m benchmarks.archive_footprint [--cameras 40] [--minutes 10] [--quick] [--json]

A real box records simulated 2 Mbps cameras. Memory per camera is the archive's largest proportional set
size less that of an archive in a box without cameras. `readable_s` is the age of the newest
footage that the timeline shows, asked once a second. At the end the registry switches the cameras off, so
that every run ends and every segment is stored; then each object is read from the disk and each unit's
hash compared with the source's list, in order. Disk: 15 MB a minute and camera, and Kafka's share.
"""

import asyncio
import json
import mmap
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import aiohttp

from benchmarks.figures import arguments, cpu_seconds, machine, memory_bytes, percentile, save, say
from benchmarks.load import all_recording
from benchmarks.units import Follow, Played, cuts
from services.archive.object_key import SegmentName, read_segment_key
from services.ingest import registry_writer
from services.onebox.box import OneBox
from services.onebox.demo import DemoWanted, demo_box, hashes_file
from services.runtime.clock import SystemClock

CLOCK: Final = SystemClock()
HOUR_US: Final = 3_600_000_000
UNIT_US: Final = 40_000
STORED_S: Final = 60.0
SETTLE_S: Final = 2.0


async def measure(cameras: int, seconds: float) -> dict[str, Any]:
    """Record for so long on a box of its own, then look at every object."""
    empty = await _memory_without_cameras()
    with tempfile.TemporaryDirectory(prefix="safealley-bench-") as name:
        folder = Path(name)
        wanted = DemoWanted(cameras=cameras)
        box = demo_box(folder, wanted, kafka=None, ports="free", clock=CLOCK, say=lambda _line: None)
        async with box, aiohttp.ClientSession() as http:
            pid = box.processes["archive"]
            await all_recording(box, cameras, http)
            await asyncio.sleep(SETTLE_S)
            from_us, before_s = CLOCK.now_us(), cpu_seconds(pid)
            largest, ages = await _watch(box, pid, seconds, http)
            to_us, spent_s = CLOCK.now_us(), cpu_seconds(pid) - before_s
            await asyncio.sleep(1.5)
            await _switch_off(box, folder)
            await _all_stored(box)
            objects = box.layout.data("archive") / "store"
            follows = await asyncio.to_thread(_follow, objects, hashes_file(folder, "cam-1"), cameras)
    return {
        "cameras": cameras,
        "seconds": round((to_us - from_us) / 1e6, 1),
        "memory_mb_per_camera": round((largest - empty) / cameras / 1e6, 2),
        "memory_mb": round(largest / 1e6, 1),
        "ms_per_camera_second": round(spent_s / ((to_us - from_us) / 1e6) / cameras * 1000, 3),
        "readable_s_p50": round(percentile(ages, 0.5), 2),
        "readable_s_worst": round(max(ages), 2),
        "access_units": sum(one.units for one in follows),
        "access_units_lost": sum(one.lost + one.wrong + one.shortfall(from_us, to_us) for one in follows),
        "access_units_not_equal": sum(one.wrong for one in follows),
        "sessions": sum(one.runs for one in follows),
        **machine(),
    }


async def _memory_without_cameras() -> int:
    with tempfile.TemporaryDirectory(prefix="safealley-bench-") as name:
        wanted = DemoWanted(cameras=0)
        async with demo_box(Path(name), wanted, kafka=None, ports="free", clock=CLOCK, say=lambda _line: None) as box:
            await asyncio.sleep(SETTLE_S)
            return memory_bytes(box.processes["archive"])


async def _watch(box: OneBox, pid: int, seconds: float, http: aiohttp.ClientSession) -> tuple[int, list[float]]:
    """Once a second: the archive's memory, and the age of the newest footage of one camera after another."""
    largest, ages = 0, []
    cameras = [camera.id for camera in box.endpoints().cameras]
    end_ns = CLOCK.monotonic_ns() + round(seconds * 1e9)
    second = 0
    while CLOCK.monotonic_ns() < end_ns:
        largest = max(largest, memory_bytes(pid))
        ages.append(await _age_s(box, cameras[second % len(cameras)], http))
        second += 1
        await asyncio.sleep(1.0)
    return largest, ages


async def _age_s(box: OneBox, camera_id: str, http: aiohttp.ClientSession) -> float:
    endpoints, now_us = box.endpoints(), CLOCK.now_us()
    url = f"{endpoints.gateway}/api/v1/archive/cameras/{camera_id}/timeline"
    query: dict[str, int | str] = {"from": now_us - HOUR_US, "to": now_us + HOUR_US, "purpose": "benchmark"}
    headers = {"Authorization": f"Bearer {endpoints.tokens['auditor']}"}
    async with http.get(url, params=query, headers=headers) as answer:
        said = await answer.json()
    recorded: list[int] = [item["to_us"] for item in said["items"] if item["state"] in ("recorded", "open")]
    return (CLOCK.now_us() - max(recorded)) / 1e6


async def _switch_off(box: OneBox, folder: Path) -> None:
    """Switch every camera off in the registry: its run ends, and its segment with it."""
    city = json.loads((folder / "registry.yaml").read_text(encoding="utf-8"))
    for device in city["devices"]:
        device["enabled"] = device["kind"] != "camera"
    off = folder / "off.yaml"
    off.write_text(json.dumps(city), encoding="utf-8")
    await registry_writer.apply(off, box.kafka_port("benchmark"), clock=CLOCK)


async def _all_stored(box: OneBox) -> None:
    archive = box.layout.data("archive")
    async with asyncio.timeout(STORED_S):
        while any(archive.rglob("*.open")) or any(archive.rglob("incoming/*")):  # noqa: ASYNC110 - a directory has no event
            await asyncio.sleep(0.5)


def _follow(store: Path, hashes: Path, cameras: int) -> Sequence[Follow]:
    """Read every object, in order of epoch and seq, and follow each camera's units."""
    units = [unit["sha256"] for unit in json.loads(hashes.read_text(encoding="utf-8"))["units"]]
    played = Played(hashes=units, unit_us=UNIT_US)
    follows = {f"cam-{number + 1}": Follow(played=played) for number in range(cameras)}
    found = [(_segment(file), file) for file in store.rglob("*-*.mp4")]
    for name, file in sorted(found, key=lambda one: (one[0].run.epoch, one[0].seq0)):
        _take(follows[name.run.camera_id], name, file)
    return list(follows.values())


def _segment(file: Path) -> SegmentName:
    parts = file.parts
    return read_segment_key("/".join(parts[parts.index("objects") + 1 :]))


def _take(follow: Follow, name: SegmentName, file: Path) -> None:
    with file.open("rb") as opened, mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        data = memoryview(mapped)
        begin_90k: int | None = None
        for index, cut in enumerate(cuts(data)):
            begin_90k = cut.at_90k if begin_90k is None else begin_90k
            start_us = name.start_us + (cut.at_90k - begin_90k) * 100 // 9
            identity = (name.run.epoch, name.run.run, name.seq0 + index)
            follow.fragment(identity, cut, start_us=start_us, end_us=start_us + cut.media_90k * 100 // 9)
        del cut
        data.release()


def main() -> None:
    """Entry point."""
    parser = arguments(__doc__ or "")
    parser.add_argument("--cameras", type=int, default=40)
    parser.add_argument("--minutes", type=float, default=10.0)
    given = parser.parse_args()
    cameras, seconds = (10, 12.0) if given.quick else (given.cameras, given.minutes * 60)
    result = asyncio.run(measure(cameras, seconds))
    if given.save:
        save(result, "archive_footprint", day=datetime.now(UTC).date())
    say(result, as_json=given.json)


if __name__ == "__main__":
    main()
