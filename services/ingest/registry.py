"""A city's sites and devices: its file checked, its records merged, its partitions packed. No I/O.

The file is what people write (YAML, read by `runtime/yaml_file.py`); the records of `devices.main` are
what services read (`runtime/registry.py`).
"""

import ipaddress
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar
from urllib.parse import urlsplit

import msgspec

from services.contracts.device import CameraStream, Device, DeviceKind, Record
from services.contracts.site import Name, Site
from services.contracts.units import Identifier, StreamName
from services.runtime import yaml_file
from services.runtime.registry import RecordTable
from services.runtime.settings import SECRET_REF
from services.runtime.yaml_file import Located

T = TypeVar("T")

SITE_KEY: Final = "site/"
BITRATE_BPS_MIN: Final = 10_000
BITRATE_BPS_MAX: Final = 400_000_000
HEARTBEAT_S_MAX: Final = 7 * 86_400
SCHEMES: Final = ("rtsp", "rtsps")
# What one device without pictures counts when partitions are packed, so that bells spread too.
_SMALL_BPS: Final = 1_000
_OTHER_UNITS: Final[Mapping[str, str]] = {
    "bitrate_kbps": "bitrate_bps (bits per second)", "bitrate_mbps": "bitrate_bps (bits per second)",
    "bitrate": "bitrate_bps (bits per second)", "heartbeat_ms": "heartbeat_s (seconds)",
    "heartbeat_min": "heartbeat_s (seconds)", "heartbeat": "heartbeat_s (seconds)", "longitude": "lon (degrees)",
    "latitude": "lat (degrees)", "username": "secret_ref", "password": "secret_ref", "token": "secret_ref",
}  # fmt: skip


class SiteEntry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A site as a city writes it."""

    site_id: Identifier
    name: Name
    jurisdiction: str
    police_station: str
    lon: float
    lat: float
    address: str = ""
    topology_root: str = ""


class StreamEntry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A stream as a city writes it."""

    name: StreamName
    url: str
    bitrate_bps: int
    tls_fingerprint: str | None = None


class DeviceEntry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A device as a city writes it; place and jurisdiction are its site's where they are not given."""

    device_id: Identifier
    kind: DeviceKind
    site_id: Identifier
    jurisdiction: str | None = None
    lon: float | None = None
    lat: float | None = None
    pole_id: str = ""
    hjdong_code: str = ""
    upstream: tuple[str, ...] = ()
    enabled: bool = True
    secret_ref: str | None = None
    install_purpose: str = "crime_prevention"
    retention_class: str = "standard"
    heartbeat_s: int | None = None
    momentary: bool = True
    streams: tuple[StreamEntry, ...] = ()
    record: Record = "main"
    basic_without_tls: bool = False
    ptz: bool = False
    sees: tuple[Identifier, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Registry:
    """What is known of a city. `merged` makes the next one; nothing here changes."""

    sites: Mapping[str, Site] = field(default_factory=dict)
    devices: Mapping[str, Device] = field(default_factory=dict)

    def site_of(self, device: Device) -> Site:
        """Return a device's site; one whose record has not come yet is made up from the device."""
        return self.sites.get(device.site_id) or Site(
            site_id=device.site_id,
            name=Name(ko=device.site_id, en=device.site_id),
            jurisdiction=device.jurisdiction,
            police_station="",
            lon=device.lon,
            lat=device.lat,
        )

    def cameras(self) -> list[Device]:
        """Return the cameras that are to be recorded, by id."""
        return [
            device
            for _, device in sorted(self.devices.items())
            if device.kind == "camera" and device.enabled and device.streams
        ]


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What is different between two registries, for cameras that are to be recorded."""

    added: tuple[Device, ...]
    removed: tuple[str, ...]
    changed: tuple[Device, ...]


def difference(before: Registry, after: Registry) -> Change:
    """Return what changed; a new revision with the same words changes nothing."""
    old = {device.device_id: device for device in before.cameras()}
    new = {device.device_id: device for device in after.cameras()}
    return Change(
        added=tuple(device for key, device in new.items() if key not in old),
        removed=tuple(key for key in old if key not in new),
        changed=tuple(device for key, device in new.items() if key in old and not same_words(device, old[key])),
    )


def same_words(one: Device | Site, other: Device | Site) -> bool:
    """Tell whether two records say the same, whatever their revision."""
    return msgspec.structs.replace(one, revision=0) == msgspec.structs.replace(other, revision=0)


def merged(table: RecordTable) -> Registry:
    """Return what the records of the registry topic say together."""
    return Registry(sites=table.sites(), devices=table.devices())


def site_key(site_id: str) -> str:
    """Return the record key of a site, apart from all device ids."""
    return f"{SITE_KEY}{site_id}"


def read_file(located: Located) -> Registry:
    """Return the sites and devices of a city's file, each checked.

    Raises:
        SettingsError: names file, line, key and cure.
    """
    _known_keys(located, ("sites", "devices"))
    sites: dict[str, Site] = {}
    for entry in located.entries("sites"):
        site = _site(entry)
        if site.site_id in sites:
            raise entry.error(f"a second site {site.site_id!r}: give it another id", "site_id")
        sites[site.site_id] = site
    devices: dict[str, Device] = {}
    for entry in located.entries("devices"):
        device = _device(entry, sites)
        if device.device_id in devices:
            raise entry.error(f"a second device {device.device_id!r}: give it another id", "device_id")
        devices[device.device_id] = device
    if not sites and not devices:
        raise located.error(
            "the file names no site and no device; a registry is never emptied whole, for the file may be cut short: "
            "write the sites and devices that are to stay"
        )
    _check_sees(located, devices)
    return Registry(sites=sites, devices=devices)


def bitrate_bps(device: Device) -> int:
    """Return what a device weighs when partitions are packed."""
    wanted = ("main", "sub") if device.record == "both" else (device.record,)
    return sum(stream.bitrate_bps for stream in device.streams if stream.name in wanted) or _SMALL_BPS


def pack(devices: Iterable[Device], placed: Mapping[str, int], partitions: int) -> dict[str, int]:
    """Return a partition for each device: where it stands already, else the least loaded, largest first.

    A partition in `placed` is kept: a move makes another process take the camera over.
    """
    load_bps = [0] * partitions
    chosen: dict[str, int] = {}
    new: list[Device] = []
    for device in devices:
        at = placed.get(device.device_id)
        if at is None:
            new.append(device)
        else:
            chosen[device.device_id] = at
            load_bps[at] += bitrate_bps(device)
    for device in sorted(new, key=lambda one: (-bitrate_bps(one), one.device_id)):
        at = min(range(partitions), key=lambda part: (load_bps[part], part))
        chosen[device.device_id] = at
        load_bps[at] += bitrate_bps(device)
    return chosen


def url_error(url: str) -> str | None:
    """Return what is wrong with a stream's URL and the cure, or None. Never repeats the URL."""
    # Anything before the last @ of the authority is user info, also where it is written badly (operations.md 7.5).
    if "@" in url.partition("?")[0]:
        return "a URL must hold no user name and no password: put them into a secret and name it in secret_ref"
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return "not a URL: write rtsp://host:port/path"
    if parts.scheme not in SCHEMES:
        return f"the scheme must be one of {', '.join(SCHEMES)}"
    if not parts.hostname or port == 0:
        return "the URL names no host, or port 0: write rtsp://host:port/path"
    return None


def within(address: str, networks: Sequence[ipaddress.IPv4Network | ipaddress.IPv6Network]) -> bool:
    """Tell whether a resolved address may be connected to; IPv4 inside IPv6 is looked at as IPv4."""
    try:
        ip = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    if isinstance(ip, ipaddress.IPv6Address) and ip.ipv4_mapped is not None:
        ip = ip.ipv4_mapped
    if ip.is_link_local or ip.is_multicast or ip.is_unspecified:
        return False
    return any(ip.version == network.version and ip in network for network in networks)


def _site(entry: Located) -> Site:
    written = _convert(entry, SiteEntry)
    _check_place(entry, written.lon, written.lat)
    return Site(**msgspec.structs.asdict(written))


def _device(entry: Located, sites: Mapping[str, Site]) -> Device:
    written = _convert(entry, DeviceEntry)
    site = sites.get(written.site_id)
    if site is None:
        raise entry.error(f"no site {written.site_id!r} in this file: add it under 'sites'", "site_id")
    _check_place(entry, written.lon, written.lat)
    if written.secret_ref is not None and SECRET_REF.fullmatch(written.secret_ref) is None:
        raise entry.error("names a file in the secrets directory: lower case, digits, '.', '_', '-'", "secret_ref")
    if written.heartbeat_s is not None and not 1 <= written.heartbeat_s <= HEARTBEAT_S_MAX:
        raise entry.error(f"must be 1 to {HEARTBEAT_S_MAX}; the unit is seconds", "heartbeat_s")
    values: dict[str, Any] = msgspec.structs.asdict(written)
    values["jurisdiction"] = written.jurisdiction if written.jurisdiction is not None else site.jurisdiction
    values["lon"] = site.lon if written.lon is None else written.lon
    values["lat"] = site.lat if written.lat is None else written.lat
    values["streams"] = _streams(entry, written)
    return Device(**values)


def _streams(entry: Located, written: DeviceEntry) -> tuple[CameraStream, ...]:
    if written.kind != "camera":
        if written.streams:
            raise entry.error(f"a {written.kind} has no streams: remove them, or make it a camera", "streams")
        return ()
    if not written.streams:
        raise entry.error("a camera needs at least one stream: name, url, bitrate_bps", "streams")
    for index, stream in enumerate(written.streams):
        if (wrong := url_error(stream.url)) is not None:
            raise entry.error(wrong, "streams", index, "url")
        if not BITRATE_BPS_MIN <= stream.bitrate_bps <= BITRATE_BPS_MAX:
            raise entry.error("the unit is bits per second: 2 Mbps is 2000000", "streams", index, "bitrate_bps")
    names = [stream.name for stream in written.streams]
    if len(set(names)) != len(names):
        raise entry.error("two streams of one name", "streams")
    wanted = {"main", "sub"} if written.record == "both" else {written.record}
    if not wanted <= set(names):
        raise entry.error(f"record: {written.record} needs a stream of that name", "record")
    return tuple(CameraStream(**msgspec.structs.asdict(stream)) for stream in written.streams)


def _check_place(entry: Located, lon: float | None, lat: float | None) -> None:
    if lon is not None and not -180 <= lon <= 180:
        raise entry.error("must be -180 to 180 degrees east", "lon")
    if lat is not None and not -90 <= lat <= 90:
        raise entry.error("must be -90 to 90 degrees north; were lon and lat exchanged?", "lat")


def _check_sees(located: Located, devices: Mapping[str, Device]) -> None:
    for entry, device in zip(located.entries("devices"), devices.values(), strict=True):
        for index, seen in enumerate(device.sees):
            if seen not in devices:
                raise entry.error(f"no device {seen!r} in this file", "sees", index)


def _convert(entry: Located, into: type[T]) -> T:
    """Convert an entry; a key in another unit is told the right one, which no spelling check finds."""
    for where, key in _keys(entry.value, ()):
        if key in _OTHER_UNITS:
            raise entry.error(f"unknown key: use {_OTHER_UNITS[key]}", *where, key)
    return yaml_file.convert(entry, into)


def _keys(value: object, where: tuple[str | int, ...]) -> Iterator[tuple[tuple[str | int, ...], str]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield where, key
            yield from _keys(inner, (*where, key))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from _keys(inner, (*where, index))


def _known_keys(located: Located, known: Sequence[str]) -> None:
    keys = located.value if isinstance(located.value, dict) else {}
    for key in keys:
        if key not in known:
            raise located.error(f"unknown key: {yaml_file.nearest(key, known)}", key)
