"""`safealley demo --check --json` as a user runs it: without a clip, and with recordings of real, signing cameras.

The other recordings go through one box in test_outsider.py, which also counts the signing SEI.
"""

import asyncio
import json
import sys
from pathlib import Path

import pytest

from tests.system.conftest import Figures

ROOT = Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.timeout(300)


async def test_the_check_holds_without_a_clip(tmp_path: Path, figures: Figures) -> None:
    """Nothing fails: a press and the footage of a simulated camera are followed through every link, and each holds."""
    await expect_all_hold(tmp_path, figures)


@pytest.mark.parametrize("clip", ["test_signed_h264.mp4", "test_signed_h265.mp4"])
async def test_the_check_holds_with_a_recording_of_a_real_camera(
    tmp_path: Path, clips: dict[str, Path], figures: Figures, clip: str
) -> None:
    """Nothing fails: a press and a clip are followed through every link, and each link holds.

    The recording ends in a signature without a picture, which travels with the next picture; the
    auditor gets it back all the same, byte for byte and in its place.
    """
    await expect_all_hold(tmp_path, figures, "--clip", str(clips[clip]))


async def expect_all_hold(data: Path, figures: Figures, *options: str) -> None:
    command = [sys.executable, "-m", "services.cli", "demo", "--check", "--json", "--data", str(data), *options]
    check = await asyncio.create_subprocess_exec(
        *command, "--ports", "free", cwd=ROOT, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    output, errors = await check.communicate()
    assert check.returncode == 0, output.decode() + errors.decode()
    report = json.loads(output)
    assert report["holds"], report
    assert all(link["holds"] for link in report["links"])
    figures(f"demo --check of {report['camera_id']}", ready_s=report["ready_s"], took_s=report["took_s"])
