"""The city of the demo: two Safe Alleys with cameras, bells and lights, as the file a city would write. No I/O."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from services.contracts.device import Device
from services.contracts.site import Site
from services.onebox.endpoints import Source

JURISDICTION: Final = "demo"
"""A local government that does not exist: what a demo registered is known by it, on whatever Kafka it stands."""
CAMERA_REF: Final = "demo-cameras"
OWN_CAMERA_REF: Final = "own-camera"
CLIP_CAMERA: Final = "cam-clip"
OWN_CAMERA: Final = "cam-own"
BITRATE_BPS: Final = 2_000_000

_SITES: Final = (
    ("mangwon", "망원 안심골목", "Mangwon Safe Alley", "서울 마포구 망원로7길 12", 126.90230, 37.55610),
    ("yeonnam", "연남 안심골목", "Yeonnam Safe Alley", "서울 마포구 연남로1길 30", 126.92310, 37.56270),
)
# About 25 m north and east of a site's middle, in degrees at this latitude.
_STEP_LAT: Final = 0.000225
_STEP_LON: Final = 0.000283


@dataclass(frozen=True, slots=True, kw_only=True)
class CameraOfDemo:
    """A camera to register: where its stream is, and what is behind it."""

    device_id: str
    url: str
    source: Source
    secret_ref: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoCity:
    """A registry document, and which devices need a token."""

    document: Mapping[str, Any]
    sources: Mapping[str, Source]
    devices: Sequence[Mapping[str, str]]


def demo_city(cameras: Sequence[CameraOfDemo]) -> DemoCity:
    """Return the city: cameras go to the two sites in turn, each site has a bell and a light."""
    sites = [
        {
            "site_id": site_id,
            "name": {"ko": ko, "en": en},
            "jurisdiction": JURISDICTION,
            "police_station": "Mapo",
            "lon": lon,
            "lat": lat,
            "address": address,
            "topology_root": f"ring-{site_id}",
        }
        for site_id, ko, en, address, lon, lat in _SITES
    ]
    small = [_small(kind, number) for number in range(len(_SITES)) for kind in ("bell", "light")]
    large = [_camera(camera, index) for index, camera in enumerate(cameras)]
    return DemoCity(
        document={"sites": sites, "devices": [*small, *large]},
        sources={camera.device_id: camera.source for camera in cameras},
        devices=[{name: device[name] for name in ("device_id", "kind", "secret_ref")} for device in small],
    )


def not_of_a_demo(standing: Iterable[Device | Site]) -> list[str]:
    """Return the ids of what somebody else registered."""
    return sorted(
        body.device_id if isinstance(body, Device) else body.site_id
        for body in standing
        if body.jurisdiction != JURISDICTION
    )


def _small(kind: str, number: int) -> dict[str, Any]:
    site_id, _, _, _, lon, lat = _SITES[number]
    device_id = f"{kind}-{number + 1}"
    return {
        "device_id": device_id,
        "kind": kind,
        "site_id": site_id,
        "lon": lon,
        "lat": lat,
        "pole_id": f"pole-{site_id}",
        "upstream": [f"pole-{site_id}", f"switch-{site_id}", f"ring-{site_id}"],
        "secret_ref": device_id,
        "heartbeat_s": 60,
    }


def _camera(camera: CameraOfDemo, index: int) -> dict[str, Any]:
    site_id, _, _, _, lon, lat = _SITES[index % len(_SITES)]
    place = index // len(_SITES)
    device: dict[str, Any] = {
        "device_id": camera.device_id,
        "kind": "camera",
        "site_id": site_id,
        "lon": round(lon + _STEP_LON * (place % 3), 6),
        "lat": round(lat + _STEP_LAT * (1 + place // 3), 6),
        "upstream": [f"pole-{site_id}", f"switch-{site_id}", f"ring-{site_id}"],
        "streams": [{"name": "main", "url": camera.url, "bitrate_bps": BITRATE_BPS}],
        "sees": [f"bell-{index % len(_SITES) + 1}"],
    }
    if camera.secret_ref is not None:
        device["secret_ref"] = camera.secret_ref
    return device
