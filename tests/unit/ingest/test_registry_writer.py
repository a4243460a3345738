"""`devices apply` writes what changed, once, where it belongs, and never removes unasked."""

import asyncio
from pathlib import Path

import pytest

from services.contracts import codec
from services.contracts.audit import Access
from services.contracts.device import Device
from services.contracts.topics import AUDIT, DEVICES
from services.ingest import registry_writer
from services.ingest.registry import merged
from services.ingest.registry_reader import RegistryReader
from services.ingest.registry_writer import apply, read_table, validate_file
from services.runtime.clock import FakeClock, settle
from services.runtime.errors import RetryLater, SettingsError
from services.runtime.kafka_port import TopicSpec
from services.runtime.memory_kafka import MemoryKafka

CITY = """\
sites:
  - {site_id: s1, name: {ko: 마포, en: Mapo}, jurisdiction: mapo, police_station: mapo, lon: 126.9, lat: 37.5}
devices:
  - device_id: cam-1
    kind: camera
    site_id: s1
    streams: [{name: main, url: "rtsp://10.0.0.1/x", bitrate_bps: 2000000}]
  - device_id: cam-2
    kind: camera
    site_id: s1
    streams: [{name: main, url: "rtsp://10.0.0.2/x", bitrate_bps: 2000000}]
"""


@pytest.fixture
async def kafka(clock: FakeClock) -> MemoryKafka:
    kafka = MemoryKafka(clock=clock)
    await kafka.create_topics([TopicSpec(name=topic.name, partitions=8, settings={}) for topic in (DEVICES, AUDIT)])
    return kafka


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "city.yaml"
    path.write_text(CITY)
    return path


def rewrite(file: Path, text: str) -> None:
    file.write_text(text)


async def test_a_new_city_is_written_whole_and_spread_over_partitions(
    file: Path, kafka: MemoryKafka, clock: FakeClock
) -> None:
    outcome = await apply(file, kafka, clock=clock)

    assert [(step.key, step.what) for step in outcome.steps] == [
        ("site/s1", "added"), ("cam-1", "added"), ("cam-2", "added"),
    ]  # fmt: skip
    table = await read_table(kafka, DEVICES.name)
    assert len({part for key in ("cam-1", "cam-2") for part in table.partitions_of(key)}) == 2
    assert set(merged(table).devices) == {"cam-1", "cam-2"}


async def test_a_second_run_writes_nothing(file: Path, kafka: MemoryKafka, clock: FakeClock) -> None:
    await apply(file, kafka, clock=clock)
    before = len(kafka.records(DEVICES.name)), len(kafka.records(AUDIT.name))

    outcome = await apply(file, kafka, clock=clock)

    assert (outcome.steps, outcome.unchanged) == ((), 3)
    assert before == (len(kafka.records(DEVICES.name)), len(kafka.records(AUDIT.name)))


async def test_a_changed_device_gets_the_next_revision_in_its_own_partition(
    file: Path, kafka: MemoryKafka, clock: FakeClock
) -> None:
    await apply(file, kafka, clock=clock)
    at = (await read_table(kafka, DEVICES.name)).partitions_of("cam-2")
    rewrite(file, CITY.replace("10.0.0.2/x", "10.0.0.3/x"))

    outcome = await apply(file, kafka, clock=clock)

    assert [(step.key, step.revision) for step in outcome.steps] == [("cam-2", 2)]
    assert (await read_table(kafka, DEVICES.name)).partitions_of("cam-2") == dict.fromkeys(at, 2)


async def test_a_device_that_left_the_file_stays_until_it_is_pruned(
    file: Path, kafka: MemoryKafka, clock: FakeClock
) -> None:
    await apply(file, kafka, clock=clock)
    rewrite(file, CITY[: CITY.index("  - device_id: cam-2")])

    assert (await apply(file, kafka, clock=clock)).not_in_file == ("cam-2",)
    assert "cam-2" in merged(await read_table(kafka, DEVICES.name)).devices
    outcome = await apply(file, kafka, clock=clock, prune=True)

    assert [(step.key, step.what) for step in outcome.steps] == [("cam-2", "removed")]
    assert "cam-2" not in merged(await read_table(kafka, DEVICES.name)).devices


async def test_what_is_removed_is_counted_apart_from_what_is_written(
    file: Path, kafka: MemoryKafka, clock: FakeClock
) -> None:
    await apply(file, kafka, clock=clock)
    rewrite(file, CITY[: CITY.index("  - device_id: cam-2")])

    outcome = await apply(file, kafka, clock=clock, prune=True, dry_run=True)

    assert registry_writer._lines(outcome)[-1] == "0 would be written, 1 would be removed, 2 unchanged"


async def test_a_file_that_lost_everything_empties_no_city(file: Path, kafka: MemoryKafka, clock: FakeClock) -> None:
    await apply(file, kafka, clock=clock)
    rewrite(file, "sites: []\ndevices: []\n")

    with pytest.raises(SettingsError, match="names no site and no device"):
        await apply(file, kafka, clock=clock, prune=True)

    assert set(merged(await read_table(kafka, DEVICES.name)).devices) == {"cam-1", "cam-2"}


async def test_a_dry_run_writes_nothing(file: Path, kafka: MemoryKafka, clock: FakeClock) -> None:
    outcome = await apply(file, kafka, clock=clock, dry_run=True)

    assert len(outcome.steps) == 3
    assert kafka.records(DEVICES.name) == kafka.records(AUDIT.name) == []


async def test_a_change_is_in_the_audit_log(file: Path, kafka: MemoryKafka, clock: FakeClock) -> None:
    await apply(file, kafka, clock=clock)

    (record,) = kafka.records(AUDIT.name)
    access = codec.decode_event(record.headers, record.value).body
    assert isinstance(access, Access)
    assert (access.action, access.reason) == ("config", "devices apply city.yaml: 3 added, 0 changed, 0 removed")


async def test_a_wrong_file_writes_nothing(file: Path, kafka: MemoryKafka, clock: FakeClock) -> None:
    rewrite(file, CITY.replace("cam-2", "cam-1"))

    with pytest.raises(SettingsError, match="a second device 'cam-1'"):
        await apply(file, kafka, clock=clock)

    assert kafka.records(DEVICES.name) == []


async def test_without_kafka_it_says_try_again(file: Path, kafka: MemoryKafka, clock: FakeClock) -> None:
    kafka.away = True

    with pytest.raises(RetryLater):
        await apply(file, kafka, clock=clock)


def test_validate_tells_what_a_file_holds(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert validate_file(file) == registry_writer.DONE
    assert "1 sites, 2 devices, 2 of them cameras" in capsys.readouterr().out


def test_validate_refuses_with_the_line(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rewrite(file, CITY.replace("kind: camera", "kind: kamera"))

    assert validate_file(file, as_json=True) == registry_writer.REFUSED
    assert "city.yaml:5: devices[0].kind" in capsys.readouterr().err


def test_validate_refuses_an_empty_file(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rewrite(file, "")

    assert validate_file(file) == registry_writer.REFUSED
    assert "city.yaml:1: the file names no site and no device" in capsys.readouterr().err


async def test_ingest_reads_what_was_applied_and_remembers_it_without_kafka(
    file: Path, kafka: MemoryKafka, clock: FakeClock, tmp_path: Path
) -> None:
    await apply(file, kafka, clock=clock)
    snapshot = tmp_path / "state" / "registry.json"
    seen: list[set[str]] = []
    reader = RegistryReader(kafka, pool="main", snapshot=snapshot, clock=clock)
    reader.on_change(lambda registry: seen.append(set(registry.devices)))
    await _until_read(reader)
    assert seen == [{"cam-1", "cam-2"}]
    assert isinstance(reader.current.devices["cam-1"], Device)

    later = RegistryReader(kafka, pool="main", snapshot=snapshot, clock=clock)
    await later.load_snapshot()

    assert later.current == reader.current


async def test_a_wiped_topic_does_not_switch_off_a_known_city(
    file: Path, kafka: MemoryKafka, clock: FakeClock, tmp_path: Path
) -> None:
    await apply(file, kafka, clock=clock)
    reader = RegistryReader(kafka, pool="main", snapshot=tmp_path / "registry.json", clock=clock)
    await _until_read(reader)
    wiped = MemoryKafka(clock=clock)
    await wiped.create_topics([TopicSpec(name=DEVICES.name, partitions=8, settings={})])

    later = RegistryReader(wiped, pool="main", snapshot=tmp_path / "registry.json", clock=clock)
    await later.load_snapshot()
    await _until_read(later)

    assert later.current == reader.current


async def test_a_broken_snapshot_is_an_empty_city(kafka: MemoryKafka, clock: FakeClock, tmp_path: Path) -> None:
    (tmp_path / "registry.json").write_bytes(b"{")
    reader = RegistryReader(kafka, pool="main", snapshot=tmp_path / "registry.json", clock=clock)

    await reader.load_snapshot()

    assert reader.current.devices == {}


async def _until_read(reader: RegistryReader) -> None:
    task = asyncio.create_task(reader.run())
    await asyncio.wait_for(reader.caught_up(), 5)
    await settle()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
