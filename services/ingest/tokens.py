"""Whose token is it? Device tokens by hash, each compared with its file as it is now.

Nothing here is ever logged or put into an error: not a token, not a piece of one.
"""

import hashlib
import hmac
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

from services.contracts.device import Device
from services.runtime.clock import Clock
from services.runtime.errors import RetryLater, SettingsError
from services.runtime.settings import SecretStore

_INDEX_AGE_NS_MIN: Final = 1_000_000_000
_Stamp = tuple[int, int, int]


class Tokens:
    """An index by SHA-256, so that a look-up takes equally long for every wrong token.

    A token may belong to several devices (they share a `secret_ref`).
    """

    def __init__(self, directory: Path, clock: Clock) -> None:
        self._directory = directory
        self._secrets = SecretStore(directory)
        self._clock = clock
        self._built_ns: int | None = None
        self._index: dict[bytes, str] = {}
        self._seen: dict[str, tuple[_Stamp, bytes | None]] = {}

    def owners(self, token: str, devices: Mapping[str, Device]) -> frozenset[str]:
        """Return the ids of the devices that this token belongs to; none: nobody's."""
        digest = hashlib.sha256(token.encode()).digest()
        if digest not in self._index:
            self._refresh(device.secret_ref for device in devices.values())
        ref = self._index.get(digest)
        if ref is None or not self._is_token_of(ref, token):
            return frozenset()
        return frozenset(device.device_id for device in devices.values() if device.secret_ref == ref)

    def _is_token_of(self, ref: str, token: str) -> bool:
        now = self._token(ref)
        return now is not None and hmac.compare_digest(now.encode(), token.encode())

    def _refresh(self, refs: Iterable[str | None]) -> None:
        """Look at each file again, at most once a second: a wrong token must not cost a walk each time."""
        now_ns = self._clock.monotonic_ns()
        if self._built_ns is not None and now_ns - self._built_ns < _INDEX_AGE_NS_MIN:
            return
        self._built_ns = now_ns
        self._seen = {ref: self._look(ref) for ref in {ref for ref in refs if ref is not None}}
        self._index = {digest: ref for ref, (_, digest) in self._seen.items() if digest is not None}

    def _look(self, ref: str) -> tuple[_Stamp, bytes | None]:
        try:
            found = (self._directory / ref).stat()
        except OSError:
            return (0, 0, 0), None
        stamp = (found.st_mtime_ns, found.st_size, found.st_ino)
        if ref in self._seen and self._seen[ref][0] == stamp:
            return self._seen[ref]
        token = self._token(ref)
        return stamp, None if token is None else hashlib.sha256(token.encode()).digest()

    def _token(self, ref: str) -> str | None:
        """Return the token in a file; none in a missing or broken one, which then opens no door."""
        try:
            return self._secrets.read(ref).get("token") or None
        except (RetryLater, SettingsError):
            return None
