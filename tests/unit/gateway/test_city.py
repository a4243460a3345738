"""What the registry and the stream states add up to for one person."""

import json
from pathlib import Path

import pytest

from services.contracts.errors import ContractError
from services.gateway.city import City
from services.runtime.identity import Caller
from services.runtime.kafka_port import Record
from services.runtime.registry import RecordTable, read_record

EXAMPLES = Path(__file__).parents[3] / "services/contracts/examples"
KIM = Caller(account="op-kim", role="operator", jurisdictions=("11440",))
STRANGER = Caller(account="op-lee", role="operator", jurisdictions=("26110",))


def record(name: str, *, partition: int = 0, tombstone: bool = False) -> Record:
    document = json.loads((EXAMPLES / f"{name}.json").read_text())
    return Record(
        topic=name.split("/", maxsplit=1)[0],
        partition=partition,
        offset=0,
        timestamp_ms=1,
        key=document["key"],
        value=None if tombstone else json.dumps(document["body"]).encode(),
        headers=tuple((key, value.encode()) for key, value in document["headers"].items()),
    )


async def standing(*records: Record) -> City:
    table, city = RecordTable(), City()
    for one in records:
        found = read_record(one)
        assert found is not None
        table.apply(found)
    await city.stand(table)
    return city


async def test_a_person_sees_the_devices_of_the_own_jurisdiction_without_address_or_secret() -> None:
    city = await standing(record("devices/v1/site"), record("devices/v1/camera"))

    (camera,) = city.view(KIM).devices

    assert (camera.device_id, camera.streams) == ("cam-mangwon-1", ("main",))
    assert not {"url", "secret_ref"} & set(camera.__struct_fields__)
    assert (city.view(STRANGER).devices, city.view(STRANGER).sites) == ((), ())


async def test_a_device_that_moved_stays_when_its_old_partition_lets_it_go() -> None:
    moved = (record("devices/v1/camera"), record("devices/v1/camera", partition=1))

    city = await standing(*moved, record("devices/v1/camera", partition=0, tombstone=True))

    assert city.camera(KIM, "cam-mangwon-1") is not None


async def test_a_camera_shows_what_its_stream_does() -> None:
    city = await standing(record("devices/v1/camera"))

    city.apply(record("streams/v1/recording"))
    city.apply(record("streams/v1/gap-opened"))

    (camera,) = city.view(KIM).devices
    assert (camera.state, camera.codec) == ("recording", "avc1.640028")


def test_a_record_that_is_no_stream_state_is_refused() -> None:
    with pytest.raises(ContractError):
        City().apply(record("refused/streams/unknown-cause"))
