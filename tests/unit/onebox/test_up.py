from collections.abc import Mapping
from errno import ENOSPC
from types import MappingProxyType
from typing import Any, cast

import pytest
from rich.console import Console

from services.onebox.up import run_box


class OnAFullDisk:
    """A box whose start finds no room for its settings."""

    processes: Mapping[str, int] = MappingProxyType({})

    async def start(self) -> None:
        raise OSError(ENOSPC, "No space left on device", "settings/ingest.yaml")

    async def stop(self) -> None:
        pass


def test_a_full_disk_at_the_start_is_a_sentence_with_its_cure(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_box(cast("Any", OnAFullDisk()), Console()) == 1
    out, said = capsys.readouterr()
    assert out == "", "nothing was begun, so nothing stops"
    assert "No space left on device: 'settings/ingest.yaml'; cure: free some of the disk" in said
    assert "Traceback" not in said
