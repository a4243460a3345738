"""The device door: `POST /api/v1/alarms` (alerts.md 2.1).

It answers 202, 400, 401, 403, 404, 413, and 503 where an acknowledgement would be a lie.

A request is authenticated before its body is read. A repeat of an event that was acknowledged is
acknowledged again under the same id and not sent twice. Other words under an id already used (a bell
that counts from 1 again) are another event, kept under an id made of both.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

import structlog
from aiohttp import web

from services.contracts import codec
from services.contracts.console import Problem
from services.contracts.topics import ALARMS
from services.ingest import metrics
from services.ingest.alarms import normaliser
from services.ingest.alarms.normaliser import BODY_BYTES_MAX, STATUS, Normalised, Refused
from services.ingest.alarms.publisher import AlarmPublisher
from services.ingest.registry import Registry
from services.ingest.tokens import Tokens
from services.runtime.clock import Clock
from services.runtime.errors import PoisonMessage, RetryLater
from services.runtime.http_server import child_traceparent
from services.runtime.kafka_port import Outgoing

log = structlog.get_logger()

IN_FLIGHT_MAX: Final = 256  # x 64 KiB: the door never holds more than 16 MiB
BODY_S_MAX: Final = 5.0
REPEATS_KEPT: Final = 8192


class Webhook:
    """The door's one handler. `registry` returns what is known of the city now, None before anything is."""

    def __init__(
        self, *, registry: Callable[[], Registry | None], tokens: Tokens, publisher: AlarmPublisher, clock: Clock
    ) -> None:
        self._registry = registry
        self._tokens = tokens
        self._publisher = publisher
        self._clock = clock
        self._in_flight = 0
        self._repeats: OrderedDict[tuple[str, str], tuple[bytes, asyncio.Future[None]]] = OrderedDict()

    def add_routes(self, app: web.Application) -> None:
        app.router.add_post("/api/v1/alarms", self.post)

    async def post(self, request: web.Request) -> web.Response:
        received_us = self._clock.now_us()
        try:
            event = await self._admit(request, received_us)
        except Refused as refused:
            metrics.DOOR_REQUESTS.labels(refused.reason).inc()
            log.warning("webhook.refused", reason=refused.reason, detail=str(refused))
            return _problem(refused)
        metrics.DOOR_REQUESTS.labels("accepted").inc()
        metrics.DOOR_SECONDS.observe((self._clock.now_us() - received_us) / 1e6)
        return web.json_response({"id": event.envelope.id}, status=202)

    async def _admit(self, request: web.Request, received_us: int) -> Normalised:
        if self._in_flight >= IN_FLIGHT_MAX:
            raise Refused("overload", "too many requests at once: send it again")
        self._in_flight += 1
        try:
            event = await self._authorised_event(request, received_us)
            return await self._once(event)
        finally:
            self._in_flight -= 1

    async def _authorised_event(self, request: web.Request, received_us: int) -> Normalised:
        registry = self._registry()
        if registry is None:
            # A 401 would tell a bell that its token is wrong, and it would not ring again.
            raise Refused("overload", "the registry is not read yet: send it again")
        owners = self._tokens.owners(_token(request), registry.devices)
        if not owners:
            raise Refused("token", "no device has this token")
        headers = {name.lower(): value for name, value in request.headers.items()}
        said = normaliser.read_event(headers, await _body(request))
        device = registry.devices.get(said.device_id)
        if device is None or not device.enabled:
            raise Refused("unknown_device", "the registry has no such device, or it is not enabled")
        if said.device_id not in owners:
            raise Refused("another_device", "this token belongs to another device")
        return normaliser.normalise(
            said,
            device,
            registry.site_of(device),
            received_us=received_us,
            traceparent=child_traceparent(headers.get("traceparent")),
        )

    async def _once(self, event: Normalised) -> Normalised:
        """Publish an event unless it was, or is being, published; every repeat waits for the one.

        Returns:
            the event under the id that it is kept under.
        """
        key = (event.envelope.source, event.envelope.id)
        words, earlier = self._repeats.get(key, (b"", None))
        if earlier is not None and not (earlier.done() and (earlier.cancelled() or earlier.exception() is not None)):
            if words != event.words:
                metrics.DOOR_IDS_REUSED.inc()
                log.warning("webhook.id_reused", source=event.envelope.source)
                return await self._once(event.under_own_id())
            metrics.DOOR_REPEATS.inc()
            await asyncio.shield(earlier)
            return event
        published = asyncio.ensure_future(self._publish(event))
        self._repeats[key] = (event.words, published)
        published.add_done_callback(_looked_at)
        self._repeats.move_to_end(key)
        while len(self._repeats) > REPEATS_KEPT:
            self._repeats.popitem(last=False)
        # A device that hangs up must not cancel its own press.
        await asyncio.shield(published)
        return event

    async def _publish(self, event: Normalised) -> None:
        try:
            await self._publisher.publish(outgoing(event))
        except RetryLater as error:
            raise Refused("overload", f"not kept: {error}; send it again") from error
        except PoisonMessage as error:
            raise Refused("too_large", "the event is larger than the log takes") from error


def outgoing(event: Normalised) -> Outgoing:
    """Return the record of an event; the record's time is our clock, never the device's (cameras.md 7.12)."""
    return Outgoing(
        topic=ALARMS.name,
        key=event.root,
        value=codec.encode(event.body),
        headers=event.envelope.to_headers(),
        timestamp_ms=event.body.received_us // 1000,
    )


def _looked_at(published: "asyncio.Future[None]") -> None:
    """Take note of a failure whose device hung up; the others are answered with it."""
    if not published.cancelled() and published.exception() is not None:
        metrics.DOOR_UNKEPT.inc()


def _token(request: web.Request) -> str:
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        raise Refused("token", "send 'Authorization: Bearer <device token>'")
    return token.strip()


async def _body(request: web.Request) -> bytes:
    if (request.content_length or 0) > BODY_BYTES_MAX:
        raise Refused("too_large", f"the body is larger than {BODY_BYTES_MAX} bytes")
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_S_MAX):
            async for part in request.content.iter_any():
                body += part
                if len(body) > BODY_BYTES_MAX:
                    raise Refused("too_large", f"the body is larger than {BODY_BYTES_MAX} bytes")
    except TimeoutError:
        raise Refused("malformed", f"the body did not come within {BODY_S_MAX:g} s") from None
    return bytes(body)


def _problem(refused: Refused) -> web.Response:
    problem = Problem(error=refused.reason, detail=str(refused))
    headers = {"WWW-Authenticate": "Bearer"} if refused.reason == "token" else {}
    if refused.reason == "overload":
        headers["Retry-After"] = "1"
    return web.Response(
        body=codec.encode(problem), status=STATUS[refused.reason], content_type="application/json", headers=headers
    )
