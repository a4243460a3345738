"""What the camera benchmarks stand on: real Kafka, sources that send packet by packet, the real ingest.

The system under test has one core for itself; broker and sources share another, as far as there are two.
"""

import asyncio
import contextlib
import json
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any, Final

import aiohttp

from benchmarks.units import Follow, Played, cuts
from services.contracts.fragment import Fragment, read_video_headers
from services.contracts.topics import VIDEO
from services.ingest import registry_writer
from services.onebox.broker_topics import prepare_topics
from services.onebox.demo_city import CameraOfDemo, demo_city
from services.onebox.local_kafka import LocalKafka
from services.onebox.ports import LOOPBACK, Reservation, reserve
from services.onebox.processes import Child
from services.onebox.programs import MALLOC
from services.onebox.settings import environment_of_services
from services.runtime.clock import SystemClock
from services.runtime.kafka import AioKafka
from services.runtime.retry import retried

READY_S: Final = 60.0
FRAME_RATE: Final = 25
GOP: Final = 25
MBPS: Final = 2.0
CLIP_S: Final = 4.0
STOP_S: Final = 20.0
FREE_DISK_BYTES: Final = 40 * 1024**3  # a tenth is `video`: more than any run writes
CLOCK: Final = SystemClock()


@contextlib.contextmanager
def on_core(core: int) -> Iterator[bool]:
    """Start children on this core; tell whether there is a core to give. Children inherit it for ever."""
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        yield False
        return
    os.sched_setaffinity(0, {cores[core]})
    try:
        yield True
    finally:
        os.sched_setaffinity(0, set(cores))


UNDER_TEST: Final = 1
BESIDE: Final = 0


@dataclass(kw_only=True)
class Rig:
    """A broker and N sources that are up, and a folder for the rest."""

    folder: Path
    cameras: int
    kafka: LocalKafka
    port: int
    played: Played
    ports: Mapping[str, int]
    _ingest: Child | None = None

    def url(self, number: int) -> str:
        return f"rtsp://{LOOPBACK}:{self.port}/cam-{number + 1}"

    def client(self, name: str) -> AioKafka:
        return AioKafka(self.kafka.bootstrap, clock=CLOCK, client_id=name)

    def start(self, name: str, command: Sequence[str], *, core: int) -> Child:
        """Start a program on a core, with the services' environment."""
        environ = {**environment_of_services(), **MALLOC}
        with on_core(core):
            return Child(name, command, log=self.folder / f"{name}.log", environ=environ)

    async def register(self) -> None:
        """Write the registry as a city would."""
        cameras = [
            CameraOfDemo(device_id=f"cam-{n + 1}", url=self.url(n), source="simulated", secret_ref=None)
            for n in range(self.cameras)
        ]
        file = self.folder / "registry.yaml"
        file.write_text(json.dumps(demo_city(cameras).document), encoding="utf-8")
        kafka = self.client("registry")
        await _persist(lambda: registry_writer.apply(file, kafka, clock=CLOCK), "registry")

    async def start_ingest(self) -> int:
        """Start ingest; return its pid once every camera records."""
        settings = self.folder / "ingest.yaml"
        settings.write_text(json.dumps(self._settings()), encoding="utf-8")
        command = [sys.executable, "-m", "services.ingest", "--settings", str(settings)]
        self._ingest = self.start("ingest", command, core=UNDER_TEST)
        async with asyncio.timeout(READY_S), aiohttp.ClientSession() as http:
            while await self._recording(http) < self.cameras:
                if self._ingest.exited.is_set():
                    raise RuntimeError(f"ingest ended: {self._ingest.last_line}")
                await asyncio.sleep(0.5)
        return self._ingest.pid

    async def stop_ingest(self) -> None:
        """Stop it in order: what it has cut is acknowledged."""
        if self._ingest is not None:
            await self._ingest.end_within(STOP_S)

    def _settings(self) -> dict[str, Any]:
        listen = {name: {"host": LOOPBACK, "port": port} for name, port in self.ports.items()}
        secrets = self.folder / "secrets"
        secrets.mkdir(exist_ok=True)
        return {
            "kafka": {"bootstrap": self.kafka.bootstrap},
            "ops": listen["ops"],
            "device_door": listen["door"],
            "live": listen["live"],
            "data_dir": str(self.folder / "ingest"),
            "secrets_dir": str(secrets),
            "disk_reserve_bytes": 1024**3,
            "disk_reserve_ratio": 0.0,
        }

    async def _recording(self, http: aiohttp.ClientSession) -> int:
        try:
            async with http.get(f"http://{LOOPBACK}:{self.ports['ops']}/statusz") as answer:
                said = await answer.json()
        except aiohttp.ClientError:
            return 0
        return sum(camera["state"] == "recording" for camera in said.get("cameras", ()))

    async def read_back(self) -> dict[str, Follow]:
        """Read the whole of `video`, a fetch at a time, and follow every camera's units."""
        follows = {f"cam-{n + 1}": Follow(played=self.played) for n in range(self.cameras)}
        kafka = self.client("checker")
        async with kafka.reader(await kafka.whole(VIDEO.name)) as reader:
            while not reader.caught_up():
                for record in await reader.poll(timeout_s=0.5):
                    facts = read_video_headers(record.headers)
                    if isinstance(facts, Fragment) and facts.camera_id in follows and record.value is not None:
                        (cut,) = cuts(memoryview(record.value))
                        identity = (facts.epoch, facts.run, facts.seq)
                        follows[facts.camera_id].fragment(identity, cut, start_us=facts.start_us, end_us=facts.end_us)
        return follows


@contextlib.asynccontextmanager
async def rig(folder: Path, cameras: int) -> AsyncIterator[Rig]:
    """Bring up a broker and the sources; end everything that was started."""
    held = reserve({"ops": 0, "door": 0, "live": 0, "cameras": 0})
    with on_core(BESIDE):
        kafka = LocalKafka(folder / "kafka", now_us=CLOCK.now_us)
        await kafka.start()
    try:
        client = AioKafka(kafka.bootstrap, clock=CLOCK, client_id="rig")
        await _persist(lambda: prepare_topics(client, free_disk_bytes=FREE_DISK_BYTES), "topics")
        async with _sources(folder, cameras, held) as (port, played):
            made = Rig(folder=folder, cameras=cameras, kafka=kafka, port=port, played=played, ports=held.ports)
            await made.register()
            try:
                yield made
            finally:
                await made.stop_ingest()
    finally:
        await kafka.close()
        held.release()


@contextlib.asynccontextmanager
async def _sources(folder: Path, cameras: int, held: Reservation) -> AsyncIterator[tuple[int, Played]]:
    """All cameras in one process; it makes its clip first."""
    hashes, port = folder / "units.json", held.ports["cameras"]
    command = [sys.executable, "-m", "services.simulators.camera", "--count", str(cameras), "--port", str(port)]
    clip = ["--fps", str(FRAME_RATE), "--gop", str(GOP), "--mbps", str(MBPS), "--seconds", str(CLIP_S)]
    with on_core(BESIDE):
        environ = {**environment_of_services(), **MALLOC}
        source = Child(
            "sources", [*command, *clip, "--hashes", str(hashes)], log=folder / "sources.log", environ=environ
        )
    try:
        async with asyncio.timeout(READY_S):
            while not any('"port"' in line for line in source.last_lines):
                if source.exited.is_set():
                    raise RuntimeError(f"the sources ended: {source.last_line}")
                await asyncio.sleep(0.1)
        said = json.loads(hashes.read_text(encoding="utf-8"))
        yield port, Played(hashes=[unit["sha256"] for unit in said["units"]], unit_us=1_000_000 // FRAME_RATE)
    finally:
        await source.end_within(5.0)


async def _persist(call: Callable[[], Awaitable[object]], what: str) -> None:
    """Try again for a while: a broker on a busy machine is slow to begin."""
    await retried(call, what=what, clock=CLOCK, random=Random(), attempts_max=10)  # noqa: S311 - jitter
