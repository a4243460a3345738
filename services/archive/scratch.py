"""One append-only file per open segment, with its running SHA-256 and a table of its fragments.

Scratch is never evidence and never kept over a crash: it is rebuilt from Kafka. Appends are plain
writes into the page cache (250 kB: about 0.1 ms), so they stand on the caller's thread.
"""

import hashlib
import os
from array import array
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from services.archive import boxes
from services.contracts.units import UtcMicroseconds
from services.runtime.errors import RetryLater, SettingsError

SUFFIX: Final = ".open"


class ScratchFailed(RetryLater):
    """The disk took nothing: the lane that wrote is to be thrown away and read again."""


class ScratchLost(RetryLater):
    """The file was given to the store meanwhile: ask the catalog."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Gop:
    """A stretch of an object that begins with a key picture (or with the object), and where it stands in time."""

    offset: int
    start_us: UtcMicroseconds
    time: int
    key: bool


class ScratchFile:
    """The growing bytes of one segment: init, then fragments as they came."""

    def __init__(self, directory: "ScratchDirectory", path: Path, init: bytes) -> None:
        self._directory = directory
        self.path = path
        self.init = init
        self.size_bytes = 0
        self.track_id = 1
        self._digest = hashlib.sha256()
        # Columns instead of objects: 120 fragments cost 4 KB.
        self._offsets, self._starts_us, self._times = array("Q"), array("Q"), array("Q")
        self._keys = bytearray()
        self._append(init)

    def add(self, value: memoryview, facts: boxes.FragmentBoxes, *, start_us: UtcMicroseconds, key: bool) -> None:
        """Append one fragment."""
        self.track_id = facts.track_id
        offset = self.size_bytes + facts.moof_offset
        self._append(value)
        self._starts_us.append(start_us)
        self._times.append(facts.first_time)
        self._keys.append(key)
        self._offsets.append(offset)  # last: readers on other threads count by this column

    def finish(self) -> str:
        """Append `mfra` and return the SHA-256 of the whole."""
        keys = [boxes.KeyPlace(gop.time, gop.offset) for gop in self.gops() if gop.key]
        self._append(boxes.mfra(self.track_id, keys))
        self._directory.close_file(self)
        return self._digest.hexdigest()

    def gops(self) -> tuple[Gop, ...]:
        """Return where key pictures stand; the first entry is the first fragment, key picture or not."""
        places = range(len(self._offsets))
        return tuple(
            Gop(offset=self._offsets[i], start_us=self._starts_us[i], time=self._times[i], key=bool(self._keys[i]))
            for i in places
            if i == 0 or self._keys[i]
        )

    def read(self, offset: int, size_bytes: int) -> bytes:
        """Read what was written; safe on any thread.

        Raises:
            ScratchLost: the store has the file now.
        """
        try:
            descriptor = os.open(self.path, os.O_RDONLY)
        except FileNotFoundError as error:
            raise ScratchLost("the segment was stored meanwhile") from error
        try:
            return os.pread(descriptor, size_bytes, offset)
        finally:
            os.close(descriptor)

    def _append(self, data: bytes | memoryview) -> None:
        self._directory.append(self, data)
        self._digest.update(data)
        self.size_bytes += len(data)


class ScratchDirectory:
    """All scratch files: their bytes against a limit, their descriptors against another."""

    def __init__(self, root: Path, *, capacity_bytes: int, open_files_max: int) -> None:
        self._root = root
        self.capacity_bytes = capacity_bytes
        self._open_files_max = open_files_max
        self._files: dict[Path, ScratchFile] = {}
        self._descriptors: OrderedDict[Path, int] = OrderedDict()
        self._next = 0
        self.used_bytes = 0
        self._empty()

    @property
    def full(self) -> bool:
        return self.used_bytes >= self.capacity_bytes

    def __len__(self) -> int:
        return len(self._files)

    def create(self, init: bytes) -> ScratchFile:
        """Begin the file of a segment."""
        self._next += 1
        path = self._root / f"{self._next:08d}{SUFFIX}"
        try:
            file = ScratchFile(self, path, init)
        except ScratchFailed:
            self._close_descriptor(path)
            path.unlink(missing_ok=True)
            raise
        self._files[path] = file
        return file

    def append(self, file: ScratchFile, data: bytes | memoryview) -> None:
        """Write behind what is there.

        Raises:
            ScratchFailed: the disk took nothing; what it took of a part is cut off again.
        """
        descriptor = self._descriptor(file.path)
        try:
            written = 0
            view = memoryview(data)
            while written < len(view):
                written += os.pwrite(descriptor, view[written:], file.size_bytes + written)
        except OSError as error:
            os.ftruncate(descriptor, file.size_bytes)
            raise ScratchFailed(f"scratch cannot be written: {error.strerror}") from error
        self.used_bytes += len(data)

    def forget(self, file: ScratchFile) -> None:
        """Drop a file that the store has now, or that is thrown away."""
        self.close_file(file)
        if self._files.pop(file.path, None) is not None:
            self.used_bytes -= file.size_bytes
            file.path.unlink(missing_ok=True)

    def close_file(self, file: ScratchFile) -> None:
        """Give back the descriptor; the next append opens it again."""
        self._close_descriptor(file.path)

    def close(self) -> None:
        """Throw everything away."""
        for file in tuple(self._files.values()):
            self.forget(file)

    def _close_descriptor(self, path: Path) -> None:
        descriptor = self._descriptors.pop(path, None)
        if descriptor is not None:
            os.close(descriptor)

    def _descriptor(self, path: Path) -> int:
        descriptor = self._descriptors.get(path)
        if descriptor is not None:
            self._descriptors.move_to_end(path)
            return descriptor
        if len(self._descriptors) >= self._open_files_max:
            os.close(self._descriptors.popitem(last=False)[1])
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
        except OSError as error:
            raise ScratchFailed(f"scratch cannot be opened: {error.strerror}") from error
        self._descriptors[path] = descriptor
        return descriptor

    def _empty(self) -> None:
        """Throw away what a crash left: its hash cannot be taken up again, Kafka has the records."""
        try:
            self._root.mkdir(parents=True, exist_ok=True)
            for path in self._leftovers():
                path.unlink()
        except OSError as error:
            raise SettingsError(f"the scratch directory cannot be used: {error.strerror}") from error

    def _leftovers(self) -> Iterator[Path]:
        return self._root.glob(f"*{SUFFIX}")
