"""Other files and the cameras fill the disk of the one box down to its reserve.

What fails: there is no more room for video. What the operator still sees: every press, as fast as
before, for the broker has its room. What the auditor still finds: all footage until then, and from then
on a gap that says `disk_full`; it ends by itself when there is room again.
"""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from benchmarks.probe import CLOCK, Probe, gap_seconds, tiles, wait_until
from benchmarks.small_disk import MIB, SETTLED_US, NoSmallDisk, fill_to, small_box, small_disk, video_stopped
from services.onebox.disk import GIB, measure, reserve_bytes

CAMERAS: Final = 4
MBPS: Final = 16.0
ROOM_BYTES: Final = 400 * MIB
"""Above the reserve: what these cameras write in about 25 s, once into Kafka and once into the archive."""
SOON_S: Final = 90.0
CAMERA: Final = "cam-1"
FIRST_PICTURE_US: Final = 10_000_000
"""A simulated camera has drawn its picture by then."""

pytestmark = pytest.mark.timeout(400)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    try:
        with small_disk(tmp_path, 3 * GIB) as place:
            yield place
    except NoSmallDisk as error:
        pytest.skip(f"a small disk: {error}")


async def test_on_a_full_disk_video_stops_with_a_gap_while_each_press_arrives_and_comes_back_by_itself(
    disk: Path,
) -> None:
    other_files = fill_to(disk, ROOM_BYTES)
    box = small_box(disk, cameras=CAMERAS, mbps=MBPS)
    async with box, Probe(box.layout.root) as probe:
        broker = box.processes["kafka"]
        since_us = box.recording_since_us or 0
        probe.listen()
        async with probe.pressing(1.0):
            async with asyncio.timeout(SOON_S):
                while not await video_stopped(probe, CAMERA):  # noqa: ASYNC110 - asked over HTTP
                    await asyncio.sleep(0.5)
            full_us = CLOCK.now_us()
            pressed = len(probe.acked)
            await wait_until(lambda: len(probe.acked) >= pressed + 5, SOON_S, "presses go on on the full disk")
        await wait_until(lambda: not probe.missing(), SOON_S, "each acknowledged press is shown")
        free_bytes = measure(disk).free_bytes
        other_files.unlink()
        await probe.footage_until(CAMERA, full_us, SOON_S, length_us=8_000_000)
        assert box.processes["kafka"] == broker, "the broker is the same process still"
        assert free_bytes > reserve_bytes(3 * GIB) * 0.9, "the reserve is kept"
        await expect_explained(probe, since_us)


async def expect_explained(probe: Probe, since_us: int) -> None:
    """From its first picture on, every second of each camera is footage or a gap because the disk was full.

    Before it a simulated camera that still draws its picture refuses ingest, which is a gap of its own.
    """
    for camera in probe.endpoints.cameras:
        to_us = CLOCK.now_us() - SETTLED_US
        whole = await probe.timeline(camera.id, since_us, to_us)
        assert tiles(whole, since_us, to_us), whole
        items = whole[next(at for at, item in enumerate(whole) if item["state"] in {"recorded", "open"}) :]
        assert items[0]["from_us"] - since_us < FIRST_PICTURE_US, whole
        causes = gap_seconds(items)
        assert causes.pop("disk_full", 0) > 0, items
        assert not causes, items
        assert items[-1]["state"] in {"recorded", "open"}, items
