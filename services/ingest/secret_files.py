"""Secrets of devices: one JSON file each, named by the registry's `secret_ref`. Read again on each use.

Nothing here is ever logged or put into an error: not a value, not a piece of one.
"""

import hashlib
import hmac
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

import msgspec

from services.contracts.device import Device
from services.runtime.clock import Clock
from services.runtime.errors import RetryLater, SettingsError

SECRET_BYTES_MAX: Final = 64 * 1024
_REF = re.compile(r"^[a-z0-9][a-z0-9._-]*$")
_INDEX_AGE_NS_MIN: Final = 1_000_000_000


class Secret(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A camera's user name and password, or the token that a bell or light presents."""

    username: str | None = None
    password: str | None = None
    token: str | None = None

    def __repr__(self) -> str:
        return "Secret(***)"


def valid_ref(ref: str) -> bool:
    """Tell whether a `secret_ref` names a file and no path."""
    return _REF.match(ref) is not None and ".." not in ref


def read_secret(directory: Path, ref: str) -> Secret:
    """Read one secret.

    Raises:
        RetryLater: the file is missing or not as it should be: a person may still put it there.
    """
    return _parse(_bytes(directory, ref), ref)


def read_text(directory: Path, ref: str) -> str:
    """Read a secret that is one line of text.

    Raises:
        SettingsError: missing or empty.
    """
    try:
        text = _bytes(directory, ref).decode("ascii", "strict").strip()
    except (RetryLater, UnicodeDecodeError):
        text = ""
    if not text:
        raise SettingsError(f"secrets_dir: the file {ref!r} is missing or empty: write a random text into it")
    return text


class Tokens:
    """Whose token is it? An index by hash; a hit is compared with the file as it is now.

    A token may belong to several devices (they share a `secret_ref`).
    """

    def __init__(self, directory: Path, clock: Clock) -> None:
        self._directory = directory
        self._clock = clock
        self._built_ns: int | None = None
        self._index: dict[bytes, str] = {}
        self._seen: dict[str, tuple[tuple[int, int, int], bytes | None]] = {}

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
        try:
            now = read_secret(self._directory, ref).token
        except RetryLater:
            return False
        return now is not None and hmac.compare_digest(now.encode(), token.encode())

    def _refresh(self, refs: Iterable[str | None]) -> None:
        """Look at each file again, at most once a second: wrong tokens must not cost a walk each."""
        now_ns = self._clock.monotonic_ns()
        if self._built_ns is not None and now_ns - self._built_ns < _INDEX_AGE_NS_MIN:
            return
        self._built_ns = now_ns
        self._seen = {ref: self._look(ref) for ref in {ref for ref in refs if ref is not None}}
        self._index = {digest: ref for ref, (_, digest) in self._seen.items() if digest is not None}

    def _look(self, ref: str) -> tuple[tuple[int, int, int], bytes | None]:
        try:
            found = (self._directory / ref).stat()
            stamp = (found.st_mtime_ns, found.st_size, found.st_ino)
            if ref in self._seen and self._seen[ref][0] == stamp:
                return self._seen[ref]
            token = read_secret(self._directory, ref).token
        except (OSError, RetryLater):
            return (0, 0, 0), None
        return stamp, None if token is None else hashlib.sha256(token.encode()).digest()


def _bytes(directory: Path, ref: str) -> bytes:
    if not valid_ref(ref):
        raise RetryLater("secret_ref is not a plain file name")
    try:
        with (directory / ref).open("rb") as file:
            data = file.read(SECRET_BYTES_MAX + 1)
    except OSError as error:
        raise RetryLater(f"secret {ref!r} cannot be read: {error.strerror}") from None
    if len(data) > SECRET_BYTES_MAX:
        raise RetryLater(f"secret {ref!r} is larger than {SECRET_BYTES_MAX} bytes")
    return data


def _parse(data: bytes, ref: str) -> Secret:
    try:
        return msgspec.json.decode(data, type=Secret)
    except msgspec.DecodeError:
        raise RetryLater(f"secret {ref!r} is not JSON with username and password, or token") from None
