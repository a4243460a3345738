"""One suite for every object store: what archive relies on. Another adapter joins by one more parameter."""

import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest

from services.archive.store.local import LocalStore
from services.archive.store.port import (
    LockMode,
    NoSuchObject,
    ObjectStore,
    Refused,
    Retention,
    WrongDigest,
)
from services.runtime.clock import FakeClock
from services.runtime.errors import PoisonMessage

KEY = "v1/ab/cam-1/2026-05-01/13/segment.mp4"
DATA = b"pictures" * 1000
SHA = hashlib.sha256(DATA).hexdigest()

MakeStore = Callable[[Path, FakeClock], ObjectStore]


def local(directory: Path, clock: FakeClock) -> ObjectStore:
    return LocalStore(directory / "store", clock=clock)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture(params=[pytest.param(local, id="local directory")])
def store(request: pytest.FixtureRequest, tmp_path: Path, clock: FakeClock) -> ObjectStore:
    make: MakeStore = request.param
    return make(tmp_path, clock)


def test_what_was_put_is_read_back_by_version_and_range(store: ObjectStore) -> None:
    version = store.put(KEY, DATA, sha256=SHA)
    assert store.get_range(KEY, version, offset=0, size_bytes=1 << 20) == DATA
    assert store.get_range(KEY, version, offset=8, size_bytes=8) == b"pictures"
    assert store.get_range(KEY, version, offset=len(DATA) - 3, size_bytes=100) == DATA[-3:]


def test_a_file_can_be_given(store: ObjectStore, tmp_path: Path) -> None:
    source = tmp_path / "scratch"
    source.write_bytes(DATA)
    version = store.put(KEY, source, sha256=SHA)
    assert store.head(KEY, version).size_bytes == len(DATA)


def test_putting_the_same_again_changes_nothing_that_is_read(store: ObjectStore) -> None:
    first = store.put(KEY, DATA, sha256=SHA)
    store.put(KEY, DATA, sha256=SHA)
    assert store.get_range(KEY, first, offset=0, size_bytes=1 << 20) == DATA


def test_other_bytes_under_one_key_are_another_version(store: ObjectStore) -> None:
    first = store.put(KEY, DATA, sha256=SHA)
    other = b"other"
    second = store.put(KEY, other, sha256=hashlib.sha256(other).hexdigest())
    assert first != second
    assert store.get_range(KEY, first, offset=0, size_bytes=1 << 20) == DATA
    assert store.get_range(KEY, second, offset=0, size_bytes=1 << 20) == other
    assert {head.version_id for head in store.list_versions("v1/ab/")} == {first, second}


def test_bytes_that_are_not_those_announced_are_refused(store: ObjectStore) -> None:
    with pytest.raises(WrongDigest):
        store.put(KEY, DATA, sha256="0" * 64)
    assert store.list_versions("") == ()


def test_what_is_not_there_is_said_to_be_missing(store: ObjectStore) -> None:
    with pytest.raises(NoSuchObject):
        store.get_range(KEY, SHA, offset=0, size_bytes=1)
    with pytest.raises(NoSuchObject):
        store.head(KEY, SHA)
    with pytest.raises(PoisonMessage):
        store.delete_version(KEY, SHA)


async def test_retention_and_hold_refuse_deletion_until_they_end(store: ObjectStore, clock: FakeClock) -> None:
    retention = Retention(retain_until_us=clock.now_us() + 60_000_000, mode=LockMode.GOVERNANCE, hold=True)
    version = store.put(KEY, DATA, sha256=SHA, retention=retention)
    assert store.get_retention(KEY, version) == retention
    with pytest.raises(Refused):
        store.delete_version(KEY, version)
    store.set_hold(KEY, version, hold=False)
    with pytest.raises(Refused):
        store.delete_version(KEY, version)
    await clock.advance(61)
    store.delete_version(KEY, version)
    assert store.list_versions("") == ()


def test_a_copy_has_the_same_bytes_and_its_own_retention(store: ObjectStore) -> None:
    version = store.put(KEY, DATA, sha256=SHA)
    held = Retention(retain_until_us=None, mode=LockMode.NONE, hold=True)
    copy = store.copy(KEY, version, to_key="hold/segment.mp4", retention=held)
    assert store.get_range("hold/segment.mp4", copy, offset=0, size_bytes=1 << 20) == DATA
    assert store.head("hold/segment.mp4", copy).retention.hold
    assert not store.head(KEY, version).retention.hold
