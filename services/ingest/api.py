"""The doors of ingest: 8081 for devices (on the alarm thread), 8082 for the gateway's live relay."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from services.ingest.live import LiveHub
from services.ingest.settings import IngestSettings
from services.runtime.clock import Clock
from services.runtime.http_server import make_app, serve


@asynccontextmanager
async def live_port(hub: LiveHub, settings: IngestSettings, clock: Clock) -> AsyncIterator[int]:
    """Serve the live port while the block runs; yields the port."""
    app = make_app(identity=None, clock=clock)
    hub.add_routes(app)
    async with serve(app, settings.live, setting="live.port") as port:
        try:
            yield port
        finally:
            await hub.close()


def live_url(settings: IngestSettings, port: int) -> str:
    """Return what claims tell others to reach our live port by."""
    return settings.live_url or f"ws://{settings.live.host}:{port}/api/v1/live"
