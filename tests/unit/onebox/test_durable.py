import os
from pathlib import Path

import pytest

from services.onebox import durable


def test_every_file_and_directory_is_synced_and_the_entry_above_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "data" / "log").mkdir(parents=True)
    (tmp_path / "data" / "log" / "0.log").touch()
    (tmp_path / "data" / "meta").touch()
    synced: list[str] = []
    monkeypatch.setattr(os, "fsync", lambda number: synced.append(Path(f"/proc/self/fd/{number}").readlink().name))
    durable.sync_tree(tmp_path / "data")
    assert synced == ["0.log", "log", "meta", "data", tmp_path.name]


def test_a_file_written_atomically_has_its_mode_and_leaves_nothing_beside(tmp_path: Path) -> None:
    durable.write_atomically(tmp_path / "token", b"old", mode=0o600)
    durable.write_atomically(tmp_path / "token", b"new", mode=0o600)
    assert (tmp_path / "token").read_bytes() == b"new"
    assert (tmp_path / "token").stat().st_mode & 0o777 == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["token"]
