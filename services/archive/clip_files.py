"""The files that clips are made in: bounded together in bytes, never at the cost of recording, gone once sent."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from services.runtime.errors import RetryLater, SettingsError

SUFFIX: Final = ".mp4"


class ClipTooLarge(Exception):
    """The clip alone is larger than all clips may be: ask for less."""


class ClipFiles:
    """Hands out names in one directory. `free_bytes` is of the disk that video is stored on too."""

    def __init__(
        self, root: Path, *, capacity_bytes: int, reserve_bytes: int, free_bytes: Callable[[], int | None]
    ) -> None:
        self._root = root
        self._capacity_bytes = capacity_bytes
        self._reserve_bytes = reserve_bytes
        self._free_bytes = free_bytes
        self.used_bytes = 0
        try:
            root.mkdir(parents=True, exist_ok=True)
            for leftover in root.glob(f"*{SUFFIX}"):
                leftover.unlink()
        except OSError as error:
            raise SettingsError(f"the directory for clips cannot be used: {error.strerror}") from error

    @contextmanager
    def file(self, size_bytes: int) -> Iterator[Path]:
        """Lend a file that will hold about so many bytes; it is removed at the end, whatever happens.

        Raises:
            ClipTooLarge: it never fits.
            RetryLater: it does not fit beside the other clips, or beside the video.
        """
        if size_bytes > self._capacity_bytes:
            raise ClipTooLarge(f"a clip may have {self._capacity_bytes // 1_000_000} MB: ask for less time")
        if self.used_bytes + size_bytes > self._capacity_bytes:
            raise RetryLater("other clips take up the room for clips")
        free = self._free_bytes()
        if free is not None and free - size_bytes < self._reserve_bytes:
            raise RetryLater("the disk has no room for a clip")
        target = self._root / f"{os.urandom(8).hex()}{SUFFIX}"
        self.used_bytes += size_bytes
        try:
            yield target
        finally:
            self.used_bytes -= size_bytes
            target.unlink(missing_ok=True)
