"""Which cameras saw it: those within 500 m, those that look at the device first. Pure: no I/O.

Archive pins the ranges. Alerting decides without a registry too, then with no camera named.
"""

import math
from collections import defaultdict
from dataclasses import dataclass
from typing import Final

from services.contracts.alarm import AlarmClass, DeviceAtReceipt
from services.contracts.alert import Evidence
from services.contracts.device import Device

EARTH_RADIUS_M: Final = 6_371_008.8
WITHOUT_PICTURES: Final[frozenset[AlarmClass]] = frozenset({"health"})
# A cell is 556 m high and, up to 60 degrees of latitude, at least 556 m wide, so that all cameras
# within 500 m stand in the cell of the device or in one of its eight neighbours.
_CELL_LAT_DEGREES: Final = 0.005
_CELL_LON_DEGREES: Final = 0.01


@dataclass(frozen=True, slots=True, kw_only=True)
class Reach:
    """How far and how long evidence reaches; the defaults are the 112 video service's and archive's pin."""

    radius_m: float = 500.0
    before_us: int = 30_000_000
    after_us: int = 300_000_000
    cameras_max: int = 16


class Cameras:
    """The cameras of the registry by place. Holds one entry per camera, at most `cameras` of the city."""

    def __init__(self) -> None:
        self._by_id: dict[str, Device] = {}
        self._cells: defaultdict[tuple[int, int], set[str]] = defaultdict(set)

    def __len__(self) -> int:
        return len(self._by_id)

    def put(self, device: Device) -> None:
        """Take a device as registered; anything but a working camera takes it out."""
        self.remove(device.device_id)
        if device.kind == "camera" and device.enabled:
            self._by_id[device.device_id] = device
            self._cells[_cell(device.lat, device.lon)].add(device.device_id)

    def remove(self, device_id: str) -> None:
        before = self._by_id.pop(device_id, None)
        if before is not None:
            self._cells[_cell(before.lat, before.lon)].discard(device_id)

    def nearest(self, device: DeviceAtReceipt, reach: Reach) -> list[tuple[Device, float]]:
        """Return cameras and their distance in metres: the device itself, those that see it, then by distance."""
        near = [
            (camera, distance)
            for camera in self._around(device)
            if (distance := distance_m(device.lat, device.lon, camera.lat, camera.lon)) <= reach.radius_m
        ]
        near.sort(key=lambda one: (*_prefer(one[0], device), one[1], one[0].device_id))
        return near[: reach.cameras_max]

    def _around(self, device: DeviceAtReceipt) -> list[Device]:
        row, column = _cell(device.lat, device.lon)
        return [
            self._by_id[camera_id]
            for r in (row - 1, row, row + 1)
            for c in (column - 1, column, column + 1)
            for camera_id in self._cells.get((r, c), ())
        ]


def evidence(
    cameras: Cameras, reach: Reach, alarm_class: AlarmClass, device: DeviceAtReceipt, at_us: int
) -> tuple[Evidence, ...]:
    """Return the ranges that belong to an alarm; a fault of a device needs no pictures."""
    if alarm_class in WITHOUT_PICTURES:
        return ()
    return tuple(
        Evidence(camera_id=camera.device_id, rank=rank, distance_m=round(distance, 1),
                 from_us=max(0, at_us - reach.before_us), to_us=at_us + reach.after_us)
        for rank, (camera, distance) in enumerate(cameras.nearest(device, reach), start=1)
    )  # fmt: skip


def extended(held: tuple[Evidence, ...], at_us: int, reach: Reach) -> tuple[Evidence, ...]:
    """Return the ranges of an alert that another alarm has joined."""
    to_us = at_us + reach.after_us
    return tuple(
        one
        if one.to_us >= to_us
        else Evidence(
            camera_id=one.camera_id, rank=one.rank, distance_m=one.distance_m, from_us=one.from_us, to_us=to_us
        )
        for one in held
    )


def distance_m(lat_a: float, lon_a: float, lat_b: float, lon_b: float) -> float:
    """Return the great-circle distance (haversine) of two points given in degrees."""
    phi_a, phi_b = math.radians(lat_a), math.radians(lat_b)
    half_phi = (phi_b - phi_a) / 2
    half_lambda = math.radians(lon_b - lon_a) / 2
    h = math.sin(half_phi) ** 2 + math.cos(phi_a) * math.cos(phi_b) * math.sin(half_lambda) ** 2
    return 2 * EARTH_RADIUS_M * math.asin(min(1.0, math.sqrt(h)))


def _prefer(camera: Device, device: DeviceAtReceipt) -> tuple[bool, bool]:
    return camera.device_id != device.device_id, device.device_id not in camera.sees


def _cell(lat: float, lon: float) -> tuple[int, int]:
    return math.floor(lat / _CELL_LAT_DEGREES), math.floor(lon / _CELL_LON_DEGREES)
