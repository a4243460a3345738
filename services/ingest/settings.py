"""Settings of ingest: one file, the environment over it."""

import ipaddress
import os
from pathlib import Path
from typing import Annotated, Literal

from msgspec import Meta, Struct

from services.runtime.errors import SettingsError
from services.runtime.settings import KafkaSettings, ListenSettings, OpsSettings, load

MIB = 1024 * 1024
Bytes = Annotated[int, Meta(ge=1, description="bytes")]


class IngestSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Defaults are those of one box.

    `camera_networks` (CIDR) are the only addresses a camera may have; by default loopback and the
    private ranges. `live_url` is what claims tell others to reach our live port by; by default the
    address it listens on. `alarm_spool_bytes` is allocated at start. `video_buffer_bytes` holds what
    Kafka cannot take at the moment; beyond it the oldest becomes a gap. Video stops with a gap while
    less than `disk_reserve_bytes` or `disk_reserve_ratio` of the disk at `data_dir` is free.
    """

    name: str = "ingest-0"
    pool: str = "main"
    kafka: KafkaSettings = KafkaSettings()
    ops: OpsSettings = OpsSettings(port=9101)
    device_door: ListenSettings = ListenSettings(port=8081)
    live: ListenSettings = ListenSettings(port=8082)
    live_url: str | None = None
    data_dir: Path = Path(".data/ingest")
    secrets_dir: Path = Path(".data/secrets")
    camera_networks: tuple[str, ...] = (
        "127.0.0.0/8", "::1/128", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7",
    )  # fmt: skip
    assigner: Literal["static"] = "static"
    max_streams: Annotated[int, Meta(ge=0)] = 2_000
    max_mbps: Annotated[int, Meta(ge=1)] = 10_000
    connects_per_s: Annotated[float, Meta(gt=0)] = 20.0
    handshakes_per_host: Annotated[int, Meta(ge=1)] = 2
    offline_alarm_s: Annotated[float, Meta(ge=0)] = 2.0
    alarm_spool_bytes: Bytes = 16 * MIB
    video_buffer_bytes: Bytes = 256 * MIB
    disk_reserve_bytes: Annotated[int, Meta(ge=0)] = 2 * 1024 * MIB
    disk_reserve_ratio: Annotated[float, Meta(ge=0, le=1)] = 0.05

    def networks(self) -> tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...]:
        """Return `camera_networks` parsed.

        Raises:
            SettingsError: one of them is no CIDR.
        """
        try:
            return tuple(ipaddress.ip_network(text) for text in self.camera_networks)
        except ValueError as error:
            raise SettingsError(f"camera_networks: {error}: write CIDRs such as 10.20.0.0/16") from None


def load_settings(file: Path | None) -> IngestSettings:
    """Read the settings; raises SettingsError with file, line, key and cure."""
    settings = load(IngestSettings, file=file, environ=os.environ)
    settings.networks()
    return settings
