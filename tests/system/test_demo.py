"""A demo starts, stops and starts again. Nothing fails: its cameras are there before and after ingest.

What the auditor finds: from the time that `endpoints.json` names, every second of every simulated camera is
footage, and no camera was offline.
"""

from pathlib import Path

import pytest

from services.contracts import codec
from services.contracts.gap import Gap
from services.contracts.stream import StreamState
from services.contracts.topics import STREAMS
from services.onebox.demo import DemoWanted
from tests.system.city import CLOCK, FOOTAGE, City, seconds_since, wait_until
from tests.system.conftest import Figures, run_city

CAMERAS = tuple(f"cam-{number}" for number in range(1, 5))
LENGTH_US = 4_000_000
READABLE_S = 60.0

pytestmark = pytest.mark.timeout(400)


async def test_from_the_time_a_demo_names_every_camera_records_also_after_a_second_start(
    tmp_path: Path, figures: Figures
) -> None:
    begin_us = CLOCK.now_us()
    async with run_city(tmp_path, DemoWanted(cameras=len(CAMERAS))) as city:
        figures("first start of a demo", all_cameras_record_after_s=seconds_since(begin_us))
        for camera_id in CAMERAS:
            await expect_only_footage(city, camera_id)
        assert await offline_before(city, CLOCK.now_us()) == []
    begin_us = CLOCK.now_us()
    async with run_city(tmp_path, DemoWanted(cameras=len(CAMERAS))) as city:
        figures("second start of a demo", all_cameras_record_after_s=seconds_since(begin_us))
        for camera_id in CAMERAS:
            await expect_only_footage(city, camera_id)
        # Not later: with ports of the kernel's choice ingest first asks at those of the first start.
        assert await offline_before(city, begin_us) == []


async def expect_only_footage(city: City, camera_id: str) -> None:
    since_us = city.addresses.recording_since_us
    assert since_us is not None
    to_us = since_us + LENGTH_US

    async def is_readable() -> bool:
        items = await city.timeline(camera_id, since_us, to_us)
        return bool(items) and items[-1]["to_us"] >= to_us and items[-1]["state"] in FOOTAGE

    await wait_until(is_readable, READABLE_S, f"{camera_id}: footage until {to_us} can be read")
    items = await city.timeline(camera_id, since_us, to_us)
    assert {item["state"] for item in items} <= FOOTAGE, f"{camera_id}: {items}"


async def offline_before(city: City, at_us: int) -> list[object]:
    """Return every gap and every state that says a camera was not there."""
    said = [codec.decode_event(record.headers, record.value).body for record in await city.records(STREAMS.name)]
    gaps = [body for body in said if isinstance(body, Gap) and body.cause == "device_offline" and body.from_us < at_us]
    states = [body for body in said if isinstance(body, StreamState) and body.state == "offline"]
    return [*gaps, *(state for state in states if state.since_us < at_us)]
