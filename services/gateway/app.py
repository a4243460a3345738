"""The whole gateway on one screen.

alerts                      -> view -> alert_stream -> window
devices, streams            -> city
POST, receipts              -> commands -> operator-commands
claims, ingest's live port  -> live_relay -> window
/api/v1/archive/            -> archive_proxy
/                           -> bundle
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial

import aiohttp
import structlog

from services.contracts.topics import OPERATOR_COMMANDS
from services.gateway import bundle, feed
from services.gateway.alert_stream import AlertStream
from services.gateway.api import Api
from services.gateway.archive_proxy import ArchiveProxy
from services.gateway.city import City
from services.gateway.commands import Commands
from services.gateway.live_relay import LiveRelay
from services.gateway.metrics import GatewayMetrics
from services.gateway.session import Sessions
from services.gateway.settings import GatewaySettings
from services.gateway.view import AlertView, Held
from services.runtime.access_log import AccessLog
from services.runtime.claims import ClaimsLog
from services.runtime.clock import Clock
from services.runtime.http_server import make_app, serve
from services.runtime.identity import DemoIssuer, Identity, refuse_unless_loopback
from services.runtime.kafka_port import Kafka, ProducerProfile
from services.runtime.metrics import REGISTRY, version
from services.runtime.registry import follow_registry
from services.runtime.service import ServiceContext
from services.runtime.settings import SecretStore
from services.runtime.starting import opened, topic_there, until_answered
from services.runtime.waits import unless_stopped

CONSOLES_CLOSE_S = 10.0

log = structlog.get_logger()


async def run(
    settings: GatewaySettings,
    kafka: Kafka,
    context: ServiceContext,
    *,
    metrics: GatewayMetrics | None = None,
    on_port: Callable[[int], None] = lambda _port: None,
) -> None:
    """Serve until told to stop; consoles are told to come back before the doors close.

    The doors open when `alerts` was read to its end: a console that came sooner would be shown a part.

    Raises:
        StoppedEarly: told to stop while it still waited for Kafka.
    """
    clock = context.clock
    metrics = metrics or GatewayMetrics(REGISTRY)
    view, city = AlertView(), City()
    identity = Identity.from_settings(settings.identity, clock=clock)
    claims = ClaimsLog(kafka, clock)
    await topic_there(context, kafka, OPERATOR_COMMANDS.name)
    cluster = await until_answered(context, kafka.cluster_id, what="cluster id")
    async with (
        claims.open(),
        opened(context, partial(kafka.producer, ProducerProfile.RECORDS), what="producer") as producer,
        aiohttp.ClientSession() as http,
        asyncio.TaskGroup() as tasks,
    ):
        access_log = AccessLog(producer, clock=clock, service=settings.name)
        commands = Commands(view=view, producer=producer, clock=clock, metrics=metrics, name=settings.name)
        alerts = AlertStream(view=view, cluster=cluster, clock=clock, receipts=commands, metrics=metrics)
        secrets = SecretStore(settings.secrets_dir)
        live = LiveRelay(
            city=city,
            claims=claims,
            http=http,
            relay_token=lambda: secrets.read_text("live-relay"),
            access_log=access_log,
            clock=clock,
            metrics=metrics,
        )
        api = Api(
            alerts=alerts,
            commands=commands,
            city=city,
            live=live,
            archive=ArchiveProxy(archive_url=settings.archive_url, http=http),
            sessions=Sessions(identity=identity, issuer=_issuer(settings, clock), secure=settings.secure_cookie),
            version=version(),
        )

        def changed(held: Held) -> None:
            alerts.publish(held)
            commands.answered(held)

        metrics.watch(alerts, live, access_log)
        context.status("consoles", lambda: {"connected": len(alerts), "queued": alerts.queued()})
        context.status("alerts", lambda: {"held": len(view), "fenced": view.fenced})
        restored = asyncio.Event()
        following = feed.follow_alerts(kafka, view, changed, context, metrics, restored=restored)
        followers = [
            tasks.create_task(following, name="alerts"),
            tasks.create_task(feed.follow_streams(kafka, city, context, metrics), name="streams"),
            tasks.create_task(
                follow_registry(kafka, settings.pool, clock=clock, on_standing=city.stand), name="registry"
            ),
        ]
        try:
            await unless_stopped(context.stopping, restored.wait())
            async with _doors(settings, identity, api, context) as port:
                on_port(port)
                context.ready(ready=True)
                await context.stopping.wait()
                context.ready(ready=False, reason="stopping")
                await _in_time("consoles", CONSOLES_CLOSE_S, asyncio.gather(alerts.close(), live.close()))
        finally:
            for follower in followers:
                follower.cancel()


@asynccontextmanager
async def _doors(
    settings: GatewaySettings, identity: Identity, api: Api, context: ServiceContext
) -> AsyncIterator[int]:
    app = make_app(identity=identity, clock=context.clock, origins=settings.origins)
    app.router.add_routes(api.routes())
    bundle.add_page(app, settings.bundle_dir)
    async with serve(app, settings.listen) as port:
        yield port


async def _in_time(what: str, seconds: float, work: Awaitable[object]) -> None:
    """Wait for the last work of a stop; what does not end in time is said, and the stop goes on."""
    try:
        async with asyncio.timeout(seconds):
            await work
    except TimeoutError:
        log.error("app.not_finished", what=what, after_s=seconds)


def _issuer(settings: GatewaySettings, clock: Clock) -> DemoIssuer | None:
    if settings.demo_identity_dir is None:
        return None
    refuse_unless_loopback(settings.listen.host)
    return DemoIssuer(
        settings.demo_identity_dir,
        clock=clock,
        issuer=settings.identity.issuer,
        audience=settings.identity.audience,
        jurisdictions=settings.demo_jurisdictions,
    )
