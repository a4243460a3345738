"""Files that must outlive a power cut."""

import os
from errno import EDQUOT, ENOSPC
from pathlib import Path


def sync_tree(directory: Path) -> None:
    """Sync every file and directory below, then the directory and the entry that names it."""
    for folder, _, files in os.walk(directory, topdown=False):
        for name in files:
            _sync(Path(folder) / name)
        _sync(Path(folder))
    _sync(directory.parent)


def write_atomically(path: Path, content: bytes, *, mode: int = 0o644) -> None:
    """Replace a file whole: a reader sees the old or the new content, also after a power cut."""
    beside = path.with_name(f".{path.name}.new")
    beside.unlink(missing_ok=True)
    with os.fdopen(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as opened:
        opened.write(content)
        opened.flush()
        os.fsync(opened.fileno())
    beside.replace(path)
    _sync(path.parent)


def is_full(error: Exception) -> bool:
    """Tell whether an error is a disk without room."""
    return isinstance(error, OSError) and error.errno in (ENOSPC, EDQUOT)


def reason(error: Exception) -> str:
    """Return what an error says, a full disk with its cure: our own errors name theirs."""
    return f"{error}; cure: free some of the disk" if is_full(error) else str(error)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
