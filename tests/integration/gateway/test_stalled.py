"""A console that has stopped reading: it is cut, and everybody else gets their events meanwhile."""

import asyncio
import socket as sockets
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import msgspec
import pytest
from aiohttp import web
from prometheus_client import CollectorRegistry

from services.contracts import codec
from services.contracts.alert import Alert
from services.contracts.console import ReceiptFrame
from services.contracts.envelope import Envelope
from services.gateway.alert_stream import AlertStream
from services.gateway.metrics import GatewayMetrics
from services.gateway.view import AlertView
from services.runtime import sockets as runtime_sockets
from services.runtime.clock import FakeClock
from services.runtime.identity import Caller
from services.runtime.kafka_port import Record
from tests.integration.gateway.rig import BODY, frames, port_of, until

SEND_S = 1.0
OPERATOR = Caller(account="op-kim", role="operator", jurisdictions=("11440",))


class NoReceipts:
    async def receipts(self, caller: Caller, console_id: str, frame: ReceiptFrame) -> None:
        raise AssertionError((caller, console_id, frame))


@dataclass
class Room:
    """An alert stream behind a port, whose frames have `SEND_S` to leave."""

    view: AlertView = field(default_factory=AlertView)
    clock: FakeClock = field(default_factory=FakeClock)
    registry: CollectorRegistry = field(default_factory=CollectorRegistry)
    stream: AlertStream = field(init=False)
    port: int = 0
    written: int = 0

    def __post_init__(self) -> None:
        self.view.start_at(0, 0)
        metrics = GatewayMetrics(self.registry)
        self.stream = AlertStream(
            view=self.view, cluster="k", clock=self.clock, receipts=NoReceipts(), metrics=metrics, send_s=SEND_S
        )

    async def serve(self, request: web.Request) -> web.WebSocketResponse:
        return await self.stream.serve(request, OPERATOR)

    def write(self, alert_id: str, *, size: int = 0, **changes: Any) -> None:
        """Change an alert, emergencies each in a frame of their own."""
        self.written += 1
        given = {**BODY, "alert_id": alert_id, "jurisdiction": "11440", "version": self.written, **changes}
        given["condition"] = {**BODY["condition"], "value": "x" * size}
        alert = msgspec.convert(given, Alert)
        envelope = Envelope(id=f"{alert_id}/{self.written}", source="/s", type=Alert.TYPE, epoch=7)
        held = self.view.apply(
            Record(
                topic="alerts", partition=0, offset=self.written - 1, timestamp_ms=0, key=alert_id,
                value=codec.encode(alert), headers=envelope.to_headers(),
            )
        )  # fmt: skip
        assert held is not None
        self.stream.publish(held)

    async def console(self, http: aiohttp.ClientSession, name: str) -> aiohttp.ClientWebSocketResponse:
        console = await http.ws_connect(f"http://127.0.0.1:{self.port}/", max_msg_size=0)
        await console.send_json({"op": "hello", "proto": 1, "console_id": name})
        await frames(console, "snapshot_end")
        return console

    def stalled(self) -> float:
        return self.registry.get_sample_value("safealley_gateway_alert_stream_stalled_total") or 0.0


@pytest.fixture
async def room() -> AsyncIterator[Room]:
    made = Room()
    async with port_of([web.get("/", made.serve)]) as made.port:
        yield made


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


def stop_reading(console: aiohttp.ClientWebSocketResponse) -> None:
    connection = console._response.connection
    assert connection is not None
    transport = connection.transport
    assert isinstance(transport, asyncio.Transport)
    transport.get_extra_info("socket").setsockopt(sockets.SOL_SOCKET, sockets.SO_RCVBUF, 4096)
    transport.pause_reading()


async def flood(room: Room, quick: aiohttp.ClientWebSocketResponse) -> list[float]:
    """Change alerts until the console that does not read is cut; return how long each took to the other."""
    latencies: list[float] = []
    async with asyncio.timeout(30):
        while room.stalled() == 0:
            begun = time.monotonic()
            room.write(f"a-{room.written}", size=100_000)
            (event,) = await frames(quick, "event")
            latencies.append(time.monotonic() - begun)
            assert event["items"][0]["alert_id"] == f"a-{room.written - 1}"
            assert event["seq"] == 3 + len(latencies) - 1
    return latencies


async def test_a_console_that_never_reads_is_cut_and_the_others_wait_for_nothing(
    room: Room, http: aiohttp.ClientSession
) -> None:
    quick, deaf = await room.console(http, "quick"), await room.console(http, "deaf")
    stop_reading(deaf)
    latencies = await flood(room, quick)
    assert max(latencies) < SEND_S
    await until(lambda: len(room.stream) == 1)
    assert room.stalled() == 1
    room.write("after")
    assert (await frames(quick, "event"))[0]["items"][0]["alert_id"] == "after"


async def test_a_console_that_wakes_up_in_time_is_told_4008(
    room: Room, http: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It reads nothing until its frame is overdue, and then all of it within the second."""
    overdue = asyncio.Event()
    end_stalled = runtime_sockets._end_stalled

    def noticed(transport: asyncio.Transport) -> None:
        end_stalled(transport)
        overdue.set()

    monkeypatch.setattr(runtime_sockets, "_end_stalled", noticed)
    deaf = await room.console(http, "deaf")
    async with asyncio.timeout(30):
        while not overdue.is_set():
            if room.stream.queued()[0] < 10:
                room.write(f"a-{room.written}", size=100_000)
            await asyncio.sleep(0)
        while not deaf.closed:
            await deaf.receive()
    assert deaf.close_code == 4008
    await until(lambda: len(room.stream) == 0)


async def test_what_waits_for_a_console_that_never_reads_stays_bounded(room: Room, http: aiohttp.ClientSession) -> None:
    deaf = await room.console(http, "deaf")
    stop_reading(deaf)
    highest = 0
    async with asyncio.timeout(30):
        while room.stalled() == 0:
            for _ in range(20):
                room.write(f"a-{room.written % 400}", size=20_000)
            highest = max(highest, room.stream.queued()[1])
            await asyncio.sleep(0)
    assert highest <= 4 * 1024 * 1024
    await until(lambda: len(room.stream) == 0)


async def test_a_stop_is_not_held_up_by_a_console_that_never_reads(room: Room, http: aiohttp.ClientSession) -> None:
    quick, deaf = await room.console(http, "quick"), await room.console(http, "deaf")
    stop_reading(deaf)
    room.stream.send_s = 60
    async with asyncio.timeout(30):
        while room.stream.queued()[0] == 0:
            room.write(f"a-{room.written}", size=100_000)
            await frames(quick, "event")
    room.stream.send_s = SEND_S
    begun = time.monotonic()
    stopping = asyncio.create_task(room.stream.close())
    bye = (await frames(quick, "bye"))[-1]
    await quick.receive()
    await stopping
    assert (bye["reason"], quick.close_code) == ("restart", 1012)
    assert time.monotonic() - begun < 5
    await until(lambda: len(room.stream) == 0)


async def test_a_writer_that_fails_by_our_own_mistake_ends_its_socket_so_that_the_console_comes_back(
    room: Room, http: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise KeyError("a mistake of ours")

    console, other = await room.console(http, "one"), await room.console(http, "two")
    victim = next(iter(room.stream._consoles))
    monkeypatch.setattr(victim, "_delivered", broken)
    room.write("a-1")
    await until(lambda: len(room.stream) == 1)
    left = other if victim._hello.console_id == "one" else console
    assert (await frames(left, "event"))[0]["items"][0]["alert_id"] == "a-1"
