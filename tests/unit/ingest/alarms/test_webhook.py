"""The device door answers exactly as alerts.md 2.1 says, over real HTTP requests in memory."""

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from services.contracts import codec
from services.contracts.alarm import AlarmRaised
from services.ingest.alarms.publisher import Kept
from services.ingest.alarms.webhook import Webhook
from services.ingest.registry import Registry
from services.ingest.tokens import Tokens
from services.runtime.clock import FakeClock
from services.runtime.errors import RetryLater
from services.runtime.kafka_port import Outgoing

Post = Callable[..., Any]


class KeepingPublisher:
    """Acknowledges at once, or refuses, or waits."""

    def __init__(self) -> None:
        self.records: list[Outgoing] = []
        self.error: Exception | None = None
        self.open = asyncio.Event()
        self.open.set()

    async def publish(self, record: Outgoing) -> Kept:
        await self.open.wait()
        if self.error is not None:
            raise self.error
        self.records.append(record)
        return "acked"


@pytest.fixture
def publisher() -> KeepingPublisher:
    return KeepingPublisher()


@pytest.fixture
async def client(city: Registry, secrets_dir: Path, publisher: KeepingPublisher, clock: FakeClock) -> Any:
    async with a_door(city, secrets_dir, publisher, clock) as client:
        yield client


@pytest.fixture
async def other_client(city: Registry, secrets_dir: Path, publisher: KeepingPublisher, clock: FakeClock) -> Any:
    async with a_door(city, secrets_dir, publisher, clock) as client:
        yield client


def a_door(city: Registry, secrets_dir: Path, publisher: KeepingPublisher, clock: FakeClock) -> TestClient[Any, Any]:
    app = web.Application()
    Webhook(
        registry=lambda: city,
        tokens=Tokens(secrets_dir, clock),
        publisher=publisher,  # type: ignore[arg-type]  # a verified part of the real one's interface
        clock=clock,
    ).add_routes(app)
    return TestClient(TestServer(app))


def event(**changes: Any) -> dict[str, Any]:
    return {
        "specversion": "1.0",
        "id": "press-1",
        "source": "/devices/mapo-01-bell",
        "type": AlarmRaised.TYPE,
        "data": {"condition": {"topic": "kr.safealley/Bell", "active": True}},
    } | changes


async def post(
    client: Any,
    body: Any = None,
    *,
    token: str | None = "bell-token",  # noqa: S107 - a token of this test
    **headers: str,
) -> tuple[int, Any]:
    sent = {"Content-Type": "application/cloudevents+json"} | headers
    if token is not None:
        sent["Authorization"] = f"Bearer {token}"
    data = body if isinstance(body, bytes) else json.dumps(event() if body is None else body).encode()
    async with client.post("/api/v1/alarms", data=data, headers=sent) as answer:
        return answer.status, await answer.json()


async def test_a_press_is_answered_202_with_its_id_and_written_under_its_site(
    client: Any, publisher: KeepingPublisher
) -> None:
    assert await post(client) == (202, {"id": "press-1"})

    (record,) = publisher.records
    assert (record.topic, record.key) == ("alarms", "mapo-01")
    assert codec.decode_event(record.headers, bytes(record.value or b"")).envelope.id == "press-1"


async def test_the_callers_trace_context_goes_into_the_record(client: Any, publisher: KeepingPublisher) -> None:
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    await post(client, traceparent=trace)

    written = dict(publisher.records[0].headers)["traceparent"].decode()
    assert written.split("-")[1] == trace.split("-")[1]


async def test_a_repeat_is_acknowledged_again_and_sent_once(client: Any, publisher: KeepingPublisher) -> None:
    assert await post(client) == await post(client) == (202, {"id": "press-1"})

    assert len(publisher.records) == 1


def pressed_at(second: int) -> dict[str, Any]:
    return event(time=f"2026-05-01T12:00:{second:02}Z")


async def test_other_words_under_a_used_id_are_kept_under_an_id_of_their_own(
    client: Any, publisher: KeepingPublisher
) -> None:
    said = [pressed_at(0), pressed_at(1), pressed_at(1), pressed_at(2), pressed_at(0)]
    answers = [await post(client, one) for one in said]

    assert [status for status, _ in answers] == [202] * 5
    ids = [answer["id"] for _, answer in answers]
    assert ids[0] == ids[4] == "press-1"
    assert ids[1] == ids[2]
    assert len(set(ids)) == 3
    kept = [codec.decode_event(record.headers, bytes(record.value or b"")) for record in publisher.records]
    assert [one.envelope.id for one in kept] == [ids[0], ids[1], ids[3]]


async def test_the_own_id_is_the_same_in_every_life_of_the_door(
    client: Any, other_client: Any, publisher: KeepingPublisher
) -> None:
    for one in (client, other_client):
        await post(one, pressed_at(0))
        await post(one, pressed_at(1))

    ids = [dict(record.headers)["ce_id"] for record in publisher.records]
    assert ids[:2] == ids[2:]


async def test_a_repeat_waits_for_the_first_one_to_be_kept(client: Any, publisher: KeepingPublisher) -> None:
    publisher.open.clear()
    posts = [asyncio.create_task(post(client)) for _ in range(3)]
    await asyncio.wait(posts, timeout=0.05)
    assert not any(one.done() for one in posts)
    publisher.open.set()

    assert [status for status, _ in await asyncio.gather(*posts)] == [202, 202, 202]
    assert len(publisher.records) == 1


@pytest.mark.parametrize(
    ("body", "token", "status", "error"),
    [
        pytest.param(b"{", "bell-token", 400, "malformed", id="bad JSON"),
        pytest.param(b'{"data": ' + b"[" * 1000, "bell-token", 400, "malformed", id="nested deeply"),
        pytest.param(event(data={}), "bell-token", 400, "malformed", id="no condition"),
        pytest.param(event(), None, 401, "token", id="no token"),
        pytest.param(event(), "wrong", 401, "token", id="a wrong token"),
        pytest.param(b"{", "wrong", 401, "token", id="a wrong token is said before bad JSON"),
        pytest.param(event(), "light-token", 403, "another_device", id="another device's token"),
        pytest.param(event(source="/devices/nobody"), "bell-token", 404, "unknown_device", id="an unknown device"),
        pytest.param(b" " * 65_537, "bell-token", 413, "too_large", id="above 64 KiB"),
    ],
)
async def test_each_refusal_has_its_status_and_its_word(
    client: Any, body: Any, token: str | None, status: int, error: str
) -> None:
    found, said = await post(client, body, token=token)

    assert (found, said["error"]) == (status, error)


async def test_a_chunked_body_is_cut_at_the_same_size(client: Any) -> None:
    async def parts() -> Any:
        for _ in range(10):
            yield b" " * 8192

    headers = {"Authorization": "Bearer bell-token", "Content-Type": "application/cloudevents+json"}
    async with client.post("/api/v1/alarms", data=parts(), headers=headers) as answer:
        assert answer.status == 413


async def test_what_nobody_kept_is_answered_503_and_may_be_sent_again(client: Any, publisher: KeepingPublisher) -> None:
    publisher.error = RetryLater("the press spool is full")
    assert (await post(client))[0] == 503
    publisher.error = None

    assert (await post(client))[0] == 202


async def test_before_the_registry_is_known_a_bell_is_asked_to_ring_again(
    publisher: KeepingPublisher, secrets_dir: Path, clock: FakeClock
) -> None:
    app = web.Application()
    Webhook(
        registry=lambda: None,
        tokens=Tokens(secrets_dir, clock),
        publisher=publisher,  # type: ignore[arg-type]  # a verified part of the real one's interface
        clock=clock,
    ).add_routes(app)
    async with TestClient(TestServer(app)) as client:
        assert (await post(client))[0] == 503


async def test_a_changed_token_counts_from_the_next_press_on(client: Any, secrets_dir: Path) -> None:
    assert (await post(client))[0] == 202
    (secrets_dir / "mapo-01-bell").write_text('{"token": "another-token"}')

    assert (await post(client))[0] == 401


async def test_a_new_token_is_found_after_a_second(client: Any, secrets_dir: Path, clock: FakeClock) -> None:
    assert (await post(client, token="new-token"))[0] == 401
    (secrets_dir / "mapo-01-bell").write_text('{"token": "new-token"}')
    await clock.advance(1)

    assert (await post(client, token="new-token"))[0] == 202


async def test_an_answer_never_repeats_a_token(client: Any) -> None:
    for token in ("canary-token", "bell-token"):
        _, said = await post(client, b"{", token=token)
        assert token not in msgspec.json.encode(said).decode()
