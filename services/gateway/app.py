"""The whole gateway on one screen.

alerts                      -> view -> alert_stream -> window
devices, streams            -> city
POST, receipts              -> commands -> operator-commands
claims, ingest's live port  -> live_relay -> window
/api/v1/archive/            -> archive_proxy
/                           -> bundle
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
from aiohttp import web

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
from services.runtime.http_server import make_app, serve
from services.runtime.identity import DemoIssuer, Identity, refuse_unless_loopback
from services.runtime.kafka_port import Kafka, ProducerProfile
from services.runtime.metrics import REGISTRY, version
from services.runtime.service import ServiceContext
from services.runtime.settings import SecretStore

CONSOLES_CLOSE_S = 10.0
FLUSH_S = 5.0


async def run(settings: GatewaySettings, kafka: Kafka, context: ServiceContext) -> None:
    """Serve until told to stop; consoles are told to come back before the doors close."""
    clock = context.clock
    metrics = GatewayMetrics(REGISTRY)
    view, city = AlertView(), City()
    identity = Identity.from_settings(settings.identity, clock=clock)
    claims = ClaimsLog(kafka, clock)
    async with (
        claims.open(),
        kafka.producer(ProducerProfile.RECORDS) as producer,
        aiohttp.ClientSession() as http,
        asyncio.TaskGroup() as tasks,
    ):
        await kafka.partitions(OPERATOR_COMMANDS.name)
        access_log = AccessLog(producer, clock=clock, service=settings.name)
        commands = Commands(view=view, producer=producer, clock=clock, metrics=metrics, name=settings.name)
        alerts = AlertStream(
            view=view, cluster=await kafka.cluster_id(), clock=clock, receipts=commands, metrics=metrics
        )
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
            sessions=Sessions(identity=identity, issuer=_issuer(settings), secure=settings.secure_cookie),
            version=version(),
        )

        def changed(held: Held) -> None:
            alerts.publish(held)
            commands.answered(held)

        metrics.watch(alerts, live, access_log)
        context.status("consoles", lambda: {"connected": len(alerts), "queued": alerts.queued()})
        context.status("alerts", lambda: {"held": len(view), "fenced": view.fenced})
        followers = [
            tasks.create_task(access_log.run(), name="access log"),
            tasks.create_task(feed.follow_alerts(kafka, view, changed, context, metrics), name="alerts"),
            tasks.create_task(feed.follow_city(kafka, city, settings.pool, context, metrics), name="city"),
        ]
        async with _doors(settings, identity, api, context):
            await context.stopping.wait()
            context.ready(ready=False, reason="stopping")
            async with asyncio.timeout(CONSOLES_CLOSE_S):
                await asyncio.gather(alerts.close(), live.close())
        async with asyncio.timeout(FLUSH_S):
            await access_log.flush()
        for follower in followers:
            follower.cancel()


@asynccontextmanager
async def _doors(
    settings: GatewaySettings, identity: Identity, api: Api, context: ServiceContext
) -> AsyncIterator[web.Application]:
    app = make_app(identity=identity, clock=context.clock, origins=settings.origins)
    app.router.add_routes(api.routes())
    bundle.add_page(app, settings.bundle_dir)
    async with serve(app, settings.listen):
        yield app


def _issuer(settings: GatewaySettings) -> DemoIssuer | None:
    if settings.demo_identity_dir is None:
        return None
    refuse_unless_loopback(settings.listen.host)
    return DemoIssuer(
        settings.demo_identity_dir,
        issuer=settings.identity.issuer,
        audience=settings.identity.audience,
        jurisdictions=settings.demo_jurisdictions,
    )
