"""The settings files of the four services on one box, and what else they find there. Writes files, decides nothing."""

import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from services.onebox.durable import write_atomically
from services.onebox.layout import Layout
from services.onebox.ports import LOOPBACK

LIVE_RELAY = "live-relay"


def settings_of_services(
    layout: Layout,
    ports: Mapping[str, int],
    *,
    bootstrap: str,
    reserve_bytes: int,
    bundle: Path | None,
    jurisdictions: Sequence[str],
) -> Mapping[str, dict[str, Any]]:
    """Return what differs from each service's defaults, by service."""
    identity = {"jwks_file": str(layout.identity / "jwks.json")}

    def common(service: str) -> dict[str, Any]:
        return {"kafka": {"bootstrap": bootstrap}, "ops": {"host": LOOPBACK, "port": ports[f"{service} ops"]}}

    def listen(name: str) -> dict[str, Any]:
        return {"host": LOOPBACK, "port": ports[name]}

    gateway_origins = [f"http://{host}:{ports['gateway']}" for host in (LOOPBACK, "localhost")]
    return {
        "ingest": common("ingest")
        | {
            "device_door": listen("device door"),
            "live": listen("live relay"),
            "secrets_dir": str(layout.secrets),
            "data_dir": str(layout.data("ingest")),
            "disk_reserve_bytes": reserve_bytes,
        },
        "alerting": common("alerting"),
        "gateway": common("gateway")
        | {
            "listen": listen("gateway"),
            "identity": identity,
            "archive_url": f"http://{LOOPBACK}:{ports['archive']}",
            "secrets_dir": str(layout.secrets),
            "origins": gateway_origins,
            "bundle_dir": str(bundle) if bundle else None,
            "secure_cookie": False,
            "demo_identity_dir": str(layout.identity),
            "demo_jurisdictions": list(jurisdictions),
        },
        "archive": common("archive")
        | {
            "listen": listen("archive"),
            "identity": identity,
            "data_dir": str(layout.data("archive")),
            # Ingest stops at the whole: what it had acknowledged by then must still fit.
            "disk_reserve_bytes": reserve_bytes // 2,
        },
    }


def write_settings(layout: Layout, settings: Mapping[str, dict[str, Any]]) -> None:
    """Write a file per service. JSON is YAML, and needs no writer of its own."""
    for service, values in settings.items():
        file = layout.settings(service)
        file.parent.mkdir(parents=True, exist_ok=True)
        head = b"# Written by `safealley up` at every start.\n"
        write_atomically(file, head + msgspec.json.format(msgspec.json.encode(values), indent=2) + b"\n")


def make_folders(layout: Layout) -> None:
    """Make the folders that hold secrets readable by us alone, and the text ingest and gateway share."""
    for folder in (layout.root, layout.secrets, layout.identity):
        folder.mkdir(parents=True, exist_ok=True)
    for folder in (layout.secrets, layout.identity):
        folder.chmod(0o700)
    relay = layout.secrets / LIVE_RELAY
    if not relay.exists():
        write_atomically(relay, secrets.token_urlsafe(32).encode(), mode=0o600)
