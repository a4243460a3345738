"""One console over a real WebSocket: snapshot, events, resume, overflow, receipts, refusals."""

import asyncio
import dataclasses
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
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
from services.contracts.topics import ALERTS
from services.gateway.alert_stream import HEARTBEAT_S, AlertStream
from services.gateway.console_queue import ENTRIES_MAX
from services.gateway.metrics import GatewayMetrics
from services.gateway.view import AlertView
from services.runtime.clock import FakeClock
from services.runtime.identity import Caller
from services.runtime.kafka_port import Record

EXAMPLE = Path(__file__).parents[3] / "services/contracts/examples/alerts/v1/unacknowledged.json"
BODY = json.loads(EXAMPLE.read_text())["body"]
NOW_US = 1_777_640_000_000_000


@dataclasses.dataclass
class World:
    """A gateway's alert stream behind a real port, and the log it reads."""

    url: str
    view: AlertView
    stream: AlertStream
    receipts: list[ReceiptFrame]
    session: aiohttp.ClientSession
    offset: int = 0
    caller: Caller = dataclasses.field(
        default_factory=lambda: Caller(account="op-kim", role="operator", jurisdictions=("11440",))
    )

    def write(self, **changes: Any) -> None:
        """Append a record to `alerts` and let the stream see it."""
        alert = msgspec.convert({**BODY, **changes}, Alert)
        envelope = Envelope(id=f"{alert.alert_id}/{alert.version}", source="/s", type=Alert.TYPE, epoch=7)
        held = self.view.apply(
            Record(
                topic=ALERTS.name,
                partition=0,
                offset=self.offset,
                timestamp_ms=NOW_US // 1000,
                key=alert.alert_id,
                value=codec.encode(alert),
                headers=envelope.to_headers(),
            )
        )
        self.offset += 1
        assert held is not None
        self.stream.publish(held)

    async def console(self, **hello: Any) -> aiohttp.ClientWebSocketResponse:
        socket = await self.session.ws_connect(self.url)
        await socket.send_json({"op": "hello", "proto": 1, "console_id": "c-1", **hello})
        return socket


@pytest.fixture
async def world() -> AsyncIterator[World]:
    view = AlertView()
    view.start_at(0, 0)
    receipts: list[ReceiptFrame] = []

    class Sink:
        async def receipts(self, caller: Caller, console_id: str, frame: ReceiptFrame) -> None:
            del caller, console_id
            receipts.append(frame)

    metrics = GatewayMetrics(CollectorRegistry())
    stream = AlertStream(view=view, cluster="k", clock=FakeClock(NOW_US), receipts=Sink(), metrics=metrics)
    box: list[World] = []

    async def serve(request: web.Request) -> web.WebSocketResponse:
        return await stream.serve(request, box[0].caller)

    app = web.Application()
    app.router.add_get("/", serve)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    async with aiohttp.ClientSession() as session:
        box.append(
            World(
                url=f"http://127.0.0.1:{runner.addresses[0][1]}/",
                view=view,
                stream=stream,
                receipts=receipts,
                session=session,
            )
        )
        yield box[0]
    await runner.cleanup()


async def frames(
    socket: aiohttp.ClientWebSocketResponse, until: Callable[[dict[str, Any]], bool]
) -> list[dict[str, Any]]:
    """Read frames up to and including the one wanted."""
    seen: list[dict[str, Any]] = []
    async with asyncio.timeout(10):
        while True:
            seen.append(await socket.receive_json())
            if until(seen[-1]):
                return seen


def is_op(name: str) -> Callable[[dict[str, Any]], bool]:
    return lambda frame: frame["op"] == name


async def test_a_console_gets_the_list_and_then_each_change_in_gapless_order(world: World) -> None:
    world.write(alert_id="first")
    console = await world.console()
    opening = await frames(console, is_op("snapshot_end"))

    world.write(alert_id="second")
    (event,) = await frames(console, is_op("event"))

    assert [item["alert_id"] for item in opening[0]["items"]] == ["first"]
    assert [item["alert_id"] for item in event["items"]] == ["second"]
    assert [frame["seq"] for frame in (*opening, event)] == [1, 2, 3]
    assert event["cursor"] == {"cluster": "k", "at": {"0": 2}}
    assert (event["items"][0]["change"], event["items"][0]["ask"]) == ("created", True)


async def test_a_console_that_comes_back_gets_what_it_missed_and_nothing_else(world: World) -> None:
    world.write(alert_id="seen")
    console = await world.console()
    cursor = (await frames(console, is_op("snapshot_end")))[-1]["cursor"]
    await console.close()
    world.write(alert_id="missed")

    again = await world.console(cursor=cursor)
    (event,) = await frames(again, is_op("event"))

    assert [item["alert_id"] for item in event["items"]] == ["missed"]


async def test_a_console_that_missed_nothing_hears_at_once_that_it_is_connected(world: World) -> None:
    world.write(alert_id="seen")
    console = await world.console()
    cursor = (await frames(console, is_op("snapshot_end")))[-1]["cursor"]
    await console.close()

    async with asyncio.timeout(HEARTBEAT_S / 2):
        first = await (await world.console(cursor=cursor)).receive_json()

    assert (first["op"], first["cursor"]) == ("heartbeat", cursor)


@pytest.mark.parametrize(
    "cursor",
    [
        pytest.param({"cluster": "another", "at": {"0": 1}}, id="of another cluster"),
        pytest.param({"cluster": "k", "at": {"0": 1, "7": 1}}, id="of other partitions"),
    ],
)
async def test_a_cursor_that_means_nothing_here_gets_a_snapshot(world: World, cursor: dict[str, Any]) -> None:
    world.write(alert_id="seen")

    opening = await frames(await world.console(cursor=cursor), is_op("snapshot_end"))

    assert [item["alert_id"] for item in opening[0]["items"]] == ["seen"]


async def test_an_overflowed_console_is_told_and_gets_a_fresh_snapshot(world: World) -> None:
    console = await world.console()
    await frames(console, is_op("snapshot_end"))

    for number in range(ENTRIES_MAX + 1):
        world.write(alert_id=str(number), priority="low")
    seen = await frames(console, is_op("snapshot_end"))

    assert seen[0]["op"] == "resync"
    assert sum(len(frame.get("items", ())) for frame in seen) == ENTRIES_MAX + 1


async def test_another_jurisdictions_alert_never_reaches_the_console(world: World) -> None:
    console = await world.console()
    await frames(console, is_op("snapshot_end"))

    world.write(alert_id="theirs", jurisdiction="26110")
    world.write(alert_id="ours")
    (event,) = await frames(console, is_op("event"))

    assert [item["alert_id"] for item in event["items"]] == ["ours"]


async def test_receipts_are_handed_on(world: World) -> None:
    console = await world.console()
    await frames(console, is_op("snapshot_end"))

    item = {"tx": "t", "alert_id": "a", "version": 1, "kind": "painted", "at_us": 1}
    await console.send_json({"op": "receipt", "items": [item]})
    await console.close()

    assert [frame.items[0].kind for frame in world.receipts] == ["painted"]


@pytest.mark.parametrize(
    "first", ["{}", '{"op":"receipt","items":[]}', "not json"], ids=["empty", "no hello", "no json"]
)
async def test_a_console_that_does_not_say_hello_is_closed(world: World, first: str) -> None:
    socket = await world.session.ws_connect(world.url)
    await socket.send_str(first)

    async with asyncio.timeout(10):
        message = await socket.receive()

    assert (message.type, socket.close_code) == (aiohttp.WSMsgType.CLOSE, 4001)


async def test_a_session_that_is_over_is_closed_with_good_bye(world: World) -> None:
    world.caller = dataclasses.replace(world.caller, expires_us=NOW_US)
    console = await world.console()

    seen = await frames(console, is_op("bye"))
    await console.receive()

    assert (seen[-1]["reason"], console.close_code) == ("session_ended", 4001)


async def test_consoles_are_told_to_come_back_when_the_gateway_stops(world: World) -> None:
    console = await world.console()
    await frames(console, is_op("snapshot_end"))

    stopping = asyncio.create_task(world.stream.close())
    (bye,) = await frames(console, is_op("bye"))
    await console.receive()
    await stopping

    assert bye["retry_ms"] >= 500
    assert console.close_code == 1012
