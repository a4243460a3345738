"""Clips never take more room than they may, never the room of video, and leave nothing behind."""

from contextlib import suppress
from pathlib import Path

import pytest

from services.archive.clip_files import ClipFiles, ClipTooLarge
from services.runtime.errors import RetryLater


def files(root: Path, *, free_bytes: int | None = None) -> ClipFiles:
    return ClipFiles(root, capacity_bytes=100, reserve_bytes=1000, free_bytes=lambda: free_bytes)


def test_what_a_crash_left_is_removed(tmp_path: Path) -> None:
    (tmp_path / "left.mp4").write_bytes(b"x")
    files(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_file_is_gone_once_it_was_used_or_failed(tmp_path: Path) -> None:
    clips = files(tmp_path)
    with suppress(RetryLater), clips.file(60) as target:
        target.write_bytes(b"x")
        raise RetryLater("the store went away")
    assert list(tmp_path.iterdir()) == []
    assert clips.used_bytes == 0


def test_all_clips_together_are_bounded(tmp_path: Path) -> None:
    clips = files(tmp_path)
    with clips.file(60), pytest.raises(RetryLater, match="other clips"), clips.file(60):
        pass
    with pytest.raises(ClipTooLarge), clips.file(101):
        pass


def test_video_comes_before_clips(tmp_path: Path) -> None:
    with pytest.raises(RetryLater, match="no room"), files(tmp_path, free_bytes=1050).file(60):
        pass
    with files(tmp_path, free_bytes=1060).file(60):
        pass
