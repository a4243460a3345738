"""`safealley demo --check --json` as a user runs it: no clip, and recordings of real, signing cameras.

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


@pytest.mark.parametrize("clip", ["test_signed_h264.mp4", "test_signed_h265.mp4"])
async def test_the_check_holds_with_a_recording_of_a_real_camera(
    tmp_path: Path, clips: dict[str, Path], figures: Figures, clip: str
) -> None:
    """Nothing fails: a press and a clip are followed through every link, and each link holds.

    The recording ends in a signature without a picture, which travels with the next picture; the
    auditor gets it back all the same, byte for byte and in its place.
    """
    command = [sys.executable, "-m", "services.cli", "demo", "--check", "--json", "--data", str(tmp_path)]
    check = await asyncio.create_subprocess_exec(
        *command, "--clip", str(clips[clip]), cwd=ROOT, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    output, errors = await check.communicate()
    assert check.returncode == 0, output.decode() + errors.decode()
    report = json.loads(output)
    assert report["holds"], report
    assert all(link["holds"] for link in report["links"])
    figures(f"demo --check --clip {clip}", ready_s=report["ready_s"], took_s=report["took_s"])
