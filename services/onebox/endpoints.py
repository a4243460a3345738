"""`DIR/endpoints.json`: every address of a running box, for scripts and tests. It holds tokens: mode 0600."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final, Literal

import msgspec
from msgspec import Struct

from services.contracts.device import Device
from services.onebox.durable import reason, write_atomically
from services.runtime.clock import Clock
from services.runtime.errors import RetryLater, SettingsError
from services.runtime.identity import DEMO_EXPIRY_S, Role
from services.runtime.settings import SecretStore

AGAIN_S: Final = 15.0
FRESH_S: Final = DEMO_EXPIRY_S / 3
"""After that new tokens are written: whoever reads the file has eight hours with them."""
Source = Literal["simulated", "clip", "camera"]


class Bell(Struct, frozen=True, kw_only=True):
    """A bell and the token it presents; empty when its secret is not there."""

    id: str
    token: str
    site_id: str


class Camera(Struct, frozen=True, kw_only=True):
    """A camera and where its pictures come from."""

    id: str
    site_id: str
    source: Source


class Endpoints(Struct, frozen=True, kw_only=True):
    """The content of the file. `processes` holds the process ids of now, also after a restart."""

    gateway: str
    device_door: str
    archive: str
    kafka: str
    tokens: Mapping[Role, str]
    bells: Sequence[Bell] = ()
    cameras: Sequence[Camera] = ()
    processes: Mapping[str, int] = {}
    recording_since_us: int | None = None
    """From then on every simulated camera records; of a real one each second is footage or a gap with its cause.
    Nothing without cameras, or when a simulated one did not record in time."""


def bells(devices: Sequence[Device], secrets: SecretStore) -> list[Bell]:
    """Return the bells of a registry with their tokens."""
    found = sorted((device for device in devices if device.kind == "bell"), key=lambda device: device.device_id)
    return [Bell(id=d.device_id, token=_token(d.secret_ref, secrets), site_id=d.site_id) for d in found]


def cameras(devices: Sequence[Device], sources: Mapping[str, Source]) -> list[Camera]:
    """Return the cameras of a registry; one that nobody simulates is a real one."""
    found = sorted((device for device in devices if device.kind == "camera"), key=lambda device: device.device_id)
    return [Camera(id=d.device_id, site_id=d.site_id, source=sources.get(d.device_id, "camera")) for d in found]


def _token(ref: str | None, secrets: SecretStore) -> str:
    if ref is None:
        return ""
    try:
        return secrets.read(ref).get("token", "")
    except (RetryLater, SettingsError):
        return ""  # the device door says so to the bell; here it only means that we cannot press it


class Published:
    """The file, there while everything is: opened once all is ready, closed before the first thing stops."""

    def __init__(
        self, path: Path, content: Callable[[], Endpoints], *, clock: Clock, say: Callable[[str], None]
    ) -> None:
        self._path = path
        self._content = content
        self._clock = clock
        self._say = say
        self._is_open = False
        self._due_us = 0
        self._failed_for = ""

    def open(self) -> None:
        self._is_open = True
        self.write()

    def close(self) -> None:
        self._is_open = False
        self._path.unlink(missing_ok=True)

    def write(self) -> None:
        """Replace the file whole while it is open; a failure is said, and `keep` tries again."""
        if not self._is_open:
            return
        try:
            content = msgspec.json.format(msgspec.json.encode(self._content()), indent=2)
            write_atomically(self._path, content + b"\n", mode=0o600)
            self._due_us, self._failed_for = self._clock.now_us() + round(FRESH_S * 1e6), ""
        except (OSError, SettingsError) as error:
            self._due_us, before, self._failed_for = 0, self._failed_for, reason(error)
            if self._failed_for != before:
                self._say(f"{self._path} was not written, tried again every {AGAIN_S:.0f} s: {self._failed_for}")

    async def keep(self) -> None:
        """Write again what failed, or whose tokens are no longer fresh; runs until cancelled."""
        while True:
            await self._clock.sleep(AGAIN_S)
            if self._clock.now_us() >= self._due_us:
                self.write()


def read(path: Path) -> Endpoints:
    """Read the file of a running box.

    Raises:
        SettingsError: there is none: nothing runs on this directory.
    """
    try:
        return msgspec.json.decode(path.read_bytes(), type=Endpoints)
    except FileNotFoundError:
        raise SettingsError(f"{path} is not there; cure: start `safealley up` on this directory first") from None
    except msgspec.DecodeError as error:
        raise SettingsError(f"{path} is not of this version ({error}); cure: start `safealley up` again") from None
