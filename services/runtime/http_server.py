"""What every HTTP door shares: who calls, what went wrong, ids, limits, headers, one log line each.

A route is closed unless its handler is marked `@public`. Handlers raise; the middlewares answer:
every refusal is a `Problem` in JSON, never a traceback and never the payload.
"""

import asyncio
import errno
import re
import resource
import secrets
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from contextlib import asynccontextmanager, closing
from typing import Any, Final, NoReturn, TypeVar, cast

import msgspec
import structlog
from aiohttp import web
from aiohttp.typedefs import Handler, Middleware
from msgspec import Struct

from services.contracts.codec import decode
from services.contracts.console import Problem
from services.contracts.errors import ContractError
from services.runtime import metrics, tracing
from services.runtime.clock import Clock
from services.runtime.errors import OwnershipLost, PoisonMessage, RetryLater, SettingsError
from services.runtime.identity import Caller, Identity, NotAuthenticated
from services.runtime.log import redact_text
from services.runtime.settings import ListenSettings, OpsSettings

log = structlog.get_logger()

T = TypeVar("T")
H = TypeVar("H", bound=Callable[..., Awaitable[web.StreamResponse]])

CallerKey: Final = web.RequestKey("caller", Caller)
RequestIdKey: Final = web.RequestKey("request_id", str)
TraceparentKey: Final = web.RequestKey("traceparent", str)
AnsweringKey: Final = web.RequestKey("answering", bool)
ViaCookieKey: Final = web.RequestKey("via_cookie", bool)

SESSION_COOKIE: Final = "safealley_session"
BODY_BYTES_MAX: Final = 1024 * 1024
SHUTDOWN_S: Final = 5.0
IDLE_S: Final = 75.0
"""How long a connection may wait for its first or next whole request head. Proxies (60 s) and our own clients
(15 s) let go sooner, so that none of their requests meets a door that closes."""
BODY_S: Final = 30.0
CONNECTIONS_MAX: Final = 4096
OPEN_FILES_SHARE: Final = 4
SEND_STALLED_MS: Final = 30_000
"""How long bytes of an answer may wait for a caller who takes none; then the kernel ends the connection."""

PAGE_CSP: Final = (
    "default-src 'self'; connect-src 'self'; img-src 'self' blob: data:; media-src 'self' blob:; "
    "worker-src 'self' blob:; object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
DATA_CSP: Final = "default-src 'none'; frame-ancestors 'none'"

_SAFE_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS"})
_REQUEST_ID: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")
_WORDS: Final = {
    400: "malformed",
    401: "not_authenticated",
    403: "forbidden",
    404: "not_found",
    405: "method_not_allowed",
    409: "conflict",
    411: "length_required",
    413: "too_large",
    415: "unsupported_media_type",
    422: "unprocessable",
    426: "upgrade_required",
    429: "too_many",
    503: "unavailable",
}


class Refusal(Exception):
    """A handler's no: the status and the body of the answer."""

    def __init__(self, status: int, problem: Problem, *, headers: dict[str, str] | None = None) -> None:
        super().__init__(problem.detail)
        self.status = status
        self.problem = problem
        self.headers = headers or {}


def refuse(status: int, detail: str, *, error: str | None = None) -> Refusal:
    """Return a refusal; its word comes from the status unless given."""
    return Refusal(status, Problem(error=error or _WORDS.get(status, "refused"), detail=detail))


def make_app(
    *,
    identity: Identity | None,
    clock: Clock,
    origins: Collection[str] = (),
    body_bytes_max: int = BODY_BYTES_MAX,
) -> web.Application:
    """Return an application with everything in this module switched on.

    `identity` None: no one is asked who they are (ops port, device door). `origins`: the pages that
    may call, each with its port; never derived from `Host` (console.md 5.5).
    """
    app = web.Application(
        middlewares=[_observe(clock), _answer_errors, _check_caller(identity, origins)],
        client_max_size=body_bytes_max,
    )
    app.on_response_prepare.append(_add_headers)
    app.on_response_prepare.append(_bound_sending)
    return app


@asynccontextmanager
async def serve(
    app: web.Application, listen: ListenSettings | OpsSettings, *, setting: str = "listen.port"
) -> AsyncIterator[int]:
    """Serve while the block runs; yields the port, which the kernel chose when settings say 0.

    A connection beyond `connections_max`, or one that brings no whole request head for `IDLE_S`, is ended.

    Raises:
        SettingsError: the port is in use or not ours to take; `setting` is what to change.
    """
    runner = web.AppRunner(
        app, handle_signals=False, access_log=None, shutdown_timeout=SHUTDOWN_S, keepalive_timeout=IDLE_S
    )
    await runner.setup()
    try:
        with closing(await _listen(runner, listen, setting)) as listening:
            yield int(listening.sockets[0].getsockname()[1])
    finally:
        await runner.cleanup()


def connections_max() -> int:
    """Return how many connections one server may have.

    No process has more than three servers: a quarter of its descriptors is left for cameras, Kafka and files.
    """
    return min(CONNECTIONS_MAX, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // OPEN_FILES_SHARE)


def public(handler: H) -> H:
    """Mark a handler that anyone may call."""
    handler.safealley_public = True  # type: ignore[attr-defined]
    return handler


def quiet(handler: H) -> H:
    """Mark a handler whose requests are not logged one by one: probes and scrapes."""
    handler.safealley_quiet = True  # type: ignore[attr-defined]
    return handler


def caller_of(request: web.Request) -> Caller:
    """Return who calls.

    Raises:
        Refusal: 401, nobody is signed in.
    """
    caller: Caller | None = request.get(CallerKey)
    if caller is None:
        raise refuse(401, "sign in, or send 'Authorization: Bearer <token>'")
    return caller


async def read_bytes(request: web.Request) -> bytes:
    """Return the body.

    Raises:
        TimeoutError: it did not come within `BODY_S`.
    """
    async with asyncio.timeout(BODY_S):
        return await request.read()


async def read_body(request: web.Request, into: type[T]) -> T:
    """Return the JSON body as its type.

    Raises:
        Refusal: 400, not JSON or not of this type; says where and what was expected, never the value.
        TimeoutError: it did not come within `BODY_S`.
    """
    body = await read_bytes(request)
    try:
        return decode(body, into)
    except ContractError as error:
        raise refuse(400, str(error)) from None


def json_response(body: Struct | dict[str, Any] | list[Any], *, status: int = 200) -> web.Response:
    """Return a body as JSON."""
    return web.Response(body=msgspec.json.encode(body), status=status, content_type="application/json")


def set_session(response: web.StreamResponse, token: str, *, secure: bool, max_age_s: int) -> None:
    """Sign a browser in: the cookie is the signed token, there is no store behind it."""
    response.set_cookie(
        SESSION_COOKIE, token, max_age=max_age_s, path="/", httponly=True, samesite="Strict", secure=secure
    )


def clear_session(response: web.StreamResponse, *, secure: bool) -> None:
    """Sign a browser out."""
    response.del_cookie(SESSION_COOKIE, path="/", httponly=True, samesite="Strict", secure=secure)


def token_of(request: web.BaseRequest) -> tuple[str | None, bool]:
    """Return the token a request brings and whether it came in the cookie. A header wins."""
    scheme, _, value = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() == "bearer" and value.strip():
        return value.strip(), False
    cookie = request.cookies.get(SESSION_COOKIE)
    return (cookie, True) if cookie else (None, False)


def check_origin(request: web.BaseRequest, origins: Collection[str], *, via_cookie: bool) -> None:
    """Refuse another site's page: `Origin` counts where it is sent, and must be sent where a cookie acts.

    Raises:
        Refusal: 403.
    """
    origin = request.headers.get("Origin")
    acts = request.method not in _SAFE_METHODS or request.headers.get("Upgrade", "").lower() == "websocket"
    if origin is None:
        if via_cookie and acts:
            raise refuse(403, "a request with the session cookie needs an Origin", error="origin_missing")
        return
    if origin not in origins:
        raise refuse(403, "this page's origin is not on the list: add it to origins", error="origin_refused")


def child_traceparent(incoming: str | None) -> str:
    """Return the `traceparent` of our own span: of the caller's trace, or of a new one."""
    parent = tracing.parse(incoming)
    return str(parent.child() if parent else tracing.new_trace(sampled=True))


# --- middlewares, outermost first -------------------------------------------------------------


def _observe(clock: Clock) -> Middleware:
    @web.middleware
    async def observe(request: web.Request, handler: Handler) -> web.StreamResponse:
        """Give the request its ids and write its one line."""
        sent_id = request.headers.get("X-Request-Id", "")
        request[RequestIdKey] = sent_id if _REQUEST_ID.fullmatch(sent_id) else secrets.token_hex(8)
        request[TraceparentKey] = child_traceparent(request.headers.get("traceparent"))
        _, trace_id, span_id, _ = request[TraceparentKey].split("-")
        started_ns = clock.monotonic_ns()
        with structlog.contextvars.bound_contextvars(trace_id=trace_id, span_id=span_id):
            response = await handler(request)
            _say(request, response, (clock.monotonic_ns() - started_ns) / 1e9)
        return response

    return observe


def _say(request: web.Request, response: web.StreamResponse, seconds: float) -> None:
    metrics.HTTP_REQUESTS_TOTAL.labels(status=f"{response.status // 100}xx").inc()
    if not isinstance(response, web.WebSocketResponse):
        metrics.HTTP_REQUEST_SECONDS.observe(seconds)
    if _marked(request, "safealley_quiet") and response.status < 500:
        return
    caller = request.get(CallerKey)
    log.info(
        "http.request_answered",
        method=request.method,
        route=_route(request),
        status=response.status,
        duration_ms=round(seconds * 1000, 1),
        request_id=request[RequestIdKey],
        account=caller.account if caller else None,
    )


def _route(request: web.Request) -> str:
    """Return the route as it is written: what a caller put into it is not for the log."""
    resource = request.match_info.route.resource
    return resource.canonical if resource is not None else "unknown"


@web.middleware
async def _answer_errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Turn every error into a Problem, or cut the caller off: a Problem would stand inside an answer that has begun."""
    try:
        return await handler(request)
    except ConnectionError:
        raise  # the caller has left: aiohttp closes
    except Exception as error:
        if isinstance(error, web.HTTPException) and error.status < 400:
            raise  # a redirect
        answer = _answer_to(error)
        if AnsweringKey in request:
            _cut_off(request, error, foreseen=answer is not None)
        if answer is not None:
            return answer
        # A request is a loop we own: our mistake fails this answer, not the others.
        log.exception("http.request_failed", request_id=request[RequestIdKey])
        detail = f"our mistake; the log tells more under request id {request[RequestIdKey]}"
        return _problem(500, Problem(error="internal", detail=detail))


def _answer_to(error: Exception) -> web.Response | None:
    """Return what a caller is told of an error; None for a mistake of ours."""
    match error:
        case Refusal():
            return _problem(error.status, error.problem, error.headers)
        case web.HTTPException():
            return _of_http(error)
        case ContractError():
            return _problem(400, Problem(error="malformed", detail=redact_text(str(error))))
        case PoisonMessage():
            return _problem(422, Problem(error="unprocessable", detail=redact_text(error.reason)))
        case RetryLater() | OwnershipLost() | TimeoutError():
            detail = redact_text(str(error)) or "took too long: try again"
            return _problem(503, Problem(error="unavailable", detail=detail), {"Retry-After": "1"})
    return None


def _cut_off(request: web.Request, error: Exception, *, foreseen: bool) -> NoReturn:
    tell = log.warning if foreseen else log.exception
    tell("http.answer_cut_off", route=_route(request), reason=str(error), request_id=request[RequestIdKey])
    if request.transport is not None:
        request.transport.abort()
    raise ConnectionAbortedError("an answer failed after it had begun") from error


def _check_caller(identity: Identity | None, origins: Collection[str]) -> Middleware:
    @web.middleware
    async def check_caller(request: web.Request, handler: Handler) -> web.StreamResponse:
        """Believe or refuse the token; look at `Origin`."""
        if request.match_info.http_exception is not None:
            raise request.match_info.http_exception
        token, via_cookie = token_of(request) if identity is not None else (None, False)
        check_origin(request, origins, via_cookie=via_cookie)
        if identity is not None:
            _believe(request, identity, token, via_cookie=via_cookie)
        return await handler(request)

    return check_caller


def _believe(request: web.Request, identity: Identity, token: str | None, *, via_cookie: bool) -> None:
    is_public = _marked(request, "safealley_public")
    request[ViaCookieKey] = via_cookie
    try:
        if token is not None:
            request[CallerKey] = identity.verify(token)
    except NotAuthenticated as error:
        # A page with a stale cookie must still come up, to let its user sign in again.
        if not is_public:
            raise _unauthenticated(str(error)) from None
    if not is_public and CallerKey not in request:
        raise _unauthenticated("sign in, or send 'Authorization: Bearer <token>'")


def _unauthenticated(detail: str) -> Refusal:
    return Refusal(401, Problem(error="not_authenticated", detail=detail), headers={"WWW-Authenticate": "Bearer"})


def _marked(request: web.Request, mark: str) -> bool:
    return bool(getattr(request.match_info.handler, mark, False))


def _of_http(error: web.HTTPException) -> web.Response:
    kept = {name: error.headers[name] for name in ("Allow", "Retry-After") if name in error.headers}
    details = {
        404: "there is nothing at this address",
        405: f"this address takes {error.headers.get('Allow', 'another method')}",
        413: "the body is larger than this address takes",
    }
    detail = details.get(error.status, error.reason)
    return _problem(error.status, Problem(error=_WORDS.get(error.status, "refused"), detail=detail), kept)


def _problem(status: int, problem: Problem, headers: dict[str, str] | None = None) -> web.Response:
    response = json_response(problem, status=status)
    response.headers.update(headers or {})
    return response


async def _add_headers(request: web.Request, response: web.StreamResponse) -> None:
    request[AnsweringKey] = True
    is_page = response.content_type == "text/html"
    response.headers.setdefault("Content-Security-Policy", PAGE_CSP if is_page else DATA_CSP)
    response.headers.setdefault("X-Content-Type-Options", "nosniff")
    response.headers.setdefault("Referrer-Policy", "no-referrer")
    response.headers.setdefault("Cross-Origin-Resource-Policy", "same-origin")
    response.headers.setdefault("Cache-Control", "no-store")
    response.headers["Server"] = "safealley"
    if RequestIdKey in request:
        response.headers["X-Request-Id"] = request[RequestIdKey]
        response.headers["traceparent"] = request[TraceparentKey]


async def _bound_sending(request: web.Request, _response: web.StreamResponse) -> None:
    """Let no caller who stops reading hold an answer for ever: aiohttp has no deadline for writing.

    The kernel counts from the last byte taken (tcp(7)), so that a slow caller is served to the end, also
    by sendfile, where this process sees no progress.
    """
    if request.transport is not None and (sock := request.transport.get_extra_info("socket")) is not None:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, SEND_STALLED_MS)


class _Refused(asyncio.Protocol):
    """Takes a connection only to end it: left where it was it would hold up the next ones."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        metrics.HTTP_CONNECTIONS_REFUSED_TOTAL.inc()
        cast("asyncio.Transport", transport).abort()


async def _listen(runner: web.AppRunner, listen: ListenSettings | OpsSettings, setting: str) -> asyncio.Server:
    server = cast("web.Server", runner.server)  # there since `setup`
    most = connections_max()

    def protocol() -> asyncio.Protocol:
        return server() if len(server.connections) < most else _Refused()

    try:
        return await asyncio.get_running_loop().create_server(protocol, listen.host, listen.port, backlog=128)
    except OSError as error:
        if (said := _why_not(error, listen, setting)) is None:
            raise
        raise SettingsError(said) from None


def _why_not(error: OSError, listen: ListenSettings | OpsSettings, setting: str) -> str | None:
    if error.errno == errno.EADDRINUSE:
        return f"port {listen.port} is in use by another program: stop it or set {setting}"
    if error.errno == errno.EACCES:
        return f"port {listen.port} needs a right this process lacks: set {setting} to 1024 or above"
    if error.errno == errno.EADDRNOTAVAIL:
        return f"{listen.host} is no address of this machine: set {setting.rpartition('.')[0]}.host"
    return None
