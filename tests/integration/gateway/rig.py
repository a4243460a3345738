"""A gateway on a Kafka in memory behind a real port, with stand-ins for ingest's live port and archive."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import aiohttp
import msgspec
from aiohttp import WSMsgType, web
from prometheus_client import CollectorRegistry
from yarl import URL

from services.contracts import codec
from services.contracts.alert import Alert
from services.contracts.claim import Claim
from services.contracts.console import (
    LIVE_FRAGMENT,
    LIVE_HEADER,
    LIVE_INIT,
    LiveInit,
    LiveKey,
)
from services.contracts.device import Device
from services.contracts.envelope import Envelope
from services.contracts.topics import TOPICS
from services.gateway import app
from services.gateway.metrics import GatewayMetrics
from services.gateway.settings import GatewaySettings
from services.runtime.clock import FakeClock
from services.runtime.identity import DemoIssuer, Role
from services.runtime.kafka_port import Outgoing, TopicSpec
from services.runtime.memory_kafka import MemoryKafka
from services.runtime.service import ServiceContext
from services.runtime.settings import IdentitySettings, ListenSettings, OpsSettings

ORIGIN = "http://console.test"
BODY = json.loads(
    (Path(__file__).parents[3] / "services/contracts/examples/alerts/v1/unacknowledged.json").read_text()
)["body"]
DEADLINE_S = 15.0


async def until(condition: Callable[[], object]) -> None:
    """Wait for a condition that sockets bring about."""
    async with asyncio.timeout(DEADLINE_S):
        while not condition():  # noqa: ASYNC110 - what is waited for happens behind a socket
            await asyncio.sleep(0.005)


@asynccontextmanager
async def port_of(routes: list[web.RouteDef], port: int = 0) -> AsyncIterator[int]:
    """Serve on a loopback port; leaving the block cuts every connection."""
    served = web.Application()
    served.router.add_routes(routes)
    runner = web.AppRunner(served, shutdown_timeout=0.05)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    try:
        yield int(runner.addresses[0][1])
    finally:
        await runner.cleanup()


class LivePort:
    """Ingest's live port: speaks to whoever subscribed, as the test says."""

    def __init__(self) -> None:
        self.sockets: list[web.WebSocketResponse] = []
        self.authorization: list[str | None] = []

    async def serve(self, request: web.Request) -> web.WebSocketResponse:
        self.authorization.append(request.headers.get("Authorization"))
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        try:
            async for message in socket:
                assert json.loads(message.data)["op"] == "sub"
                await socket.send_str(codec.encode(LiveInit(ch=0, codec="avc1.640028")).decode())
                await socket.send_bytes(LIVE_HEADER.pack(1, LIVE_INIT, 0, 0, 0) + b"init")
                self.sockets.append(socket)
        finally:
            self.sockets = [one for one in self.sockets if one is not socket]
        return socket

    async def fragment(self, seq: int, *, key: bool = False, capture_us: int | None = None, size: int = 8) -> None:
        """Send a fragment to every subscriber; its payload begins with its number."""
        at_us = seq * 500_000 if capture_us is None else capture_us
        for socket in self.sockets:
            if key:
                await socket.send_str(codec.encode(LiveKey(ch=0)).decode())
            await socket.send_bytes(
                LIVE_HEADER.pack(1, LIVE_FRAGMENT, 0, at_us, seq) + f"f{seq}".encode().ljust(size, b".")
            )


@dataclass(kw_only=True)
class Rig:
    """What outlives a gateway, and the gateway that runs."""

    directory: Path
    clock: FakeClock = field(default_factory=FakeClock)
    archive_url: str = "http://127.0.0.1:9"
    kafka: MemoryKafka = field(init=False)
    issuer: DemoIssuer = field(init=False)
    context: ServiceContext = field(init=False)
    http: aiohttp.ClientSession = field(init=False)
    ports: list[int] = field(default_factory=list)
    registry: CollectorRegistry = field(init=False)

    def __post_init__(self) -> None:
        self.kafka = MemoryKafka(clock=self.clock)
        self.issuer = DemoIssuer(self.directory / "identity", clock=self.clock, jurisdictions=("11440", "11140"))
        (self.directory / "secrets").mkdir()
        (self.directory / "secrets" / "live-relay").write_text("relay-token")

    async def create(self, *, without: str = "") -> Self:
        names = [name for topic in TOPICS for name in (topic.name, topic.dead_letters) if topic.name != without]
        await self.kafka.create_topics([TopicSpec(name=name, partitions=2, settings={}) for name in names])
        return self

    def settings(self) -> GatewaySettings:
        identity = self.directory / "identity"
        return GatewaySettings(
            ops=OpsSettings(port=0), listen=ListenSettings(port=0),
            identity=IdentitySettings(jwks_file=self.issuer.jwks_file), archive_url=self.archive_url,
            secrets_dir=self.directory / "secrets", origins=(ORIGIN,),
            demo_identity_dir=identity, demo_jurisdictions=("11440", "11140"),
        )  # fmt: skip

    def start(self, kafka: Any = None) -> asyncio.Task[None]:
        self.context = ServiceContext("gateway", clock=self.clock)
        self.registry = CollectorRegistry()
        self.ports.clear()
        run = app.run(
            self.settings(),
            kafka or self.kafka,
            self.context,
            metrics=GatewayMetrics(self.registry),
            on_port=self.ports.append,
        )
        return asyncio.create_task(run)

    @asynccontextmanager
    async def running(self, kafka: Any = None) -> AsyncIterator[Self]:
        task = self.start(kafka)
        async with aiohttp.ClientSession() as self.http:
            try:
                await until(lambda: self.context.readiness()[0] or task.done())
                yield self
                self.context.stopping.set()
                await until(task.done)
                task.result()
            finally:
                task.cancel()
                await asyncio.wait((task,))

    # What stands in Kafka

    def put(self, topic: str, key: str, body: msgspec.Struct | None, envelope: Envelope) -> None:
        self.kafka.append(
            Outgoing(
                topic=topic, key=key, value=None if body is None else codec.encode(body),
                headers=envelope.to_headers(), timestamp_ms=self.clock.now_us() // 1000,
            )
        )  # fmt: skip

    def alert(self, alert_id: str, *, cause: str | None = None, **changes: Any) -> Alert:
        """Write a state of an alert."""
        isa = {**BODY["isa"], **changes.pop("isa", {})}
        alert = msgspec.convert({**BODY, "alert_id": alert_id, "jurisdiction": "11440", **changes, "isa": isa}, Alert)
        envelope = Envelope(
            id=f"{alert_id}/{alert.version}", source="/services/alerting", type=Alert.TYPE, epoch=7, causationid=cause
        )
        self.put("alerts", alert_id, alert, envelope)
        return alert

    def camera(self, camera_id: str = "cam-1", *, jurisdiction: str = "11440") -> None:
        camera = Device(
            device_id=camera_id, kind="camera", site_id="mangwon", jurisdiction=jurisdiction, lon=126.9, lat=37.5
        )
        self.put("devices.main", camera_id, camera, Envelope(id=camera_id, source="/registry", type=Device.TYPE))

    def claim(self, camera_id: str, port: int) -> None:
        """Say that a camera is served at this port."""
        now_us = self.clock.now_us()
        epoch = now_us + len(self.kafka.records("claims"))
        claim = Claim(
            key=camera_id, epoch=epoch, owner="ingest-0", claim_id=f"{camera_id}-{epoch}",
            live_url=f"ws://127.0.0.1:{port}/api/v1/live", started_us=now_us,
        )  # fmt: skip
        self.put("claims", camera_id, claim, Envelope(id=claim.claim_id, source="/ingest", type=Claim.TYPE))

    # What people say

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.ports[0]}"

    def bearer(self, role: Role = "operator", **given: Any) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.issuer.issue(role, **given)}"}

    async def ask(
        self, method: str, path: str, *, role: Role | None = "operator", headers: Mapping[str, str] | None = None,
        **options: Any,
    ) -> tuple[int, Any, Mapping[str, str]]:  # fmt: skip
        sent = {**(self.bearer(role) if role else {}), **(headers or {})}
        async with self.http.request(method, URL(f"{self.url}{path}", encoded=True), headers=sent, **options) as answer:
            content = await answer.read()
            return answer.status, json.loads(content) if content[:1] in b"{[" and content else content, answer.headers

    async def live(self, **given: Any) -> "LiveWindow":
        socket = await self.http.ws_connect(f"{self.url}/api/v1/live", headers=self.bearer(**given), max_msg_size=0)
        return LiveWindow(socket)

    async def console(self, **hello: Any) -> aiohttp.ClientWebSocketResponse:
        socket = await self.http.ws_connect(f"{self.url}/api/v1/alert-stream", headers=self.bearer(), max_msg_size=0)
        await socket.send_json({"op": "hello", "proto": 1, "console_id": "c-1", **hello})
        return socket


class LiveWindow:
    """A live window as a browser would hold it."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self.socket = socket

    async def sub(self, ch: int, camera: str = "cam-1", **more: Any) -> None:
        await self.socket.send_json({"op": "sub", "ch": ch, "camera": camera, "purpose": "wall", **more})

    async def next(self) -> dict[str, Any]:
        """Return the next message: a text, or a fragment as {ch, kind, seq, payload}."""
        async with asyncio.timeout(DEADLINE_S):
            message = await self.socket.receive()
        if message.type is WSMsgType.TEXT:
            return dict(json.loads(message.data))
        if message.type is WSMsgType.BINARY:
            _, kind, ch, _, seq = LIVE_HEADER.unpack_from(message.data)
            return {"ch": ch, "kind": kind, "seq": seq, "payload": message.data[LIVE_HEADER.size :]}
        return {"closed": self.socket.close_code}

    async def until(self, **wanted: Any) -> list[dict[str, Any]]:
        """Return what comes, up to and with what is wanted."""
        seen = []
        while True:
            seen.append(await self.next())
            if all(seen[-1].get(name) == value for name, value in wanted.items()):
                return seen


async def frames(socket: aiohttp.ClientWebSocketResponse, op: str) -> list[dict[str, Any]]:
    """Read frames up to and with the first of this kind."""
    seen: list[dict[str, Any]] = []
    async with asyncio.timeout(DEADLINE_S):
        while not seen or seen[-1]["op"] != op:
            seen.append(await socket.receive_json())
    return seen


class FaultyKafka:
    """The same cluster, whose readers of one topic can be held or made to fail."""

    def __init__(self, kafka: MemoryKafka, topic: str) -> None:
        self._kafka = kafka
        self._topic = topic
        self.errors: list[Exception] = []
        self.open = asyncio.Event()
        self.open.set()
        self.opened: list[Mapping[Any, Any]] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._kafka, name)

    @asynccontextmanager
    async def reader(self, starts: Any = None, **options: Any) -> AsyncIterator[Any]:
        async with self._kafka.reader(starts, **options) as reader:
            if starts and any(place.topic == self._topic for place in starts):
                self.opened.append(dict(starts))
                yield _FaultyReader(reader, self)
            else:
                yield reader


class _FaultyReader:
    def __init__(self, reader: Any, faulty: FaultyKafka) -> None:
        self._reader = reader
        self._faulty = faulty

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reader, name)

    async def poll(self, *, timeout_s: float) -> Any:
        await self._faulty.open.wait()
        if self._faulty.errors:
            raise self._faulty.errors.pop()
        return await self._reader.poll(timeout_s=timeout_s)
