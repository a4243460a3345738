import hashlib
from pathlib import Path

import pytest

from services.onebox import kafka_jars
from services.onebox.kafka_jars import LockedJar
from services.runtime.errors import RetryLater, SettingsError

GOOD = b"a jar"
LOCK_TEXT = f"""
[[dependencies]]
groupId = "org.example"
artifactId = "broker"
version = "1.0"
packaging = "jar"
sha256 = "{hashlib.sha256(GOOD).hexdigest()}"
"""


class Repository:
    """Serves one content for every jar and counts."""

    def __init__(self, *contents: bytes | Exception) -> None:
        self._contents = list(contents)
        self.asked = 0

    def fetch(self, jar: LockedJar, into: Path) -> Path:
        self.asked += 1
        content = self._contents.pop(0)
        if isinstance(content, Exception):
            raise content
        file = into / jar.file_name
        file.write_bytes(content)
        return file


@pytest.fixture
def lock(tmp_path: Path) -> Path:
    file = tmp_path / "jgo.lock.toml"
    file.write_text(LOCK_TEXT)
    return file


def jars(tmp_path: Path, lock: Path, repository: Repository) -> list[str]:
    said: list[str] = []
    kafka_jars.class_path(tmp_path / "cache", lock=lock, say=said.append, fetch=repository.fetch)
    return said


def test_the_committed_lock_names_every_jar_with_a_hash_and_no_address() -> None:
    locked = kafka_jars.read_lock()
    assert len(locked) == 46
    assert all(len(jar.sha256) == 64 for jar in locked)
    assert "://" not in kafka_jars.LOCK.read_text()


def test_a_jar_is_fetched_once_and_its_size_is_said_before(tmp_path: Path, lock: Path) -> None:
    repository = Repository(GOOD)
    first, second = jars(tmp_path, lock, repository), jars(tmp_path, lock, repository)
    assert "45 MB" in first[0]
    assert second == []
    assert repository.asked == 1


def test_a_tampered_jar_is_named_with_the_cure_and_not_run(tmp_path: Path, lock: Path) -> None:
    jars(tmp_path, lock, Repository(GOOD))
    jar = tmp_path / "cache" / "kafka" / "broker-1.0.jar"
    jar.write_bytes(GOOD + b" with a guest")
    with pytest.raises(SettingsError, match=r"broker-1\.0\.jar.*SHA-256.*cure: delete this file"):
        jars(tmp_path, lock, Repository())


def test_a_wrong_jar_from_the_repository_never_reaches_the_cache(tmp_path: Path, lock: Path) -> None:
    with pytest.raises(SettingsError, match=r"broker-1\.0\.jar.*cure: a mirror or proxy"):
        jars(tmp_path, lock, Repository(b"something else"))
    assert list((tmp_path / "cache" / "kafka").iterdir()) == []


def test_a_fetch_that_fails_twice_is_tried_a_third_time(tmp_path: Path, lock: Path) -> None:
    repository = Repository(ConnectionError(), RuntimeError("not found"), GOOD)
    jars(tmp_path, lock, repository)
    assert repository.asked == 3


def test_a_repository_out_of_reach_is_told_with_the_cure(tmp_path: Path, lock: Path) -> None:
    with pytest.raises(RetryLater, match=r"1 jars.*broker-1\.0\.jar \(ConnectionError\); cure: "):
        jars(tmp_path, lock, Repository(*[ConnectionError()] * 3))


@pytest.mark.parametrize("text", ["", "[[dependencies]]\ngroupId = 'a'\n"], ids=["empty", "no hash"])
def test_a_lock_that_cannot_be_trusted_is_refused(tmp_path: Path, text: str) -> None:
    lock = tmp_path / "broken.toml"
    lock.write_text(text)
    with pytest.raises(SettingsError, match=r"broken\.toml.*cure"):
        kafka_jars.read_lock(lock)
