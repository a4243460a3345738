"""The object store as a directory: one file per key, its facts in a small file beside it.

A file given to `put` becomes the object by fsync and rename. The version's id is the SHA-256 of its
bytes, so the same bytes again are the same version; other bytes under a key that exists stand beside it as
`<key>.<version id>`. Objects are read-only. It is no WORM: whoever owns the directory can remove all.
"""

import errno
import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import msgspec

from services.archive.store.port import (
    NO_RETENTION,
    Capabilities,
    LockMode,
    NoSuchObject,
    ObjectHead,
    Refused,
    Retention,
    StoreAway,
    StoreFull,
    WrongDigest,
)
from services.contracts.units import UtcMicroseconds
from services.runtime.clock import Clock
from services.runtime.errors import SettingsError

_READ_ONLY: Final = 0o444
_HASH_CHUNK_BYTES: Final = 1024 * 1024
_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT})


class _Facts(msgspec.Struct, frozen=True, kw_only=True):
    """The file beside an object."""

    version_id: str
    size_bytes: int
    retain_until_us: UtcMicroseconds | None
    mode: LockMode
    hold: bool


class LocalStore:
    """A directory that is one bucket."""

    def __init__(self, root: Path, *, clock: Clock) -> None:
        self._root = root
        self._objects = root / "objects"
        self._incoming = root / "incoming"
        self._clock = clock
        try:
            for directory in (self._objects, self._incoming):
                directory.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise SettingsError(f"the store's directory cannot be made: {error.strerror}") from error

    def put(self, key: str, data: Path | bytes, *, sha256: str, retention: Retention = NO_RETENTION) -> str:
        with _translated(key):
            source = data if isinstance(data, Path) else self._receive(data)
            path = self._place(key, sha256)
            if path.exists():
                self._check_same(path, sha256)
                source.unlink(missing_ok=True)
            else:
                self._adopt(source, path, sha256)
            if not _beside(path).exists():
                self._write_facts(path, _facts_of(path, sha256, retention))
            return sha256

    def get_range(self, key: str, version_id: str, *, offset: int, size_bytes: int) -> bytes:
        with _translated(key), self._version(key, version_id).open("rb") as source:
            return os.pread(source.fileno(), size_bytes, offset)

    def head(self, key: str, version_id: str) -> ObjectHead:
        with _translated(key):
            return _head(key, self._facts(self._version(key, version_id), version_id))

    def copy(self, key: str, version_id: str, *, to_key: str, retention: Retention = NO_RETENTION) -> str:
        with _translated(key):
            spare = self._incoming / f"copy-{os.urandom(8).hex()}"
            shutil.copyfile(self._version(key, version_id), spare)
        return self.put(to_key, spare, sha256=version_id, retention=retention)

    def list_versions(self, prefix: str) -> tuple[ObjectHead, ...]:
        with _translated(prefix):
            facts = [(self._key_of(path), path) for path in self._objects.rglob("*.facts")]
            found = (_head(key, _read_facts(path)) for key, path in facts if key.startswith(prefix))
            return tuple(sorted(found, key=lambda head: (head.key, head.version_id)))

    def delete_version(self, key: str, version_id: str) -> None:
        with _translated(key):
            path = self._version(key, version_id)
            facts = self._facts(path, version_id)
            if facts.hold:
                raise Refused("a hold stands on it")
            if facts.retain_until_us is not None and facts.retain_until_us > self._clock.now_us():
                raise Refused("its retention has not ended")
            path.unlink()
            _beside(path).unlink(missing_ok=True)
            _sync_directory(path.parent)

    def set_hold(self, key: str, version_id: str, *, hold: bool) -> None:
        with _translated(key):
            path = self._version(key, version_id)
            self._write_facts(path, msgspec.structs.replace(self._facts(path, version_id), hold=hold))

    def get_retention(self, key: str, version_id: str) -> Retention:
        return self.head(key, version_id).retention

    def free_bytes(self) -> int | None:
        disk = os.statvfs(self._root)
        return disk.f_bavail * disk.f_frsize

    def capabilities(self) -> Capabilities:
        return Capabilities(versions=True, worm=False)

    def _path(self, key: str) -> Path:
        parts = key.split("/")
        if any(part in ("", ".", "..") or part.startswith(".") for part in parts) or key.endswith(".facts"):
            raise ValueError("not the key of an object")
        return self._objects.joinpath(*parts)

    def _place(self, key: str, version_id: str) -> Path:
        """Return where a version stands, or is to stand: under its key if that is free or already its own."""
        path = self._path(key)
        if not path.exists() or self._facts(path, None).version_id == version_id:
            return path
        return path.with_name(f"{path.name}.{version_id}")

    def _version(self, key: str, version_id: str) -> Path:
        path = self._place(key, version_id)
        if not path.exists():
            raise NoSuchObject("there is no such version")
        return path

    def _facts(self, path: Path, version_id: str | None) -> _Facts:
        """Return the facts of an object; hashed anew when a crash left it without them."""
        beside = _beside(path)
        if beside.exists():
            return _read_facts(beside)
        return _facts_of(path, version_id or _digest(path), NO_RETENTION)

    def _receive(self, data: bytes) -> Path:
        path = self._incoming / f"put-{os.urandom(8).hex()}"
        path.write_bytes(data)
        return path

    def _adopt(self, source: Path, path: Path, sha256: str) -> None:
        _check_digest(source, sha256)
        path.parent.mkdir(parents=True, exist_ok=True)
        source.chmod(_READ_ONLY)
        _sync_file(source)
        if source.stat().st_dev != path.parent.stat().st_dev:
            near = self._incoming / f"move-{os.urandom(8).hex()}"
            shutil.copyfile(source, near)
            near.chmod(_READ_ONLY)
            _sync_file(near)
            near.rename(path)
            source.unlink()
        else:
            source.rename(path)
        self._sync_directories(path.parent)

    def _check_same(self, path: Path, sha256: str) -> None:
        """Refuse to take a damaged object for the one that is put again."""
        if _digest(path) != sha256:
            raise WrongDigest("the object under this key is damaged")

    def _write_facts(self, path: Path, facts: _Facts) -> None:
        spare = self._incoming / f"facts-{os.urandom(8).hex()}"
        spare.write_bytes(msgspec.json.encode(facts))
        _sync_file(spare)
        spare.rename(_beside(path))
        _sync_directory(path.parent)

    def _sync_directories(self, directory: Path) -> None:
        """Make new names last: the directory, and those above it that may have just been made."""
        while directory != self._root:
            _sync_directory(directory)
            directory = directory.parent

    def _key_of(self, beside: Path) -> str:
        name = str(beside.relative_to(self._objects)).removesuffix(".facts")
        version_id = _read_facts(beside).version_id
        return name.removesuffix(f".{version_id}")


def _beside(path: Path) -> Path:
    return path.with_name(f"{path.name}.facts")


def _read_facts(beside: Path) -> _Facts:
    return msgspec.json.decode(beside.read_bytes(), type=_Facts)


def _facts_of(path: Path, version_id: str, retention: Retention) -> _Facts:
    return _Facts(
        version_id=version_id,
        size_bytes=path.stat().st_size,
        retain_until_us=retention.retain_until_us,
        mode=retention.mode,
        hold=retention.hold,
    )


def _head(key: str, facts: _Facts) -> ObjectHead:
    return ObjectHead(
        key=key,
        version_id=facts.version_id,
        size_bytes=facts.size_bytes,
        sha256=facts.version_id,
        retention=Retention(retain_until_us=facts.retain_until_us, mode=facts.mode, hold=facts.hold),
    )


def _digest(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as source:
        while chunk := source.read(_HASH_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def _check_digest(path: Path, sha256: str) -> None:
    if _digest(path) != sha256:
        raise WrongDigest("the bytes have another SHA-256")


def _sync_file(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _translated(key: str) -> Iterator[None]:
    """Translate the operating system's errors; their text may hold a path, so only the reason is kept."""
    try:
        yield
    except FileNotFoundError as error:
        raise NoSuchObject(f"{key}: no such version") from error
    except OSError as error:
        if error.errno in _FULL:
            raise StoreFull(f"{key}: {error.strerror}") from error
        raise StoreAway(f"{key}: {error.strerror}") from error
    except msgspec.DecodeError as error:
        raise StoreAway(f"{key}: its facts cannot be read") from error
