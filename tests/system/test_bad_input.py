"""Bad input through the real doors: each is refused with its word and takes nothing else down."""

import asyncio
import json
import socket
import sys
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio

from services.contracts import codec
from services.contracts.alarm import AlarmRaised
from services.contracts.audit import Access
from services.contracts.topics import ALARMS, ALERTS, AUDIT, CLAIMS, DEVICES, OPERATOR_COMMANDS, STREAMS, VIDEO, Topic
from services.onebox.demo import DemoWanted
from services.runtime.kafka_port import Outgoing, ProducerProfile
from tests.system.city import CLOCK, City, wait_until
from tests.system.conftest import run_city

ROOT = Path(__file__).resolve().parents[2]
CLOUD_EVENT = "application/cloudevents+json"
HOUR_US = 3_600_000_000

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(300)]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def city(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[City]:
    async with run_city(tmp_path_factory.mktemp("bad"), DemoWanted(cameras=1)) as running:
        yield running


@pytest_asyncio.fixture(loop_scope="module", autouse=True)
async def goes_on(city: City) -> AsyncIterator[None]:
    """After each: the same processes, and the next press reaches the console."""
    before = city.endpoints().processes
    yield
    async with city.console() as console:
        pressed = await city.bell(0).press()
        assert pressed.accepted
        await wait_until(lambda: pressed.id in console.shown_us, 20, "the next press reaches the console")
    assert city.endpoints().processes == before


def event(device_id: str, **other: Any) -> bytes:
    data = {"condition": {"topic": "tns1:Device/Trigger/DigitalInput", "active": True}}
    whole = {
        "specversion": "1.0", "id": str(uuid.uuid4()), "source": f"/bells/{device_id}", "subject": device_id,
        "type": AlarmRaised.TYPE, "data": data,
    }  # fmt: skip
    return json.dumps(whole | other).encode()


async def post(city: City, token: str, body: bytes) -> tuple[int, str]:
    url = f"{city.addresses.device_door}/api/v1/alarms"
    headers = {"Authorization": f"Bearer {token}", "Content-Type": CLOUD_EVENT}
    async with city.http.post(url, data=body, headers=headers) as answer:
        said = await answer.json()
        assert said["detail"]
        assert token not in json.dumps(said)
        return answer.status, said["error"]


async def test_the_device_door_refuses_each_wrong_post_with_its_own_word(city: City) -> None:
    """A broken or foreign device posts. The operator sees no alert of it; each refusal is counted."""
    bell, other = city.addresses.bells
    counted = await city.metric("ingest", "safealley_ingest_webhook_requests_total")
    refused = [
        await post(city, bell.token, b"[" * 1000),
        await post(city, bell.token, b'{"specversion": "1.0", '),
        await post(city, bell.token, event(bell.id, data={"condition": {"topic": "", "active": "yes"}})),
        await post(city, "no-device-has-this", event(bell.id)),
        await post(city, bell.token, event(other.id)),
        await post(city, bell.token, event("bell-nobody-knows")),
        await post(city, bell.token, event(bell.id, data={"condition": {"topic": "x" * 70 * 1024, "active": True}})),
    ]
    assert refused == [
        (400, "malformed"), (400, "malformed"), (400, "malformed"), (401, "token"), (403, "another_device"),
        (404, "unknown_device"), (413, "too_large"),
    ]  # fmt: skip
    assert await city.metric("ingest", "safealley_ingest_webhook_requests_total") == counted + len(refused)


async def test_a_command_needs_a_key_that_is_one(city: City) -> None:
    """A console sends a wrong key or body: the alert stays as it is for everybody."""
    pressed = await city.bell(1).press()
    async with city.console() as console:
        await wait_until(lambda: pressed.id in console.shown_us, 20, "the press is shown")
        alert = next(
            item["alert"] for item in console.alerts.values()
            if any(counted["id"] == pressed.id for counted in item["alert"]["alarm_ids"])
        )  # fmt: skip
    body = {"decision_version": alert["decision_version"]}
    status, said = await city.command(alert["alert_id"], "ack", body, key="not-a-uuid")
    assert status == 422
    assert "Idempotency-Key" in said["detail"]
    status, said = await city.command(alert["alert_id"], "ack", body | {"other": 1})
    assert (status, "other" in said["detail"]) == (422, True)
    status, _ = await city.command(str(uuid.uuid4()), "ack", body)
    assert status == 404
    now = next(one for one in await city.alerts() if one["alert_id"] == alert["alert_id"])
    assert not now["isa"]["acked"]


@pytest.mark.parametrize("channel", ["alert-stream", "live"])
async def test_a_page_of_another_origin_opens_no_socket(city: City, channel: str) -> None:
    """A page somewhere else has got hold of a token: it still sees nothing."""
    url = f"{city.addresses.gateway}/api/v1/{channel}"
    headers = city.bearer("operator") | {"Origin": "https://elsewhere.example"}
    with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
        async with city.http.ws_connect(url, headers=headers):
            pass
    assert refused.value.status == 403


async def test_nobody_looks_without_a_purpose_and_an_admin_never(city: City) -> None:
    """Somebody is curious: the auditor later finds the refusal, and no picture has left."""
    now_us = CLOCK.now_us()
    for what in ("timeline", "clip.mp4", "playlist.m3u8"):
        url = city.camera_url("cam-1", what, now_us - HOUR_US, now_us, purpose="")
        status, said = await city.get(url, city.bearer("auditor"))
        assert (status, "purpose" in said["detail"]) == (422, True)
        status, _ = await city.get(f"{url}&purpose=curious", city.bearer("admin"))
        assert status == 403
    url = f"{city.addresses.gateway}/api/v1/live"
    async with city.http.ws_connect(url, headers=city.bearer("admin")) as window:
        await window.send_json({"op": "sub", "ch": 1, "camera": "cam-1", "purpose": "curious"})
        assert (await window.receive_json(timeout=10))["code"] == "forbidden"

    async def all_are_noted() -> bool:
        return await refused_looks(city, "curious") == [("admin", "cam-1", what) for what in LOOKS]

    await wait_until(all_are_noted, 20, "each refused look stands once in the audit log")


LOOKS = ("clip", "live", "playlist", "timeline")


async def refused_looks(city: City, purpose: str) -> list[tuple[str, str | None, str]]:
    """Return role, camera and action of each look for a purpose; none of them was allowed."""
    bodies = [
        codec.decode_event(record.headers, record.value).body
        for record in await city.records(AUDIT.name)
        if dict(record.headers).get("ce_type") == Access.TYPE.encode()
    ]
    looks = [one for one in bodies if isinstance(one, Access) and one.reason == purpose]
    assert {(one.result, one.bytes) for one in looks} <= {("denied", 0)}
    return sorted((one.role, one.camera_id, one.action) for one in looks)


@pytest.mark.parametrize(
    "topic",
    [ALARMS, VIDEO, ALERTS, DEVICES, STREAMS, AUDIT, OPERATOR_COMMANDS, CLAIMS],
    ids=lambda topic: topic.name,
)
async def test_a_record_of_another_version_is_counted_and_passed_over(city: City, topic: Topic) -> None:
    """A newer or broken release writes to a topic: its readers say so, and go on with the next record."""
    headers = (
        ("ce_specversion", b"1.0"), ("ce_id", uuid.uuid4().hex.encode()), ("ce_source", b"/tests"),
        ("ce_type", topic.types[0].TYPE.replace(".v1", ".v9").encode()),  # type: ignore[attr-defined]
        ("content-type", b"application/json"),
    )  # fmt: skip
    before = await noticed(city, topic)
    kafka = city.box.kafka_port("system-test")
    async with kafka.producer(ProducerProfile.RECORDS) as producer:
        await producer.send(
            Outgoing(topic=topic.name, key="cam-1", value=b'{"x": 1}', headers=headers,
                     timestamp_ms=CLOCK.now_us() // 1000)
        )  # fmt: skip

    async def is_noticed() -> bool:
        return all(now > then for now, then in zip(await noticed(city, topic), before, strict=True))

    await wait_until(is_noticed, 20, f"each reader of {topic.name} counts the record or puts it aside")


async def noticed(city: City, topic: Topic) -> list[float]:
    """Return how many records of a topic each of its readers refused: its counter, or its dead letters."""
    if topic is CLAIMS:
        services = ("ingest", "alerting", "gateway")
        return [await city.metric(service, "safealley_claims_unreadable_total") for service in services]
    if topic is DEVICES:
        readers = ("ingest", "alerting", "gateway", "archive")
        return [await city.metric(one, "safealley_registry_records_total", result="refused") for one in readers]
    refused = await city.metric("gateway", "safealley_gateway_view_records_refused_total", topic=topic.name)
    dead_letters = len(await city.records(topic.dead_letters))
    if topic is ALERTS:
        return [refused]
    return [refused, dead_letters] if topic is STREAMS else [dead_letters]


async def safealley(*words: str) -> tuple[int | None, str]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "services.cli", *words, cwd=ROOT,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    output, _ = await asyncio.wait_for(process.communicate(), 60)
    return process.returncode, output.decode()


async def test_a_second_up_on_the_directory_is_refused_with_the_cure(city: City) -> None:
    """Somebody starts it twice: the first goes on, the second says who has the directory."""
    status, said = await safealley("up", "--data", str(city.root), "--ports", "free")
    assert status == 2, said
    assert str(city.root) in said
    assert "cure: " in said


async def test_a_busy_port_is_named_with_the_cure(city: City, tmp_path: Path) -> None:
    """Another program has one of the ports: nothing is started, and the sentence says which."""
    del city
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            other.bind(("127.0.0.1", 9104))
            other.listen()
        except OSError:
            pass  # somebody else has it: as good
        status, said = await safealley("up", "--data", str(tmp_path / "second"))
    assert status == 2, said
    assert "9104 (archive ops)" in said
    assert "--ports free" in said


async def test_an_unknown_key_of_a_registry_file_is_named_with_file_and_line(city: City, tmp_path: Path) -> None:
    """A hand slips in the city's file: nothing of it is applied."""
    file = tmp_path / "city.yaml"
    file.write_text(
        "sites:\n  - site_id: one\n    name: {ko: 하나, en: One}\n    jurisdiction: '11440'\n"
        "    lon: 126.9\n    lat: 37.5\n    colour: red\ndevices: []\n"
    )
    for words in (("validate", str(file)), ("apply", str(file), "--kafka", city.addresses.kafka)):
        status, said = await safealley("devices", *words)
        assert status == 2, said
        assert "city.yaml:7" in said
        assert "colour" in said
