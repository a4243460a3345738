"""The HTTP doors of gateway: alerts and their commands, the city, the session, and what is passed on."""

import uuid

import msgspec
from aiohttp import web

from services.contracts import codec
from services.contracts.console import AckBody, AlertPage, DisposeBody, Problem
from services.contracts.errors import MalformedMessage
from services.contracts.openapi import openapi
from services.gateway.alert_stream import AlertStream
from services.gateway.archive_proxy import ArchiveProxy
from services.gateway.city import City
from services.gateway.commands import Answer, Commands
from services.gateway.live_relay import LiveRelay
from services.gateway.session import Sessions
from services.runtime.http_server import (
    TraceparentKey,
    caller_of,
    json_response,
    public,
    read_bytes,
    refuse,
    token_of,
)

BODIES = {"ack": AckBody, "dispose": DisposeBody}
_REFUSALS = {
    "stale": (409, "someone was first: look at the alert again"),
    "illegal_arc": (409, "the alert's state does not allow this"),
    "forbidden": (403, "this role may not answer alerts"),
    "not_found": (404, "no such alert"),
    "other_body": (422, "this Idempotency-Key was used with another body: send a new key for a new intent"),
    "unprocessable": (422, "the owner of the alert could not carry this out: send a new key and a complete body"),
    "unavailable": (503, "the command could not be written: send it again with the same key"),
}


class Api:
    """Handlers; everything they need is given."""

    def __init__(
        self,
        *,
        alerts: AlertStream,
        commands: Commands,
        city: City,
        live: LiveRelay,
        archive: ArchiveProxy,
        sessions: Sessions,
        version: str,
    ) -> None:
        self._alerts = alerts
        self._commands = commands
        self._city = city
        self._live = live
        self._archive = archive
        self._sessions = sessions
        self._openapi = openapi(version)

    def routes(self) -> list[web.RouteDef]:
        """Return every route of the gateway but the page's own."""
        return [
            web.get("/api/v1/alerts", self.list_alerts),
            web.get("/api/v1/alerts/{alert_id}/commands/{key}", self.command_status),
            web.post("/api/v1/alerts/{alert_id}/{verb:ack|dispose}", self.command),
            web.get("/api/v1/alert-stream", self.alert_stream),
            web.get("/api/v1/live", self.live),
            web.get("/api/v1/city", self.read_city),
            web.get("/api/v1/session", self._sessions.read),
            web.post("/api/v1/session", self._sessions.sign_in),
            web.delete("/api/v1/session", self._sessions.sign_out),
            web.get("/api/v1/archive/{rest:.*}", self.archive),
            web.get("/openapi.json", self.read_openapi),
        ]

    async def list_alerts(self, request: web.Request) -> web.Response:
        """Alerts this person may see, emergency first."""
        held = self._alerts.view.snapshot(caller_of(request), (), self._alerts.clock.now_us())
        return json_response(AlertPage(items=tuple(item.alert for item in held), cursor=self._alerts.cursor()))

    async def command(self, request: web.Request) -> web.Response:
        """Carry out a verb; the answer holds the alert as the owner left it."""
        verb = request.match_info["verb"]
        alert_id = request.match_info["alert_id"]
        key = _idempotency_key(request.headers.get("Idempotency-Key"))
        try:
            body: AckBody | DisposeBody = codec.decode(await read_bytes(request), BODIES[verb])  # type: ignore[arg-type]
        except MalformedMessage as error:
            raise refuse(422, str(error)) from None
        answer = await self._commands.execute(
            caller_of(request), alert_id, body, key=key, traceparent=request[TraceparentKey]
        )
        return _respond(answer, alert_id, key)

    async def command_status(self, request: web.Request) -> web.Response:
        """What became of a command that was not decided in 2 s."""
        alert_id = request.match_info["alert_id"]
        key = _idempotency_key(request.match_info["key"])
        return _respond(self._commands.status(caller_of(request), alert_id, key), alert_id, key)

    async def alert_stream(self, request: web.Request) -> web.WebSocketResponse:
        """The alert channel of one window."""
        return await self._alerts.serve(request, caller_of(request))

    async def live(self, request: web.Request) -> web.WebSocketResponse:
        """The live pictures of one window."""
        return await self._live.serve(request, caller_of(request))

    async def read_city(self, request: web.Request) -> web.Response:
        """Sites and devices this person may see."""
        return json_response(self._city.view(caller_of(request)))

    async def archive(self, request: web.Request) -> web.StreamResponse:
        """Passed on to archive, which authorises and logs it."""
        token, _ = token_of(request)
        return await self._archive.serve(request, token or "")

    @public
    async def read_openapi(self, _request: web.Request) -> web.Response:
        """The doors of this system."""
        return json_response(self._openapi)


def _idempotency_key(text: str | None) -> uuid.UUID:
    if not text:
        raise refuse(422, "the header Idempotency-Key is missing: send a UUID, one for each intent")
    try:
        return uuid.UUID(text)
    except ValueError:
        raise refuse(422, "the header Idempotency-Key is not a UUID") from None


def _respond(answer: Answer, alert_id: str, key: uuid.UUID) -> web.Response:
    if answer.outcome in ("applied", "pending") and answer.alert is not None:
        pending = answer.outcome == "pending"
        response = json_response(answer.alert, status=202 if pending else 200)
        if pending:
            response.headers["Location"] = f"/api/v1/alerts/{alert_id}/commands/{key}"
        return response
    status, detail = _REFUSALS[answer.outcome]
    problem = Problem(error=answer.outcome, detail=detail, alert=answer.alert, winner=answer.winner, at_us=answer.at_us)
    if status in (403, 404):
        problem = msgspec.structs.replace(problem, alert=None)
    response = json_response(problem, status=status)
    if status == 503:
        response.headers["Retry-After"] = "1"
    return response
