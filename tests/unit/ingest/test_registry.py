"""A city's file is refused with file, line, key and cure, or understood; partitions are packed by bitrate."""

import ipaddress
from pathlib import Path

import msgspec
import pytest

from services.contracts.device import CameraStream, Device
from services.ingest import registry
from services.ingest.registry import Registry, difference, merged, pack, read_file, within
from services.runtime.errors import SettingsError
from services.runtime.registry import RecordTable, Standing
from services.runtime.yaml_file import parse

CITY = """\
sites:
  - site_id: mapo-01
    name: {ko: 마포 1, en: Mapo 1}
    jurisdiction: mapo
    police_station: mapo
    lon: 126.91
    lat: 37.55
devices:
  - device_id: cam-1
    kind: camera
    site_id: mapo-01
    secret_ref: cam-1
    streams:
      - name: main
        url: rtsp://10.0.0.9:554/main
        bitrate_bps: 2000000
  - device_id: bell-1
    kind: bell
    site_id: mapo-01
    lon: 126.9101
    lat: 37.5501
    heartbeat_s: 60
"""


STREAMS = CITY[CITY.index("    streams:") : CITY.index("  - device_id: bell-1")]


def read(text: str) -> Registry:
    return read_file(parse(text, Path("city.yaml")))


def test_a_whole_city_is_read_and_devices_stand_where_their_site_stands() -> None:
    city = read(CITY)

    assert set(city.sites) == {"mapo-01"}
    assert set(city.devices) == {"cam-1", "bell-1"}
    assert (city.devices["cam-1"].jurisdiction, city.devices["cam-1"].lon) == ("mapo", 126.91)
    assert city.devices["bell-1"].lon == 126.9101
    assert [camera.device_id for camera in city.cameras()] == ["cam-1"]


def test_an_empty_file_is_refused_and_not_an_empty_city() -> None:
    with pytest.raises(SettingsError, match=r"city\.yaml:1: the file names no site and no device; a registry is never"):
        read("")


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        pytest.param("kind: bell", "kind: bel", "city.yaml:18: devices[1].kind: must be one of", id="a wrong kind"),
        pytest.param("device_id: bell-1", "device_id: Bell 1", "17: devices[1].device_id: must be lower-case letters,",
                     id="an id in capitals"),
        pytest.param("heartbeat_s", "hartbeat_s", "city.yaml:22: devices[1].hartbeat_s: unknown key", id="a typo"),
        pytest.param("heartbeat_s: 60", "heartbeat_ms: 60", "22: devices[1].heartbeat_ms: unknown key: use heartbeat_s",
                     id="another unit"),
        pytest.param("bitrate_bps: 2000000", "bitrate_kbps: 2000", "use bitrate_bps (bits", id="kilobits"),
        pytest.param("bitrate_bps: 2000000", "bitrate_bps: 2000", "16: devices[0].streams[0].bitrate_bps: the unit is",
                     id="a figure in kilobits"),
        pytest.param("bitrate_bps: 2000000", "bitrate_bps: 2 Mbps", "devices[0].streams[0].bitrate_bps", id="text"),
        pytest.param("heartbeat_s: 60", "heartbeat_s: 60000000", "the unit is seconds", id="microseconds"),
        pytest.param("device_id: bell-1", "device_id: cam-1", "city.yaml:17: devices[1].device_id: a second device",
                     id="a duplicate id"),
        pytest.param("    site_id: mapo-01\n    lon", "    site_id: mapo-02\n    lon",
                     "19: devices[1].site_id: no site", id="an unknown site"),
        pytest.param("lon: 126.9101", "lon: 226.9", "20: devices[1].lon: must be -180 to 180", id="a bad longitude"),
        pytest.param("lat: 37.5501", "lat: 126.9", "exchanged", id="lon and lat exchanged"),
        pytest.param("secret_ref: cam-1", "secret_ref: ../cam-1", "secret_ref: names a file", id="a path as secret"),
        pytest.param("rtsp://10.0.0.9", "rtsp://u:canary@10.0.0.9", "15: devices[0].streams[0].url: a URL must hold no",
                     id="user info in a URL"),
        pytest.param("rtsp://10.0.0.9:554/main", "rtsp://u:a/b@h/x", "no user name", id="a slash in a password"),
        pytest.param("rtsp://10.0.0.9:554/main", "file:///etc/passwd", "the scheme must be", id="another scheme"),
        pytest.param("rtsp://10.0.0.9:554/main", "rtsp://h:99999/", "not a URL", id="a port that is none"),
        pytest.param("name: main", "name: sub", "record: record: main needs", id="nothing to record"),
        pytest.param(STREAMS, "", "9: devices[0].streams: a camera needs at least one stream", id="no stream"),
        pytest.param("kind: camera", "kind: light", "a light has no streams", id="a light with a stream"),
        pytest.param("secret_ref: cam-1", "sees: [nobody]", "no device 'nobody'", id="it sees nobody"),
        pytest.param("secret_ref: cam-1", "password: canary", "unknown key: use secret_ref", id="a password"),
        pytest.param("devices:", "device:", "device: unknown key: did you mean 'devices'?", id="a wrong top key"),
    ],
)  # fmt: skip
def test_a_mistake_is_told_with_file_line_key_and_cure(old: str, new: str, says: str) -> None:
    assert old in CITY
    with pytest.raises(SettingsError) as error:
        read(CITY.replace(old, new))

    assert says in str(error.value)
    assert "canary" not in str(error.value)


def with_bitrate(device: Device, name: str, bps: int) -> Device:
    stream = CameraStream(name="main", url="rtsp://10.0.0.9/x", bitrate_bps=bps)
    return msgspec.structs.replace(device, device_id=name, streams=(stream,))


def test_the_largest_camera_goes_first_into_the_least_loaded_partition(registered_camera: Device) -> None:
    devices = [with_bitrate(registered_camera, f"cam-{bps}", bps * 1_000_000) for bps in (1, 2, 3, 4)]

    assert pack(devices, {}, 2) == {"cam-4": 0, "cam-3": 1, "cam-2": 1, "cam-1": 0}


def test_a_camera_that_stands_somewhere_stays_there(registered_camera: Device) -> None:
    devices = [with_bitrate(registered_camera, name, 2_000_000) for name in ("cam-1", "cam-2")]

    assert pack(devices, {"cam-1": 5}, 8) == {"cam-1": 5, "cam-2": 0}


def test_of_a_device_in_two_partitions_the_higher_revision_holds(registered_camera: Device) -> None:
    table = RecordTable()
    table.apply(
        Standing(key="cam", partition=3, body=msgspec.structs.replace(registered_camera, revision=2, pole_id="new"))
    )
    table.apply(
        Standing(key="cam", partition=1, body=msgspec.structs.replace(registered_camera, revision=1, pole_id="old"))
    )
    assert merged(table).devices[registered_camera.device_id].pole_id == "new"

    table.apply(Standing(key="cam", partition=1, body=None))
    assert merged(table).devices[registered_camera.device_id].pole_id == "new"
    table.apply(Standing(key="cam", partition=3, body=None))
    assert merged(table) == Registry()


def test_only_what_changed_is_named(registered_camera: Device) -> None:
    kept, moved, gone, new = (
        with_bitrate(registered_camera, name, 2_000_000) for name in ("kept", "moved", "gone", "new")
    )
    before = Registry(devices={device.device_id: device for device in (kept, moved, gone)})
    after_kept = msgspec.structs.replace(kept, revision=7)
    after_moved = with_bitrate(registered_camera, "moved", 4_000_000)
    after = Registry(devices={device.device_id: device for device in (after_kept, after_moved, new)})

    change = difference(before, after)

    assert (change.added, change.removed, change.changed) == ((new,), ("gone",), (after_moved,))


def test_a_camera_that_is_switched_off_is_removed_from_recording(registered_camera: Device) -> None:
    off = msgspec.structs.replace(registered_camera, enabled=False)

    change = difference(Registry(devices={"c": registered_camera}), Registry(devices={"c": off}))

    assert change.removed == (registered_camera.device_id,)


@pytest.mark.parametrize(
    ("address", "allowed"),
    [
        ("10.1.2.3", True),
        ("127.0.0.1", True),
        ("::ffff:10.1.2.3", True),
        ("::1", False),
        ("8.8.8.8", False),
        ("169.254.169.254", False),
        ("fe80::1%eth0", False),
        ("0.0.0.0", False),
        ("224.0.0.1", False),
        ("not an address", False),
    ],
)
def test_only_listed_networks_may_be_connected_to(address: str, allowed: bool) -> None:
    networks = [ipaddress.ip_network(text) for text in ("10.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "0.0.0.0/8")]

    assert within(address, networks) is allowed


def test_a_url_with_user_info_is_never_repeated() -> None:
    assert "canary" not in (registry.url_error("rtsp://u:canary@h/x") or "")
