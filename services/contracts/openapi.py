"""The doors that outsiders use, as OpenAPI 3.1. No I/O.

`docs/reference/openapi.json` is this, and a test refuses a difference; the gateway serves it at
`/openapi.json`. The two WebSockets are in it as the GET requests they begin with.
"""

from typing import Any, Final

import msgspec

from services.contracts.alarm import DoorAlarm
from services.contracts.console import (
    AckBody,
    AlertPage,
    CityView,
    ConsoleSays,
    DemoSignIn,
    DisposeBody,
    GatewaySays,
    LiveClientSays,
    LiveServerSays,
    Problem,
    SessionView,
)
from services.contracts.timeline import ClipParts, Timeline

_TIME: Final = {"oneOf": [{"type": "string", "format": "date-time"}, {"type": "integer", "description": "µs UTC"}]}
_PLAYLIST: Final = (
    "HLS VOD. Its media are byte ranges under the same purpose; its init/{sha256}.mp4 hold no picture and take none"
)
_BODIES: Final = (
    DoorAlarm, AckBody, DisposeBody, AlertPage, CityView, SessionView, DemoSignIn, Problem, Timeline, ClipParts,
)  # fmt: skip
_FRAMES: Final = (ConsoleSays, GatewaySays, LiveClientSays, LiveServerSays)


def openapi(version: str) -> dict[str, Any]:
    """Return the whole description; each path names the service that answers it."""
    schemas = msgspec.json.schema_components((*_BODIES, *_FRAMES), ref_template="#/components/schemas/{name}")[1]
    return {
        "openapi": "3.1.0",
        "info": {"title": "safealley", "version": version},
        "security": [{"bearer": []}, {"session": []}],
        "paths": {**_device_door(), **_gateway(), **_archive()},
        "components": {
            "schemas": schemas,
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "session": {"type": "apiKey", "in": "cookie", "name": "safealley_session"},
            },
        },
    }


def _device_door() -> dict[str, Any]:
    kept = {"type": "object", "required": ["id"], "properties": {"id": {"type": "string"}}}
    answers = {
        "202": _json("kept: in Kafka, or on disk until Kafka is back", kept),
        "400": _problem("malformed"),
        "401": _problem("no token, or not this device's"),
        "403": _problem("another device's token"),
        "404": _problem("no such device"),
        "413": _problem("above 64 KiB, as it came or its condition as it is kept (`1e15` becomes 18 bytes)"),
    }  # fmt: skip
    body = {"content": {"application/json": {"schema": _ref(DoorAlarm)}, "application/cloudevents+json": {}}}
    return {
        "/api/v1/alarms": {
            "post": _operation(
                "ingest", "A device says something (CloudEvents, structured or binary)", answers, body=body
            )
        }
    }


def _gateway() -> dict[str, Any]:
    command = {
        "200": _json("carried out: the alert as it is now", {"$ref": "#/components/schemas/Alert"}),
        "202": _json("written, not yet decided after 2 s: see Location", {"$ref": "#/components/schemas/Alert"}),
        "403": _problem("the role may not"),
        "404": _problem("no such alert"),
        "409": _problem("stale, or not possible in this state: who was first, and the alert"),
        "422": _problem("a field or the Idempotency-Key is missing"),
        "503": _problem("not written in 2 s: send it again with the same Idempotency-Key"),
    }
    key = _parameter("Idempotency-Key", "header", {"type": "string", "format": "uuid"})
    alert = _parameter("alert_id", "path", {"type": "string"})
    return {
        "/api/v1/alerts": {
            "get": _operation("gateway", "Alerts, emergency first", {"200": _json("", _ref(AlertPage))})
        },
        **{
            f"/api/v1/alerts/{{alert_id}}/{verb}": {
                "post": _operation(
                    "gateway", summary, command, parameters=[alert, key], body={"content": _content(_ref(body))}
                )
            }
            for verb, body, summary in (("ack", AckBody, "Acknowledge"), ("dispose", DisposeBody, "Say what it was"))
        },
        "/api/v1/alerts/{alert_id}/commands/{key}": {
            "get": _operation(
                "gateway",
                "What became of a command that was not decided in 2 s",
                {
                    "200": command["200"],
                    "202": _json("not decided, or never seen: ask again", {"$ref": "#/components/schemas/Alert"}),
                    "404": command["404"],
                    "409": command["409"],
                    "422": _problem("the key is not a UUID"),
                },
                parameters=[alert, _parameter("key", "path", {"type": "string", "format": "uuid"})],
            )
        },
        "/api/v1/alert-stream": {"get": _socket("Alerts as they change", "ConsoleSays")},
        "/api/v1/live": {"get": _socket("Live pictures; binary frames have a 16-byte header", "LiveClientSays")},
        "/api/v1/city": {"get": _operation("gateway", "Sites and devices", {"200": _json("", _ref(CityView))})},
        "/api/v1/session": {
            "get": _operation("gateway", "Who is signed in", {"200": _json("", _ref(SessionView))}, open_to_all=True),
            "post": _operation(
                "gateway",
                "Demo sign-in, loopback only",
                {"200": _json("", _ref(SessionView)), "403": _problem("not the demo, or not loopback")},
                body={"content": _content(_ref(DemoSignIn))},
                open_to_all=True,
            ),
            "delete": _operation("gateway", "Sign out", {"204": {"description": "signed out"}}, open_to_all=True),
        },
    }


def _archive() -> dict[str, Any]:
    parameters = [
        _parameter("camera_id", "path", {"type": "string"}),
        _parameter("from", "query", _TIME),
        _parameter("to", "query", _TIME),
        _parameter("purpose", "query", {"type": "string", "description": "alert, case or document id"}),
    ]
    refused = {
        "403": _problem("the role may not"),
        "404": _problem("no such camera, or nothing recorded"),
        "422": _problem("no purpose, or a time is not one"),
    }
    answers = {
        "timeline": {"200": _json("recorded, open, gap, pending or unknown: without hole", _ref(Timeline))},
        "clip.mp4": {
            "200": {"description": "the exact range, not re-encoded", "content": {"video/mp4": {}}},
            "409": _json("over a gap, a change of run or of init: fetch these parts", _ref(ClipParts)),
        },
        "playlist.m3u8": {"200": {"description": _PLAYLIST, "content": {"application/vnd.apple.mpegurl": {}}}},
    }
    return {
        f"/api/v1/archive/cameras/{{camera_id}}/{name}": {
            "get": _operation("archive", f"{name} of a range", {**answer, **refused}, parameters=parameters)
        }
        for name, answer in answers.items()
    }


def _operation(
    tag: str,
    summary: str,
    answers: dict[str, Any],
    *,
    parameters: list[dict[str, Any]] | None = None,
    body: dict[str, Any] | None = None,
    open_to_all: bool = False,
) -> dict[str, Any]:
    operation: dict[str, Any] = {"tags": [tag], "summary": summary, "responses": answers}
    if parameters:
        operation["parameters"] = parameters
    if body:
        operation["requestBody"] = {"required": True, **body}
    if open_to_all:
        operation["security"] = []
    return operation


def _socket(summary: str, says: str) -> dict[str, Any]:
    answers = {
        "101": {"description": f"WebSocket; the client says {says}"},
        "403": _problem("the Origin is not listed"),
    }
    return _operation("gateway", summary, answers)


def _parameter(name: str, place: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"name": name, "in": place, "required": True, "schema": schema}


def _ref(body: type) -> dict[str, Any]:
    return {"$ref": f"#/components/schemas/{body.__name__}"}


def _content(schema: dict[str, Any]) -> dict[str, Any]:
    return {"application/json": {"schema": schema}}


def _json(description: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"description": description or "as asked", "content": _content(schema)}


def _problem(description: str) -> dict[str, Any]:
    return _json(description, _ref(Problem))
