"""A rig whose topics are there; tests start the gateway themselves."""

from pathlib import Path

import pytest

from tests.integration.gateway.rig import Rig


@pytest.fixture
async def rig(tmp_path: Path) -> Rig:
    return await Rig(directory=tmp_path).create()
