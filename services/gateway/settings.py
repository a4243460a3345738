"""Settings of gateway: one file, the environment over it."""

import os
from pathlib import Path

from msgspec import Struct, field

from services.runtime.settings import IdentitySettings, KafkaSettings, ListenSettings, OpsSettings, load


class GatewaySettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Defaults are those of one box.

    `origins` are the page's own origins with their ports; a request that names another is refused.
    `demo_identity_dir` turns demo sign-in on, for loopback only. `bundle_dir`: the built page, None
    for the one inside the package.
    """

    name: str = "gateway-0"
    pool: str = "main"
    kafka: KafkaSettings = KafkaSettings()
    ops: OpsSettings = OpsSettings(port=9103)
    listen: ListenSettings = ListenSettings(port=8080)
    identity: IdentitySettings = field(default_factory=IdentitySettings)
    archive_url: str = "http://127.0.0.1:8083"
    secrets_dir: Path = Path(".data/secrets")
    origins: tuple[str, ...] = ("http://127.0.0.1:8080", "http://localhost:8080")
    demo_identity_dir: Path | None = None
    demo_jurisdictions: tuple[str, ...] = ()
    bundle_dir: Path | None = None
    secure_cookie: bool = True


def load_settings(file: Path | None) -> GatewaySettings:
    """Read the settings; raises SettingsError with file, line, key and cure."""
    return load(GatewaySettings, file=file, environ=os.environ)
