"""Simulated devices speak the door's contract and try again under the same id until they are heard."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from services.contracts.alarm import AlarmCleared, AlarmHeartbeat, AlarmRaised
from services.runtime.clock import FakeClock, settle
from services.simulators.bell import Bell
from services.simulators.door_client import DoorClient
from services.simulators.light import Light


class Door:
    """Answers as it is told and keeps what it heard."""

    def __init__(self) -> None:
        self.heard: list[tuple[dict[str, str], dict[str, Any]]] = []
        self.answers: list[int] = []

    async def post(self, request: web.Request) -> web.Response:
        self.heard.append((dict(request.headers), await request.json()))
        return web.json_response({}, status=self.answers.pop(0) if self.answers else 202)


@pytest.fixture
def door() -> Door:
    return Door()


@pytest.fixture
async def client(door: Door) -> AsyncIterator[tuple[DoorClient, FakeClock]]:
    app = web.Application()
    app.router.add_post("/api/v1/alarms", door.post)
    clock = FakeClock()
    async with TestServer(app) as server, aiohttp.ClientSession() as http:
        url = str(server.make_url("/"))
        yield DoorClient("bell-1", token="bell-token", door_url=url, http=http, clock=clock), clock


async def test_a_press_is_one_event_with_the_bells_token(door: Door, client: tuple[DoorClient, FakeClock]) -> None:
    answer = await Bell(client[0]).press()

    ((headers, event),) = door.heard
    assert answer.accepted
    assert headers["Authorization"] == "Bearer bell-token"
    assert (event["id"], event["type"], event["subject"]) == (answer.id, AlarmRaised.TYPE, "bell-1")
    assert event["data"]["condition"]["active"] is True


async def test_a_door_that_keeps_nothing_is_asked_again_under_the_same_id(
    door: Door, client: tuple[DoorClient, FakeClock]
) -> None:
    door.answers = [503, 503]
    pressing = asyncio.create_task(Bell(client[0]).press())
    while not pressing.done():
        await client[1].advance(10)
        await asyncio.sleep(0)

    assert (await pressing).attempts == 3
    assert len({event["id"] for _, event in door.heard}) == 1


async def test_a_refusal_is_not_asked_again(door: Door, client: tuple[DoorClient, FakeClock]) -> None:
    door.answers = [401]

    answer = await Bell(client[0]).press()

    assert (answer.status, answer.attempts) == (401, 1)


async def test_a_lamp_that_goes_out_raises_and_a_new_one_clears(
    door: Door, client: tuple[DoorClient, FakeClock]
) -> None:
    light = Light(client[0])
    await light.fail()
    await light.repair()

    assert [event["type"] for _, event in door.heard] == [AlarmRaised.TYPE, AlarmCleared.TYPE]
    assert [event["data"]["condition"]["active"] for _, event in door.heard] == [True, False]


async def test_a_bell_says_that_it_lives_until_it_is_stopped(door: Door, client: tuple[DoorClient, FakeClock]) -> None:
    stopping = asyncio.Event()
    living = asyncio.create_task(Bell(client[0]).run(stopping))
    while not door.heard:
        await settle()
        await asyncio.sleep(0)
    stopping.set()
    await living

    assert door.heard[0][1]["type"] == AlarmHeartbeat.TYPE
