"""A city is judged by people who have none of its code: curl, a WebSocket client, av and endpoints.json."""

import asyncio
import json
import shutil
import sys
from pathlib import Path

import pytest

from tests.system.conftest import CityOf, Figures

SCRIPT = Path(__file__).with_name("outsider.py")

pytestmark = pytest.mark.timeout(300)


def test_the_script_imports_nothing_of_ours() -> None:
    """What proves the doors must not lean on what stands behind them."""
    assert "services" not in SCRIPT.read_text()


async def test_an_outsider_answers_a_press_and_proves_the_footage_of_each_recording(
    city_of: CityOf, any_clips: dict[str, Path], figures: Figures
) -> None:
    """Nothing fails. The operator, here a script, sees the press, acknowledges and disposes of it.

    The auditor, here the same script, takes out 13 s of each recorded camera over the loop's seam and
    finds every NAL unit, the signing SEI of the real ones among them, byte for byte what the file holds.
    """
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed: apt-get install curl")
    files = tuple(any_clips.values())
    async with city_of(cameras=0, clip=files[0], more_clips=files[1:]) as city:
        cameras = [camera.id for camera in city.endpoints().cameras]
        pairs = [f"{camera}={file}" for camera, file in zip(cameras, files, strict=True)]
        script = await asyncio.create_subprocess_exec(
            sys.executable, "-I", str(SCRIPT), str(city.box.layout.endpoints), *pairs,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, cwd="/",
        )  # fmt: skip
        output, errors = await script.communicate()
    assert script.returncode == 0, errors.decode()
    found = json.loads(output)
    assert {clip["file"] for clip in found["clips"].values()} == set(any_clips)
    assert all(clip["signing_sei"] >= 5 for clip in found["clips"].values() if "signed" in clip["file"])
    figures("outsider", **found["press"], clips=list(found["clips"].values()))
