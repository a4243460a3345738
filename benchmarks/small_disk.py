"""Fill a small disk with video while bells are pressed: what becomes of broker, presses and video.

    python -m benchmarks.small_disk [--disk-gib 3] [--cameras 10] [--minutes 10] [--quick] [--json]

A real box on a file system of its own (tmpfs, so root is needed and as much memory as it fills), a
press every 2 s, a console. `--quick`: other files take most of the room above the reserve, so that it
is reached within seconds.
"""

import asyncio
import contextlib
import os
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from benchmarks.figures import arguments, machine, percentile, say
from benchmarks.probe import CLOCK, Probe, gap_seconds, wait_until
from services.onebox.box import OneBox
from services.onebox.demo import DemoWanted, demo_box
from services.onebox.disk import GIB, measure, reserve_bytes

MIB: Final = 1024 * 1024
PRESS_EVERY_S: Final = 2.0
SHOWN_S: Final = 15.0
SETTLED_US: Final = 4_000_000
"""The newest seconds of a timeline are still being told."""


class NoSmallDisk(Exception):
    """No file system can be mounted here."""


@contextlib.contextmanager
def small_disk(folder: Path, size_bytes: int) -> Iterator[Path]:
    """Mount a tmpfs of this size.

    Raises:
        NoSmallDisk: we may not.
    """
    if os.geteuid() != 0:
        raise NoSmallDisk("needs root, to mount a small file system")
    place = folder / "small"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size_bytes}", "tmpfs", str(place)]
    done = subprocess.run(mount, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise NoSmallDisk(f"no tmpfs can be mounted: {done.stderr.strip()}")
    try:
        yield place
    finally:
        subprocess.run(["umount", str(place)], check=True)


def fill_to(place: Path, room_bytes: int) -> Path:
    """Let other files take the disk until this much is free above the reserve; return the file to delete."""
    disk = measure(place)
    other = place / "other-files"
    with other.open("wb") as opened:
        size = max(0, disk.free_bytes - reserve_bytes(disk.size_bytes) - room_bytes)
        if size:
            os.posix_fallocate(opened.fileno(), 0, size)
    return other


def small_box(place: Path, *, cameras: int, mbps: float) -> OneBox:
    """Return a demo box on the disk."""
    wanted = DemoWanted(cameras=cameras, mbps=mbps)
    return demo_box(place / "data", wanted, kafka=None, ports="free", clock=CLOCK, say=lambda _line: None)


async def video_stopped(probe: Probe, camera_id: str) -> bool:
    """Tell whether the newest that is known of a camera is a gap because the disk is full."""
    now_us = CLOCK.now_us()
    items = await probe.timeline(camera_id, now_us - 8_000_000, now_us - SETTLED_US)
    return bool(items) and items[-1].get("cause") == "disk_full"


async def gaps(probe: Probe, box: OneBox) -> dict[str, float]:
    """Return the seconds without footage by cause, over all cameras, since the box was ready."""
    found: Counter[str] = Counter()
    since_us = box.recording_since_us or 0
    for camera in probe.endpoints.cameras:
        items = await probe.timeline(camera.id, since_us, CLOCK.now_us() - SETTLED_US)
        found.update(gap_seconds(items))
    return {cause: round(seconds, 1) for cause, seconds in found.items()}


async def measure_it(wanted: Any) -> dict[str, Any]:
    """Run the box and return the figures."""
    size_bytes = round(wanted.disk_gib * GIB)
    seconds = 22.0 if wanted.quick else wanted.minutes * 60
    with tempfile.TemporaryDirectory() as folder, small_disk(Path(folder), size_bytes) as place:
        if wanted.quick:
            fill_to(place, 120 * MIB)
        box = small_box(place, cameras=wanted.cameras, mbps=4.0 if wanted.quick else 2.0)
        async with box, Probe(box.layout.root) as probe:
            broker, restarts = box.processes["kafka"], 0
            probe.listen()
            begin_ns = CLOCK.monotonic_ns()
            async with probe.pressing(PRESS_EVERY_S):
                while (CLOCK.monotonic_ns() - begin_ns) / 1e9 < seconds:
                    restarts += box.processes["kafka"] != broker
                    broker = box.processes["kafka"]
                    await asyncio.sleep(0.5)
            with contextlib.suppress(AssertionError):  # what is missing then is a figure
                await wait_until(lambda: not probe.missing(), SHOWN_S, "each press is shown")
            delays = probe.delays_ms()
            return {
                "disk_gib": wanted.disk_gib,
                "cameras": wanted.cameras,
                "seconds": round(seconds),
                "presses_sent": len(probe.acked),
                "presses_shown": len(probe.acked) - len(probe.missing()),
                "worst_ms": round(max(delays, default=0.0), 1),
                "p99_ms": round(percentile(delays, 0.99), 1) if delays else None,
                "gap_seconds_by_cause": await gaps(probe, box),
                "free_mib_at_the_end": measure(place).free_bytes // MIB,
                "reserve_mib": reserve_bytes(size_bytes) // MIB,
                "broker_restarts": restarts,
                "broker_alive": broker == box.processes["kafka"],
                **machine(),
            }


def main() -> None:
    """Entry point."""
    parser = arguments(__doc__ or "")
    parser.add_argument("--disk-gib", type=float, default=3.0)
    parser.add_argument("--cameras", type=int, default=10)
    parser.add_argument("--minutes", type=float, default=10.0)
    wanted = parser.parse_args()
    try:
        result = asyncio.run(measure_it(wanted))
    except NoSmallDisk as error:
        sys.exit(f"small_disk: {error}")
    say(result, as_json=wanted.json)


if __name__ == "__main__":
    main()
