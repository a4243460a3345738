"""The jars of Apache Kafka: fetched once by jgo, checked against `jgo.lock.toml` before every start.

The lock is the only list: nothing is resolved at run time, so a jar that is not in it never runs.
"""

import hashlib
import sys
import tempfile
import tomllib
from collections.abc import Callable, Iterable
from pathlib import Path

import msgspec
from msgspec import Struct

from services.onebox.settings import REPOSITORY, cache_directory
from services.runtime.errors import RetryLater, SettingsError

LOCK = REPOSITORY / "jgo.lock.toml"
PASSES_MAX = 3


class LockedJar(Struct, frozen=True, kw_only=True, rename="camel"):
    """One line of the lock."""

    group_id: str
    artifact_id: str
    version: str
    sha256: str

    @property
    def file_name(self) -> str:
        return f"{self.artifact_id}-{self.version}.jar"


class _Lock(Struct):
    dependencies: list[LockedJar]


def read_lock(lock: Path = LOCK) -> tuple[LockedJar, ...]:
    """Return the jars of the lock file.

    Raises:
        SettingsError: the file is missing, or a jar in it has no hash.
    """
    try:
        return tuple(msgspec.convert(tomllib.loads(lock.read_text()), _Lock).dependencies)
    except (OSError, tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
        raise SettingsError(
            f"{lock}: not a usable lock of Kafka's jars: {error}; cure: git checkout {lock.name}"
        ) from error


def class_path(
    cache: Path, *, lock: Path = LOCK, say: Callable[[str], None], fetch: "Fetch | None" = None
) -> tuple[Path, ...]:
    """Return every jar of the lock, fetched if need be, each with the hash the lock gives.

    Raises:
        SettingsError: a jar has another hash; it is named and stays where it is.
        RetryLater: a jar is missing and cannot be fetched.
    """
    jars = read_lock(lock)
    folder = cache / "kafka"
    missing = [jar for jar in jars if not (folder / jar.file_name).exists()]
    if missing:
        say(f"fetching Apache Kafka: {len(missing)} of {len(jars)} jars, 45 MB in all, into {folder}")
        _fetch_all(missing, folder, fetch or fetch_with_jgo)
    for jar in jars:
        _check(folder / jar.file_name, jar, cure="delete this file and start again, it is then fetched anew")
    return tuple(folder / jar.file_name for jar in jars)


Fetch = Callable[[LockedJar, Path], Path]
"""Fetches a jar into a folder of its own and returns the file."""


def fetch_with_jgo(jar: LockedJar, into: Path) -> Path:
    """Download one jar from the Maven repositories that jgo knows (its own settings file may name a mirror)."""
    from jgo.config import GlobalSettings
    from jgo.constants import MAVEN_CENTRAL_URL
    from jgo.maven import MavenContext

    remotes = {"central": MAVEN_CENTRAL_URL} | GlobalSettings.load().repositories
    context = MavenContext(repo_cache=into, remote_repos=remotes, timeout=60)
    return context.project(jar.group_id, jar.artifact_id).at_version(jar.version).artifact().resolve()


def _fetch_all(jars: Iterable[LockedJar], folder: Path, fetch: Fetch) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    left = list(jars)
    reason: Exception | None = None
    for _ in range(PASSES_MAX):
        still: list[LockedJar] = []
        for jar in left:
            try:
                _fetch_one(jar, folder, fetch)
            except (OSError, RuntimeError) as error:  # requests' errors are OSErrors; jgo raises RuntimeError
                reason = error
                still.append(jar)
        left = still
    if left:
        raise RetryLater(
            f"{len(left)} jars of Apache Kafka could not be fetched, the first is {left[0].file_name} "
            f"({type(reason).__name__}); cure: see that this machine reaches a Maven repository, then run it again"
        ) from reason


def _fetch_one(jar: LockedJar, folder: Path, fetch: Fetch) -> None:
    """Fetch beside the target and rename, so that a download cut short never passes for a jar."""
    with tempfile.TemporaryDirectory(prefix=".incoming-", dir=folder) as incoming:
        file = fetch(jar, Path(incoming))
        _check(file, jar, cure="a mirror or proxy on the way serves another file; ask who runs it")
        file.replace(folder / jar.file_name)


def _check(file: Path, jar: LockedJar, *, cure: str) -> None:
    with file.open("rb") as opened:
        found = hashlib.file_digest(opened, "sha256").hexdigest()
    if found != jar.sha256:
        raise SettingsError(
            f"{file}: SHA-256 is {found}, {LOCK.name} says {jar.sha256}; the jar is not the one that was locked "
            f"and is not run; cure: {cure}"
        )


def main() -> int:
    """Fetch what is missing, so that the first start waits for nothing."""
    try:
        class_path(cache_directory(), say=lambda line: print(f"[safealley] {line}"))  # noqa: T201 - a command's output
    except (RetryLater, SettingsError) as error:
        print(f"[safealley] {error}", file=sys.stderr)  # noqa: T201 - a command's output
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
