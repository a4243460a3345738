"""Which cameras saw it: within 500 m, those that look at the device first."""

import math
from random import Random
from typing import Any

import pytest

from services.alerting.evidence import Cameras, Reach, distance_m, evidence, extended
from services.contracts.alert import Evidence
from services.contracts.device import Device
from tests.unit.alerting.alarms import NOW_US, S, device

BELL = device()
REACH = Reach()
M_LAT = 1 / 111_195  # one metre in degrees of latitude


def camera(name: str, *, north_m: float = 0.0, east_m: float = 0.0, **fields: Any) -> Device:
    given: dict[str, Any] = {"device_id": name, "kind": "camera", "site_id": "mangwon", "jurisdiction": "11440"}
    lat = BELL.lat + north_m * M_LAT
    lon = BELL.lon + east_m * M_LAT / math.cos(math.radians(BELL.lat))
    return Device(**(given | {"lat": lat, "lon": lon} | fields))


def cameras(*given: Device) -> Cameras:
    made = Cameras()
    for one in given:
        made.put(one)
    return made


def names(made: Cameras, reach: Reach = REACH) -> list[str]:
    return [one.camera_id for one in evidence(made, reach, "bell", BELL, NOW_US)]


def test_cameras_are_those_within_500_m_nearest_first() -> None:
    made = cameras(camera("c", north_m=499), camera("a", east_m=20), camera("b", north_m=-300), camera("d", east_m=501))
    assert names(made) == ["a", "b", "c"]


def test_a_camera_that_looks_at_the_bell_comes_before_nearer_ones() -> None:
    made = cameras(camera("near", north_m=5), camera("sees", north_m=400, sees=("bell-1",)))
    assert names(made) == ["sees", "near"]


def test_the_camera_that_raised_the_alarm_comes_first() -> None:
    made = cameras(camera("bell-1", north_m=0), camera("sees", north_m=1, sees=("bell-1",)))
    assert names(made) == ["bell-1", "sees"]


def test_at_most_so_many_cameras_are_named_and_ties_have_an_order() -> None:
    made = cameras(*(camera(f"c-{number:02}", north_m=10) for number in reversed(range(20))))
    assert names(made) == [f"c-{number:02}" for number in range(16)]


@pytest.mark.parametrize("fields", [{"enabled": False}, {"kind": "light"}], ids=["switched off", "a light"])
def test_what_is_no_working_camera_is_not_named_and_is_taken_out(fields: dict[str, Any]) -> None:
    made = cameras(camera("a"))
    made.put(camera("a", **fields))
    assert (names(made), len(made)) == ([], 0)


def test_a_camera_that_moves_is_found_at_its_new_place_alone() -> None:
    made = cameras(camera("a", north_m=10))
    made.put(camera("a", north_m=5000))
    assert names(made) == []
    made.put(camera("a", north_m=100))
    made.remove("a")
    made.remove("never there")
    assert names(made) == []


@pytest.mark.parametrize("lat", [0.0, 37.5, -33.9, 59.9])
def test_no_camera_within_reach_is_missed_at_any_latitude_of_a_city(lat: float) -> None:
    """Against a search through all of them: the cells must not cut off anyone."""
    random = Random(7)
    here = device(lat=lat)
    made, all_of_them = Cameras(), []
    for number in range(400):
        one = camera(f"c-{number}", lat=lat + random.uniform(-0.01, 0.01), lon=BELL.lon + random.uniform(-0.02, 0.02))
        made.put(one)
        all_of_them.append(one)
    found = {one.device_id for one, _ in made.nearest(here, Reach(cameras_max=400))}
    wanted = {one.device_id for one in all_of_them if distance_m(lat, BELL.lon, one.lat, one.lon) <= REACH.radius_m}
    assert found == wanted
    assert wanted


def test_a_fault_of_a_device_needs_no_pictures() -> None:
    assert evidence(cameras(camera("a")), REACH, "health", BELL, NOW_US) == ()


def test_the_range_begins_half_a_minute_before_and_never_before_1970() -> None:
    (one,) = evidence(cameras(camera("a", north_m=100)), REACH, "bell", BELL, NOW_US)
    assert (one.from_us, one.to_us, one.rank) == (NOW_US - 30 * S, NOW_US + 300 * S, 1)
    assert one.distance_m == pytest.approx(100, abs=0.2)
    assert evidence(cameras(camera("a")), REACH, "bell", BELL, S)[0].from_us == 0


def test_a_range_is_only_ever_extended() -> None:
    held = (Evidence(camera_id="a", rank=1, distance_m=1.0, from_us=0, to_us=NOW_US + 300 * S),)
    assert extended(held, NOW_US - 60 * S, REACH) == held
    assert extended(held, NOW_US + 60 * S, REACH)[0].to_us == NOW_US + 360 * S


@pytest.mark.parametrize(
    ("a", "b", "metres"),
    [((37.5663, 126.9779), (35.1796, 129.0756), 325_000), ((0, 0), (0, 1), 111_195), ((10, 20), (10, 20), 0)],
    ids=["Seoul to Busan", "a degree at the equator", "the same place"],
)
def test_distances_are_great_circles(a: tuple[float, float], b: tuple[float, float], metres: float) -> None:
    assert distance_m(*a, *b) == pytest.approx(metres, rel=0.005)
