"""The whole of ingest against a real broker: a simulated camera to `video`, a bell to `alarms`, live pictures."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from services.contracts import codec
from services.contracts.alarm import AlarmCleared, AlarmRaised
from services.contracts.claim import Claim
from services.contracts.console import LIVE_FRAGMENT, LIVE_HEADER, LIVE_INIT, LIVE_JPEG
from services.contracts.fragment import Fragment, VideoEnd, read_video_headers
from services.contracts.gap import Gap, GapClosed
from services.contracts.stream import StreamState
from services.contracts.topics import ALARMS, CLAIMS, STREAMS, TOPICS, VIDEO, devices
from services.ingest import app, registry_writer
from services.ingest.ownership import FootageWatch
from services.ingest.settings import IngestSettings
from services.runtime.clock import SystemClock
from services.runtime.kafka import AioKafka
from services.runtime.kafka_port import Record, TopicSpec
from services.runtime.service import ServiceContext
from services.runtime.settings import KafkaSettings, ListenSettings, OpsSettings
from services.simulators import clip_source
from services.simulators.bell import Bell
from services.simulators.camera import Camera, CameraServer, Credentials
from services.simulators.door_client import DoorClient

CLOCK = SystemClock()
WAIT_S = 30.0


@dataclass
class City:
    """A running ingest, its camera, and what came to stand in the topics since."""

    name: str
    kafka: AioKafka
    camera: Camera
    context: ServiceContext
    seen: dict[str, list[Record]] = field(default_factory=dict)

    @property
    def camera_id(self) -> str:
        return f"{self.name}-cam"

    def videos(self) -> list[Fragment | VideoEnd]:
        return [read_video_headers(one.headers) for one in self.of(VIDEO.name, self.camera_id)]

    def bodies(self, topic: str, key: str) -> list[Any]:
        return [codec.decode_event(one.headers, one.value).body for one in self.of(topic, key)]

    def of(self, topic: str, key: str) -> list[Record]:
        return [one for one in self.seen.get(topic, []) if one.key == key]

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(WAIT_S):
            while not condition():
                await asyncio.wait({asyncio.ensure_future(CLOCK.sleep(0.02))})

    @property
    def ports(self) -> dict[str, int]:
        return self.context.report().get("ports", {})  # type: ignore[no-any-return]


@pytest.fixture
async def kafka(kafka_bootstrap: str) -> AioKafka:
    kafka = AioKafka(kafka_bootstrap, clock=CLOCK, client_id="test")
    specs = [
        TopicSpec(name=topic.name, partitions=8, settings=topic.one_box_settings(video_partition_bytes=64 << 20))
        for topic in TOPICS
    ]
    await kafka.create_topics(specs)
    return kafka


@asynccontextmanager
async def running(
    name: str, kafka: AioKafka, bootstrap: str, where: Path, *, clip: clip_source.Clip | None = None
) -> AsyncIterator[City]:
    """Bring up a camera and ingest, and read all topics beside them."""
    clip = clip or clip_source.pattern(
        "h264", width=320, height=180, frame_rate=25, gop=25, bitrate_bps=500_000, seconds=2.0, b_frames=0
    )
    camera = Camera("cam-1", clip)
    server = CameraServer([camera], credentials=Credentials(username="u", password="p@ss%"))
    port = await server.start("127.0.0.1", 0)
    _write_files(name, where, port)
    # A registry of its own: what other tests registered must not be recorded here.
    await kafka.create_topics([TopicSpec(name=devices(name), partitions=8, settings={"cleanup.policy": "compact"})])
    await registry_writer.apply(where / "city.yaml", kafka, clock=CLOCK, pool=name)
    context = ServiceContext("ingest", clock=CLOCK)
    city = City(name=name, kafka=kafka, camera=camera, context=context)
    reading = asyncio.create_task(_read(city))
    serving = asyncio.create_task(
        app.run(
            _settings(name, bootstrap, where), lambda part: AioKafka(bootstrap, clock=CLOCK, client_id=part), context
        )
    )
    try:
        yield city
    finally:
        context.stopping.set()
        await asyncio.wait_for(serving, 20)
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
        await server.stop()


def _write_files(name: str, where: Path, port: int) -> None:
    secrets = where / "secrets"
    secrets.mkdir()
    (secrets / "cam").write_text('{"username": "u", "password": "p@ss%"}')
    (secrets / "bell").write_text('{"token": "bell-token"}')
    (secrets / "live-relay").write_text("relay")
    (where / "city.yaml").write_text(f"""\
sites:
  - {{site_id: {name}, name: {{ko: 가, en: A}}, jurisdiction: mapo, police_station: mapo, lon: 126.9, lat: 37.5}}
devices:
  - device_id: {name}-cam
    kind: camera
    site_id: {name}
    secret_ref: cam
    streams: [{{name: main, url: "rtsp://127.0.0.1:{port}/cam-1", bitrate_bps: 500000}}]
  - {{device_id: {name}-bell, kind: bell, site_id: {name}, secret_ref: bell}}
""")


def _settings(name: str, bootstrap: str, where: Path) -> IngestSettings:
    return IngestSettings(
        name="ingest-test",
        pool=name,
        kafka=KafkaSettings(bootstrap=bootstrap),
        ops=OpsSettings(port=0),
        device_door=ListenSettings(port=0),
        live=ListenSettings(port=0),
        data_dir=where / "data",
        secrets_dir=where / "secrets",
        alarm_spool_bytes=65_536,
        disk_reserve_bytes=0,
        disk_reserve_ratio=0.0,
        offline_alarm_s=0.5,
    )


async def _read(city: City) -> None:
    names = (VIDEO.name, STREAMS.name, ALARMS.name, CLAIMS.name)
    async with city.kafka.reader(await city.kafka.whole(*names)) as reader:
        while True:
            for record in await reader.poll(timeout_s=0.1):
                city.seen.setdefault(record.topic, []).append(record)


@pytest.fixture
async def city(kafka: AioKafka, kafka_bootstrap: str, tmp_path: Path) -> AsyncIterator[City]:
    name = f"it-{CLOCK.now_us()}"
    async with running(name, kafka, kafka_bootstrap, tmp_path) as city:
        yield city


def fragments(city: City) -> list[Fragment]:
    return [one for one in city.videos() if isinstance(one, Fragment)]


async def test_a_camera_is_claimed_and_its_footage_stands_in_kafka_without_a_hole(city: City) -> None:
    await city.until(lambda: len(fragments(city)) >= 3)
    city.context.stopping.set()
    await city.until(lambda: isinstance(city.videos()[-1], VideoEnd))

    found = fragments(city)
    (claim,) = city.bodies(CLAIMS.name, city.camera_id)
    assert isinstance(claim, Claim)
    assert {one.epoch for one in found} == {claim.epoch}
    assert [one.seq for one in found] == list(range(len(found)))
    assert found[0].keyframe
    assert all(one.codec.startswith("avc1.") for one in found)
    for one, following in itertools.pairwise(found):
        assert abs(following.start_us - one.end_us) <= 1_000
    end = city.videos()[-1]
    assert isinstance(end, VideoEnd)
    assert (end.epoch, end.run, end.seq, end.end_us) == (claim.epoch, 0, found[-1].seq, found[-1].end_us)
    states = [one.state for one in city.bodies(STREAMS.name, city.camera_id) if isinstance(one, StreamState)]
    assert states[0] == "connecting"
    assert "recording" in states


async def test_an_unplugged_camera_is_a_gap_and_an_alarm_until_it_is_back(city: City) -> None:
    await city.until(lambda: len(fragments(city)) >= 2)
    city.camera.fault("off", ticks=0, packets=1)
    await city.until(lambda: [type(one) for one in city.bodies(ALARMS.name, city.name)][-1:] == [AlarmRaised])
    city.camera.fault("on", ticks=0, packets=1)
    await city.until(lambda: any(isinstance(one, GapClosed) for one in city.bodies(STREAMS.name, city.camera_id)))
    await city.until(lambda: isinstance(city.bodies(ALARMS.name, city.name)[-1], AlarmCleared))
    await city.until(lambda: fragments(city)[-1].run == 1)

    gaps = [one for one in city.bodies(STREAMS.name, city.camera_id) if isinstance(one, Gap)]
    opened, closed = gaps[0], gaps[-1]
    assert opened.gap_id == closed.gap_id
    assert closed.cause in {"device_offline", "network_loss"}
    before = [one for one in fragments(city) if one.run == 0]
    after = [one for one in fragments(city) if one.run == 1]
    assert abs(closed.from_us - before[-1].end_us) <= 1_000
    assert closed.to_us == after[0].start_us
    assert after[0].seq == before[-1].seq + 1


async def test_a_bells_press_is_a_record_of_its_site(city: City) -> None:
    async with aiohttp.ClientSession() as http:
        await city.until(lambda: city.ports.get("device_door") is not None)
        door = f"http://127.0.0.1:{city.ports['device_door']}"
        client = DoorClient(f"{city.name}-bell", token="bell-token", door_url=door, http=http, clock=CLOCK)
        answer = await Bell(client).press()
    assert answer.accepted
    await city.until(lambda: answer.id in ids(city.of(ALARMS.name, city.name)))
    assert ids(city.of(ALARMS.name, city.name)).count(answer.id) == 1


def ids(records: list[Record]) -> list[str]:
    return [codec.decode_event(record.headers, record.value).envelope.id for record in records]


async def test_whether_anybody_records_a_camera_is_seen_in_video(city: City) -> None:
    await city.until(lambda: len(fragments(city)) >= 1)

    unrecorded = await FootageWatch(city.kafka, clock=CLOCK).unrecorded({city.camera_id, "nobodys"})

    assert unrecorded == {"nobodys"}


async def test_a_viewer_gets_init_and_newest_pictures_and_a_still(city: City) -> None:
    await city.until(lambda: len(fragments(city)) >= 1)
    url = f"ws://127.0.0.1:{city.ports['live']}/api/v1/live"
    sub = {"op": "sub", "camera": city.camera_id, "purpose": "relay"}
    kinds: dict[int, list[int]] = {1: [], 2: []}
    said: list[str] = []
    headers = {"Authorization": "Bearer relay"}
    async with (
        asyncio.timeout(WAIT_S),
        aiohttp.ClientSession() as http,
        http.ws_connect(url, headers=headers) as socket,
    ):
        await socket.send_json(sub | {"ch": 1})
        await socket.send_json(sub | {"ch": 2, "want": "still"})
        while kinds[1].count(LIVE_FRAGMENT) < 4 or not kinds[2]:
            message = await socket.receive()
            if message.type is aiohttp.WSMsgType.TEXT:
                said.append(message.json()["op"])
                continue
            _, kind, channel, captured_us, _ = LIVE_HEADER.unpack_from(message.data)
            assert abs(CLOCK.now_us() - captured_us) < 10_000_000
            kinds[channel].append(kind)

    assert kinds[1][0] == LIVE_INIT
    assert kinds[2][0] == LIVE_JPEG
    assert said[:2] == ["init", "key"]


async def test_the_live_port_asks_for_the_relays_secret(city: City) -> None:
    await city.until(lambda: city.ports.get("live") is not None)
    url = f"http://127.0.0.1:{city.ports['live']}/api/v1/live"
    async with aiohttp.ClientSession() as http, http.get(url) as answer:
        assert answer.status == 401
