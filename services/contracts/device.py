"""A device of the registry: camera, bell, light or siren. Holds references to secrets, never secrets."""

from typing import Annotated, ClassVar, Literal

from msgspec import Meta, Struct

from services.contracts.units import Identifier, StreamName

DeviceKind = Literal["camera", "bell", "light", "siren"]
Record = Literal["main", "sub", "both"]


class CameraStream(Struct, frozen=True, kw_only=True):
    """One stream a camera offers. The URL carries no user info: credentials come by `secret_ref`."""

    name: StreamName
    url: str
    bitrate_bps: Annotated[int, Meta(ge=1)]
    transport: Literal["rtsp_tcp"] = "rtsp_tcp"
    tls_fingerprint: str | None = None


class Device(Struct, frozen=True, kw_only=True):
    """One device as the city registered it.

    `upstream` runs pole -> switch -> ring -> feeder. `sees` lists the device ids a camera looks at.
    `momentary` marks a bell whose contact opens by itself: no clear is ever sent for it.
    """

    TYPE: ClassVar[str] = "kr.safealley.device.v1"

    device_id: Identifier
    kind: DeviceKind
    site_id: Identifier
    jurisdiction: str
    lon: float
    lat: float
    pole_id: str = ""
    hjdong_code: str = ""
    upstream: tuple[str, ...] = ()
    enabled: bool = True
    schedule: str = "always"
    secret_ref: str | None = None
    install_purpose: str = "crime_prevention"
    retention_class: str = "standard"
    heartbeat_s: Annotated[int, Meta(ge=1)] | None = None
    momentary: bool = True
    streams: tuple[CameraStream, ...] = ()
    record: Record = "main"
    handover: Literal["overlap", "sequential"] = "overlap"
    basic_without_tls: bool = False
    ptz: bool = False
    sees: tuple[Identifier, ...] = ()
    revision: int = 1
