"""A demo puts its own city into an empty registry or in place of another demo's, and touches no real one."""

from pathlib import Path

import msgspec
import pytest

from services.contracts.topics import AUDIT, DEVICES
from services.ingest import registry_writer
from services.onebox import lock
from services.onebox.demo import DemoWanted, demo_box, register_city
from services.onebox.demo_city import CameraOfDemo, demo_city
from services.onebox.layout import Layout
from services.runtime.clock import FakeClock
from services.runtime.errors import SettingsError
from services.runtime.kafka_port import TopicSpec
from services.runtime.memory_kafka import MemoryKafka

SITE = "{site_id: s1, name: {ko: 마포, en: Mapo}, jurisdiction: '11440', police_station: mapo, lon: 126.9, lat: 37.5}"
BELL = "{device_id: bell-1, kind: bell, site_id: s1, secret_ref: bell-1}"


@pytest.fixture
async def kafka() -> MemoryKafka:
    kafka = MemoryKafka(clock=FakeClock())
    await kafka.create_topics([TopicSpec(name=topic.name, partitions=8, settings={}) for topic in (DEVICES, AUDIT)])
    return kafka


def demo_file(folder: Path, *, cameras: int) -> Path:
    names = [f"cam-{number}" for number in range(1, cameras + 1)]
    made = demo_city(
        [CameraOfDemo(device_id=n, url=f"rtsp://127.0.0.1/{n}", source="simulated", secret_ref=None) for n in names]
    )
    file = folder / "registry.yaml"
    file.write_bytes(msgspec.json.encode(made.document))
    return file


async def registered(kafka: MemoryKafka) -> set[str]:
    return set((await registry_writer.read_table(kafka, DEVICES.name)).keys())


async def test_a_demo_takes_out_what_an_earlier_one_had_beside_it(kafka: MemoryKafka, tmp_path: Path) -> None:
    await register_city(demo_file(tmp_path, cameras=3), kafka, clock=FakeClock())
    assert "cam-3" in await registered(kafka)
    await register_city(demo_file(tmp_path, cameras=2), kafka, clock=FakeClock())
    assert {"cam-1", "cam-2", "bell-1", "site/mangwon"} <= await registered(kafka)
    assert "cam-3" not in await registered(kafka)


@pytest.mark.parametrize("devices", [f"[{BELL}]", "[]"], ids=["a bell with the id of a demo's", "a site alone"])
async def test_a_demo_refuses_a_registry_that_somebody_else_wrote(
    kafka: MemoryKafka, tmp_path: Path, devices: str
) -> None:
    city = tmp_path / "city.yaml"
    city.write_text(f"sites: [{SITE}]\ndevices: {devices}\n")
    await registry_writer.apply(city, kafka, clock=FakeClock())
    before = kafka.records(DEVICES.name)
    with pytest.raises(SettingsError, match=r"real city \(.*s1\).*cure: .*another --data"):
        await register_city(demo_file(tmp_path, cameras=2), kafka, clock=FakeClock())
    assert kafka.records(DEVICES.name) == before


async def test_a_device_that_was_added_to_a_demo_by_hand_is_not_taken_out(kafka: MemoryKafka, tmp_path: Path) -> None:
    file = demo_file(tmp_path, cameras=2)
    await register_city(file, kafka, clock=FakeClock())
    city = tmp_path / "city.yaml"
    city.write_text(f"sites: [{SITE}]\ndevices: []\n")
    await registry_writer.apply(city, kafka, clock=FakeClock())
    with pytest.raises(SettingsError, match=r"real city \(s1\)"):
        await register_city(file, kafka, clock=FakeClock())
    assert "site/s1" in await registered(kafka)


def test_a_second_demo_on_the_directory_names_the_first_and_not_its_ports(tmp_path: Path) -> None:
    with lock.take(Layout(tmp_path).lock), pytest.raises(SettingsError, match=r"a box runs on .* already.*cure: "):
        demo_box(tmp_path, DemoWanted(cameras=1), kafka=None, ports="default", clock=FakeClock(), say=print)
