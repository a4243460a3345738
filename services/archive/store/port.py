"""The object store that archive knows (evidence.md 18).

Every read, copy and delete names a version; there is no call without one. Adapters block: they are
called on archive's own threads, never on an event loop. One suite, tests/conformance, runs on all.
"""

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Protocol

from services.contracts.units import UtcMicroseconds
from services.runtime.errors import PoisonMessage, RetryLater


class StoreAway(RetryLater):
    """The store did not answer, or said to come again. `retry_after_s` is its wish, if it had one."""

    def __init__(self, what: str, retry_after_s: float | None = None) -> None:
        super().__init__(what)
        self.retry_after_s = retry_after_s


class StoreFull(StoreAway):
    """There is no room: the same call again when there is."""


class NoSuchObject(PoisonMessage):
    """There is no such version of the key."""


class WrongDigest(PoisonMessage):
    """The bytes are not those that were announced."""


class Refused(PoisonMessage):
    """The store keeps the version: retention or a hold stands on it."""


class LockMode(StrEnum):
    """How hard retention is (evidence.md 3, S3 Object Lock)."""

    NONE = "none"
    GOVERNANCE = "governance"


@dataclass(frozen=True, slots=True, kw_only=True)
class Retention:
    """Until when a version is kept, how hard, and whether a hold stands on it."""

    retain_until_us: UtcMicroseconds | None
    mode: LockMode
    hold: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectHead:
    """What is known of one version without its bytes."""

    key: str
    version_id: str
    size_bytes: int
    sha256: str
    retention: Retention


@dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities:
    """What a store can promise. `worm` is believed only after archive's own probe."""

    versions: bool
    worm: bool


NO_RETENTION = Retention(retain_until_us=None, mode=LockMode.NONE, hold=False)


class ObjectStore(Protocol):
    """One bucket."""

    def put(self, key: str, data: Path | bytes, *, sha256: str, retention: Retention = NO_RETENTION) -> str:
        """Store a new version and return its id; the same bytes again are the same version where it can be.

        A file may be taken away by this call (a directory store renames it); the caller removes what
        is left. When it returns, the bytes outlive a power cut.

        Raises:
            StoreAway, StoreFull: again later.
            WrongDigest: `data` has another SHA-256.
        """

    def get_range(self, key: str, version_id: str, *, offset: int, size_bytes: int) -> bytes:
        """Return up to `size_bytes` from `offset`; fewer at the end of the object.

        Raises:
            StoreAway: again later.
            NoSuchObject: there is no such version.
        """

    def head(self, key: str, version_id: str) -> ObjectHead:
        """Return what is known of a version.

        Raises:
            StoreAway, NoSuchObject: as above.
        """

    def copy(self, key: str, version_id: str, *, to_key: str, retention: Retention = NO_RETENTION) -> str:
        """Copy one version inside the store and return the new version's id."""

    def list_versions(self, prefix: str) -> tuple[ObjectHead, ...]:
        """Return all versions of the keys that begin with `prefix`, by key."""

    def delete_version(self, key: str, version_id: str) -> None:
        """Remove one version for good.

        Raises:
            Refused: retention or a hold stands on it.
            StoreAway, NoSuchObject: as above.
        """

    def set_hold(self, key: str, version_id: str, *, hold: bool) -> None:
        """Set or lift the legal hold of one version."""

    def get_retention(self, key: str, version_id: str) -> Retention:
        """Return the retention of one version."""

    def free_bytes(self) -> int | None:
        """Return the room left, or None where the store does not say."""

    def capabilities(self) -> Capabilities:
        """Say what the store can promise."""
