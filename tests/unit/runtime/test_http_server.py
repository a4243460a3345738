"""What every door does alike: who may call, how a refusal reads, ids, limits, headers, one line."""

import asyncio
import io
import json
import re
import resource
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from msgspec import Struct
from structlog.testing import capture_logs

from services.contracts.console import Problem
from services.contracts.errors import MalformedMessage
from services.runtime import http_server
from services.runtime import log as logs
from services.runtime.clock import FakeClock
from services.runtime.errors import OwnershipLost, PoisonMessage, RetryLater, SettingsError
from services.runtime.http_server import (
    DATA_CSP,
    PAGE_CSP,
    SESSION_COOKIE,
    Refusal,
    TraceparentKey,
    caller_of,
    child_traceparent,
    clear_session,
    json_response,
    make_app,
    public,
    quiet,
    read_body,
    refuse,
    serve,
    set_session,
)
from services.runtime.identity import DemoIssuer, Identity
from services.runtime.metrics import REGISTRY
from services.runtime.settings import IdentitySettings, ListenSettings

ORIGIN = "http://127.0.0.1:8080"
Lines = Callable[[], list[dict[str, Any]]]
LOOPBACK = ListenSettings(port=0)


class Note(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    text: str


class Door:
    """A running door and a client of it."""

    def __init__(self, http: aiohttp.ClientSession, tokens: dict[Any, str], lines: Lines) -> None:
        self.http = http
        self.tokens = tokens
        self.lines = lines

    def bearer(self, role: str = "operator") -> dict[str, str]:
        return {"Authorization": f"Bearer {self.tokens[role]}"}

    def cookie(self) -> dict[str, str]:
        return {"Cookie": f"{SESSION_COOKIE}={self.tokens['operator']}"}

    async def ask(self, method: str, path: str, **options: Any) -> tuple[int, dict[str, Any], Any]:
        async with self.http.request(method, path, **options) as answer:
            body = await answer.read()
            return answer.status, json.loads(body) if body[:1] == b"{" else {}, answer.headers


def add_routes(app: web.Application) -> None:
    """Add a handler for each thing a door can do."""

    async def whoami(request: web.Request) -> web.Response:
        return json_response({"account": caller_of(request).account, "trace": request[TraceparentKey]})

    @public
    async def page(_request: web.Request) -> web.Response:
        return web.Response(text="<p>", content_type="text/html")

    @quiet
    @public
    async def probe(_request: web.Request) -> web.Response:
        return json_response({})

    async def note(request: web.Request) -> web.Response:
        return json_response(await read_body(request, Note))

    async def fail(request: web.Request) -> web.Response:
        raise FAILURES[request.match_info["how"]]

    async def socket_handler(request: web.Request) -> web.WebSocketResponse:
        answer = web.WebSocketResponse()
        await answer.prepare(request)
        await answer.close()
        return answer

    async def sent(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b"part")
        raise ZeroDivisionError

    async def sign_in(_request: web.Request) -> web.Response:
        response = json_response({})
        set_session(response, "t", secure=True, max_age_s=60)
        return response

    async def sign_out(_request: web.Request) -> web.Response:
        response = json_response({})
        clear_session(response, secure=True)
        return response

    async def away(_request: web.Request) -> web.Response:
        raise web.HTTPFound("/page")

    app.router.add_get("/whoami", whoami)
    app.router.add_get("/page", page)
    app.router.add_get("/probe", probe)
    app.router.add_post("/note", note)
    app.router.add_get("/fail/{how}", fail)
    app.router.add_get("/socket", socket_handler)
    app.router.add_get("/sent", sent)
    app.router.add_post("/in", public(sign_in))
    app.router.add_post("/out", public(sign_out))
    app.router.add_get("/away", public(away))


FAILURES: dict[str, Exception] = {
    "refusal": Refusal(409, Problem(error="conflict", detail="lee was first", winner="lee"), headers={"X-Y": "1"}),
    "refuse": refuse(429, "wait"),
    "malformed": MalformedMessage("text is missing at $.text"),
    "poison": PoisonMessage("larger than the topic takes"),
    "later": RetryLater("no answer from rtsp://u:hunter2@h/a"),
    "lost": OwnershipLost("another has it"),
    "time": TimeoutError(),
    "mistake": ZeroDivisionError("hunter2 in a payload"),
}


@asynccontextmanager
async def opened(directory: Path) -> AsyncIterator[Door]:
    out = io.BytesIO()
    logs.configure("gateway", out=out)
    clock = FakeClock()
    issuer = DemoIssuer(directory, clock=clock)
    identity = Identity.from_settings(IdentitySettings(jwks_file=issuer.jwks_file), clock=clock)
    app = make_app(identity=identity, clock=clock, origins={ORIGIN}, body_bytes_max=100)
    add_routes(app)
    async with (
        serve(app, LOOPBACK) as port,
        aiohttp.ClientSession(f"http://127.0.0.1:{port}", cookie_jar=aiohttp.DummyCookieJar()) as http,
    ):
        yield Door(http, dict(issuer.tokens()), lambda: [json.loads(line) for line in out.getvalue().splitlines()])


@pytest.fixture
def door(tmp_path: Path) -> AbstractAsyncContextManager[Door]:
    return opened(tmp_path)


Opened = AbstractAsyncContextManager[Door]


async def test_a_caller_with_a_token_is_known(door: Opened) -> None:
    async with door as here:
        status, body, _ = await here.ask("GET", "/whoami", headers=here.bearer())
        assert (status, body["account"]) == (200, "demo-operator")


async def test_a_caller_with_the_session_cookie_is_known(door: Opened) -> None:
    async with door as here:
        status, body, _ = await here.ask("GET", "/whoami", headers=here.cookie())
        assert (status, body["account"]) == (200, "demo-operator")


@pytest.mark.parametrize(
    "headers",
    [{}, {"Authorization": "Bearer x.y.z"}, {"Authorization": "Basic dTpw"}, {"Cookie": f"{SESSION_COOKIE}=x"}],
    ids=["nothing", "a bad token", "another scheme", "a bad cookie"],
)
async def test_a_caller_who_is_not_believed_gets_401(headers: dict[str, str], door: Opened) -> None:
    async with door as here:
        status, body, answered = await here.ask("GET", "/whoami", headers=headers)
        assert (status, body["error"]) == (401, "not_authenticated")
        assert answered["WWW-Authenticate"] == "Bearer"


async def test_a_public_page_comes_up_with_a_stale_cookie(door: Opened) -> None:
    async with door as here:
        assert (await here.ask("GET", "/page", headers={"Cookie": f"{SESSION_COOKIE}=stale"}))[0] == 200


@asynccontextmanager
async def connected(port: int) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """Connect without a client that would hide what stands on the wire."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield reader, writer
    finally:
        writer.close()


async def rest_of(reader: asyncio.StreamReader) -> bytes:
    """Return what comes next, at the latest when the connection has ended."""
    with suppress(ConnectionResetError):
        return await reader.read(4096)
    return b""


# --- origin -----------------------------------------------------------------------------------


async def test_a_page_of_another_origin_is_refused_even_with_a_good_token(door: Opened) -> None:
    async with door as here:
        for origin in ("http://evil", "http://127.0.0.1:8081", "https://127.0.0.1:8080", "null"):
            status, body, _ = await here.ask("GET", "/whoami", headers={**here.bearer(), "Origin": origin})
            assert (status, body["error"]) == (403, "origin_refused")


async def test_a_command_with_the_cookie_needs_an_origin(door: Opened) -> None:
    async with door as here:
        sent = {"data": b'{"text": "a"}'}
        assert (await here.ask("POST", "/note", headers=here.cookie(), **sent))[1]["error"] == "origin_missing"
        assert (await here.ask("POST", "/note", headers={**here.cookie(), "Origin": ORIGIN}, **sent))[0] == 200
        assert (await here.ask("POST", "/note", headers=here.bearer(), **sent))[0] == 200


async def test_a_socket_with_the_cookie_needs_an_origin_and_one_with_a_token_does_not(door: Opened) -> None:
    async with door as here:
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            await here.http.ws_connect("/socket", headers=here.cookie())
        assert refused.value.status == 403
        for headers in ({**here.cookie(), "Origin": ORIGIN}, here.bearer()):
            await (await here.http.ws_connect("/socket", headers=headers)).close()


# --- refusals ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("how", "status", "error", "detail"),
    [
        ("refusal", 409, "conflict", "lee was first"),
        ("refuse", 429, "too_many", "wait"),
        ("malformed", 400, "malformed", "text is missing at $.text"),
        ("poison", 422, "unprocessable", "larger than the topic takes"),
        ("later", 503, "unavailable", "no answer from rtsp://***@h/a"),
        ("lost", 503, "unavailable", "another has it"),
        ("time", 503, "unavailable", "took too long: try again"),
    ],
)
async def test_each_error_of_ours_has_its_answer(how: str, status: int, error: str, detail: str, door: Opened) -> None:
    async with door as here:
        got, body, headers = await here.ask("GET", f"/fail/{how}", headers=here.bearer())
        assert (got, body["error"], body["detail"]) == (status, error, detail)
        assert headers["Content-Type"].startswith("application/json")
        assert ("Retry-After" in headers) == (status == 503)


async def test_a_refusal_keeps_its_headers_and_its_facts(door: Opened) -> None:
    async with door as here:
        _, body, headers = await here.ask("GET", "/fail/refusal", headers=here.bearer())
        assert (body["winner"], headers["X-Y"]) == ("lee", "1")


async def test_our_own_mistake_tells_a_request_id_and_nothing_else(door: Opened) -> None:
    async with door as here:
        status, body, headers = await here.ask("GET", "/fail/mistake", headers=here.bearer())
        assert (status, body["error"]) == (500, "internal")
        assert headers["X-Request-Id"] in body["detail"]
        assert "hunter2" not in body["detail"]
        assert "ZeroDivision" not in body["detail"]
        assert [line["event"] for line in here.lines()] == ["http.request_failed", "http.request_answered"]


@pytest.mark.parametrize(
    ("method", "path", "status", "error"),
    [("GET", "/nowhere", 404, "not_found"), ("DELETE", "/note", 405, "method_not_allowed")],
)
async def test_a_wrong_address_is_a_problem_too(method: str, path: str, status: int, error: str, door: Opened) -> None:
    async with door as here:
        got, body, headers = await here.ask(method, path, headers=here.bearer())
        assert (got, body["error"]) == (status, error)
        assert headers.get("Allow") == ("POST" if status == 405 else None)


async def test_a_body_beyond_the_limit_is_a_problem_too(door: Opened) -> None:
    async with door as here:
        got, body, _ = await here.ask("POST", "/note", headers=here.bearer(), data=b"x" * 101)
        assert (got, body["error"]) == (413, "too_large")


@pytest.mark.parametrize("sent", [b"", b"{", b"\xff", b'{"text": 7}', b'{"txt": "hunter2"}', b'["hunter2"]'])
async def test_a_wrong_body_is_refused_without_being_repeated(sent: bytes, door: Opened) -> None:
    async with door as here:
        got, body, _ = await here.ask("POST", "/note", headers=here.bearer(), data=sent)
        assert (got, body["error"]) == (400, "malformed")
        assert "hunter2" not in body["detail"]


async def test_a_redirect_is_no_refusal(door: Opened) -> None:
    async with door as here:
        assert (await here.ask("GET", "/away", allow_redirects=False))[0] == 302


async def test_an_answer_that_broke_half_way_is_cut_off(door: Opened) -> None:
    async with door as here:
        with pytest.raises(aiohttp.ClientError):
            await here.ask("GET", "/sent", headers=here.bearer())


@pytest.mark.parametrize("how", FAILURES)
async def test_an_answer_that_has_begun_is_cut_off_by_any_error_and_nothing_is_written_into_it(how: str) -> None:
    first_part_came = asyncio.Event()

    async def footage(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": "1000"})
        await response.prepare(request)
        await response.write(b"footage")
        await first_part_came.wait()
        raise FAILURES[how]

    app = make_app(identity=None, clock=FakeClock())
    app.router.add_get("/footage", footage)
    async with serve(app, LOOPBACK) as port, asyncio.timeout(10), connected(port) as (reader, writer):
        writer.write(b"GET /footage HTTP/1.1\r\nHost: here\r\n\r\n")
        await reader.readuntil(b"\r\n\r\nfootage")
        with capture_logs() as lines:
            first_part_came.set()
            assert await rest_of(reader) == b""
    (told,) = (entry for entry in lines if entry["event"] == "http.answer_cut_off")
    assert (told["route"], told["reason"]) == ("/footage", str(FAILURES[how]))
    assert told["log_level"] == ("error" if how == "mistake" else "warning")


async def test_a_caller_who_stops_reading_is_cut_off_and_the_handler_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_server, "SEND_STALLED_MS", 500)
    ended: asyncio.Future[type[BaseException]] = asyncio.get_running_loop().create_future()

    async def endless(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        try:
            while True:
                await response.write(bytes(1024 * 1024))
        except BaseException as error:
            ended.set_result(type(error))
            raise

    app = make_app(identity=None, clock=FakeClock())
    app.router.add_get("/endless", endless)
    async with serve(app, LOOPBACK) as port:
        with socket.create_connection(("127.0.0.1", port)) as deaf:
            deaf.sendall(b"GET /endless HTTP/1.1\r\nHost: here\r\n\r\n")
            async with asyncio.timeout(10):
                assert issubclass(await ended, ConnectionError)


# --- connections --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "sent",
    [b"", b"GET /note HTT", b"GET /note HTTP/1.1\r\nHost: here\r\n", b"GET /note HTTP/1.1\r\nHost: here\r\n\r\n"],
    ids=["nothing", "half a line", "half a head", "one request"],
)
async def test_a_connection_that_brings_no_further_request_is_ended(
    sent: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    is_whole = sent.endswith(b"\r\n\r\n")
    monkeypatch.setattr(http_server, "IDLE_S", 1.0 if is_whole else 0.1)
    app = make_app(identity=None, clock=FakeClock())
    async with serve(app, LOOPBACK) as port, asyncio.timeout(5), connected(port) as (reader, writer):
        writer.write(sent)
        answer = await reader.read()
    assert answer[:12] == (b"HTTP/1.1 404" if is_whole else b"")


async def test_a_body_that_does_not_come_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_server, "BODY_S", 0.1)
    app = make_app(identity=None, clock=FakeClock())
    add_routes(app)
    async with serve(app, LOOPBACK) as port, asyncio.timeout(5), connected(port) as (reader, writer):
        writer.write(b"POST /note HTTP/1.1\r\nHost: here\r\nContent-Length: 9\r\n\r\n{")
        assert (await reader.readline()).startswith(b"HTTP/1.1 503")


async def test_connections_beyond_the_bound_are_ended_and_counted_until_one_leaves(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(http_server, "connections_max", lambda: 2)
    refused_before = refused_connections()
    app = make_app(identity=None, clock=FakeClock())
    add_routes(app)
    async with serve(app, LOOPBACK) as port, asyncio.timeout(5), connected(port) as first:
        assert await probed(*first)
        async with connected(port) as second:
            assert await probed(*second)
            assert not await served(port)
        assert refused_connections() == refused_before + 1
        while not await served(port):  # until the server has seen the second one leave
            continue


def test_three_servers_leave_a_quarter_of_the_open_files_to_the_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    for soft, expected in ((1024, 256), (20_000, 4096)):
        monkeypatch.setattr(resource, "getrlimit", lambda _which, soft=soft: (soft, soft))
        assert http_server.connections_max() == expected


async def probed(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
    """Tell whether a request is answered."""
    writer.write(b"GET /probe HTTP/1.1\r\nHost: here\r\n\r\n")
    return (await rest_of(reader)).startswith(b"HTTP/1.1 200")


async def served(port: int) -> bool:
    """Tell whether a new connection is answered."""
    async with connected(port) as fresh:
        return await probed(*fresh)


def refused_connections() -> float:
    return REGISTRY.get_sample_value("safealley_http_connections_refused_total") or 0.0


# --- ids, headers, the one line ---------------------------------------------------------------


async def test_a_request_keeps_the_id_and_the_trace_it_came_with(door: Opened) -> None:
    trace = "4bf92f3577b34da6a3ce929d0e0e4736"
    sent = {"X-Request-Id": "abc-1", "traceparent": f"00-{trace}-00f067aa0ba902b7-01"}
    async with door as here:
        _, body, headers = await here.ask("GET", "/whoami", headers={**here.bearer(), **sent})
        assert headers["X-Request-Id"] == "abc-1"
        assert headers["traceparent"] == body["trace"]
        assert body["trace"].startswith(f"00-{trace}-")
        assert "00f067aa0ba902b7" not in body["trace"]
        (line,) = here.lines()
        assert (line["trace_id"], line["request_id"]) == (trace, "abc-1")


@pytest.mark.parametrize("incoming", [None, "", "x", "00-" + "0" * 32 + "-00f067aa0ba902b7-01", "ff-" + "a" * 32])
def test_a_trace_that_is_none_begins_anew(incoming: str | None) -> None:
    assert re.fullmatch(r"00-[0-9a-f]{32}-[0-9a-f]{16}-01", child_traceparent(incoming))


async def test_a_request_id_that_could_forge_a_line_is_replaced(door: Opened) -> None:
    async with door as here:
        _, _, headers = await here.ask("GET", "/page", headers={"X-Request-Id": 'a" b'})
        assert re.fullmatch(r"[0-9a-f]{16}", headers["X-Request-Id"])


async def test_a_request_is_one_line_with_its_route_and_without_its_query(door: Opened) -> None:
    async with door as here:
        await here.ask("GET", "/fail/refuse?token=hunter2", headers=here.bearer())
        (line,) = here.lines()
        assert line["event"] == "http.request_answered"
        assert (line["method"], line["route"], line["status"]) == ("GET", "/fail/{how}", 429)
        assert line["account"] == "demo-operator"
        assert "hunter2" not in json.dumps(line)


async def test_a_probe_is_not_logged(door: Opened) -> None:
    async with door as here:
        await here.ask("GET", "/probe")
        assert here.lines() == []


async def test_a_page_and_an_answer_each_have_their_security_headers(door: Opened) -> None:
    async with door as here:
        _, _, page = await here.ask("GET", "/page")
        _, _, refused = await here.ask("GET", "/nowhere")
        assert (page["Content-Security-Policy"], refused["Content-Security-Policy"]) == (PAGE_CSP, DATA_CSP)
        for headers in (page, refused):
            assert headers["X-Content-Type-Options"] == "nosniff"
            assert headers["Referrer-Policy"] == "no-referrer"
            assert headers["Cache-Control"] == "no-store"
            assert headers["Server"] == "safealley"


async def test_the_session_cookie_is_out_of_reach_of_scripts_and_other_sites(door: Opened) -> None:
    async with door as here:
        _, _, signed_in = await here.ask("POST", "/in")
        assert signed_in["Set-Cookie"].split("; ")[0] == f"{SESSION_COOKIE}=t"
        assert {"HttpOnly", "Secure", "SameSite=Strict", "Path=/", "Max-Age=60"} <= set(
            signed_in["Set-Cookie"].split("; ")
        )
        _, _, signed_out = await here.ask("POST", "/out")
        assert "Max-Age=0" in signed_out["Set-Cookie"]


# --- ports ------------------------------------------------------------------------------------


async def test_a_busy_port_is_named_with_its_cure() -> None:
    app = make_app(identity=None, clock=FakeClock())
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(
            SettingsError, match=f"^port {port} is in use by another program: stop it or set gateway.port$"
        ):
            await serve(app, ListenSettings(port=port), setting="gateway.port").__aenter__()


async def test_an_address_of_another_machine_is_named_with_its_cure() -> None:
    app = make_app(identity=None, clock=FakeClock())
    with pytest.raises(SettingsError, match=r"192\.0\.2\.1 is no address of this machine: set gateway\.host"):
        await serve(app, ListenSettings(host="192.0.2.1", port=0), setting="gateway.port").__aenter__()
