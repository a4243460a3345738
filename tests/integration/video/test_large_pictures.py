"""A camera each of whose pictures is above 1 MiB: over a real broker into the archive and out again."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import aiohttp
import pytest
from prometheus_client import CollectorRegistry

from services.archive import app as archive_app
from services.archive.settings import ArchiveSettings
from services.contracts.fragment import FRAGMENT_BYTES_MAX, Fragment
from services.contracts.topics import TOPICS, VIDEO
from services.onebox.footage_links import is_stretch
from services.runtime.identity import DemoIssuer
from services.runtime.kafka import AioKafka
from services.runtime.kafka_port import TopicSpec
from services.runtime.service import ServiceContext
from services.runtime.settings import IdentitySettings, KafkaSettings, ListenSettings, OpsSettings
from services.simulators import clip_source
from services.simulators.clip_source import Clip
from tests.integration.ingest.test_ingest import CLOCK, WAIT_S, City, fragments, running

PICTURES = 6

pytestmark = pytest.mark.timeout(90, func_only=True)


@pytest.fixture(scope="module")
def large_pictures() -> Clip:
    """Make small pictures large by filler data (H.264 7.4.2.7): real ones would take seconds to encode."""
    clip = clip_source.pattern("h264", width=320, height=180, frame_rate=4, gop=4, bitrate_bps=500_000, seconds=1)
    filler = b"\x0c" + b"\xff" * (FRAGMENT_BYTES_MAX + FRAGMENT_BYTES_MAX // 2) + b"\x80"
    return replace(clip, units=tuple(replace(unit, nals=(*unit.nals, filler)) for unit in clip.units))


@pytest.fixture
async def topics(kafka_bootstrap: str) -> AioKafka:
    kafka = AioKafka(kafka_bootstrap, clock=CLOCK, client_id="test")
    specs = [
        TopicSpec(name=name, partitions=8, settings=topic.one_box_settings(video_partition_bytes=64 << 20))
        for topic in TOPICS
        for name in (topic.name, topic.dead_letters)
    ]
    await kafka.create_topics(specs)
    return kafka


@asynccontextmanager
async def archive(bootstrap: str, pool: str, issuer: DemoIssuer, where: Path) -> AsyncIterator[str]:
    """Run archive on the broker; give its address."""
    settings = ArchiveSettings(
        kafka=KafkaSettings(bootstrap=bootstrap),
        pool=pool,
        data_dir=where / "archive",
        listen=ListenSettings(port=0),
        ops=OpsSettings(port=0),
        disk_reserve_bytes=0,
        identity=IdentitySettings(jwks_file=issuer.jwks_file),
    )
    context = ServiceContext("archive", clock=CLOCK)
    port: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    kafka = AioKafka(bootstrap, clock=CLOCK, client_id="archive")
    serving = asyncio.create_task(
        archive_app.run(settings, kafka, context, registry=CollectorRegistry(), on_port=port.set_result)
    )
    try:
        yield f"http://127.0.0.1:{await asyncio.wait_for(port, WAIT_S)}"
    finally:
        context.stopping.set()
        await asyncio.wait_for(serving, 30)


async def clip_of(url: str, token: str, city: City, wanted: list[Fragment]) -> bytes | None:
    """Take the span of these fragments out; None while the archive has not read them."""
    span = f"from={wanted[0].start_us}&to={wanted[-1].end_us}&purpose=test"
    headers = {"Authorization": f"Bearer {token}"}
    address = f"{url}/api/v1/archive/cameras/{city.camera_id}/clip.mp4?{span}"
    async with aiohttp.ClientSession() as http, http.get(address, headers=headers) as answer:
        body = await answer.read()
        # Its bounds are those of pictures, and wall time is slewed: compared as bounds, not as equal.
        _, _, contained_to = answer.headers.get("Safealley-Contained", "").partition("-")
        return body if answer.status == 200 and int(contained_to or 0) >= wanted[-1].end_us else None


async def test_pictures_above_a_mebibyte_come_out_of_the_archive_as_the_camera_sent_them(
    topics: AioKafka, kafka_bootstrap: str, large_pictures: Clip, tmp_path: Path
) -> None:
    assert all(sum(map(len, unit.nals)) > FRAGMENT_BYTES_MAX for unit in large_pictures.units)
    name = f"large-{CLOCK.now_us()}"
    issuer = DemoIssuer(tmp_path / "identity", clock=CLOCK)
    async with (
        running(name, topics, kafka_bootstrap, tmp_path, clip=large_pictures) as city,
        archive(kafka_bootstrap, name, issuer, tmp_path) as url,
    ):
        await city.until(lambda: any(one.seq > PICTURES for one in fragments(city)))
        city.context.stopping.set()
        found = fragments(city)
        assert all(one.chunk is not None and one.chunk.fragment_bytes > FRAGMENT_BYTES_MAX for one in found)
        assert max(len(one.value or b"") for one in city.of(VIDEO.name, city.camera_id)) == FRAGMENT_BYTES_MAX
        wanted = [one for one in {one.seq: one for one in found}.values() if one.seq < PICTURES]
        body: list[bytes] = []

        async def read_out() -> None:
            while not body:
                taken = await clip_of(url, issuer.issue("supervisor", jurisdictions=("mapo",)), city, wanted)
                body.extend([] if taken is None else [taken])
                await CLOCK.sleep(0.1)

        await asyncio.wait_for(read_out(), WAIT_S)
    (tmp_path / "clip.mp4").write_bytes(body[0])
    taken = clip_source.from_file(tmp_path / "clip.mp4")
    source = [digest for unit in large_pictures.units for digest in unit.nal_sha256]
    assert len(taken.units) == PICTURES
    assert is_stretch([digest for unit in taken.units for digest in unit.nal_sha256], source)
