"""Whose each camera is, or was: the registry over what the catalog remembers.

A camera that left the registry keeps its last jurisdiction, since its footage is still to be accounted
for. One that was never registered does not exist, whatever footage bears its name.
"""

import asyncio
from concurrent.futures import Executor
from functools import partial

import structlog

from services.archive.catalog import Catalog
from services.runtime.errors import RetryLater
from services.runtime.registry import RecordTable

log = structlog.get_logger()


class Cameras:
    """Jurisdictions by camera. `learn` is told the registry."""

    def __init__(self, catalog: Catalog, pool: Executor) -> None:
        self._catalog = catalog
        self._pool = pool
        self._jurisdictions = catalog.cameras()
        self._registry_read = False

    def jurisdiction(self, camera_id: str) -> str | None:
        """Return whose a camera is; None: there was never such a camera.

        Raises:
            RetryLater: it is not known from before, and the registry was not read yet.
        """
        found = self._jurisdictions.get(camera_id)
        if found is None and not self._registry_read:
            raise RetryLater("the registry was not read yet")
        return found

    async def learn(self, table: RecordTable) -> None:
        """Take the registry as it stands, and remember it.

        Raises:
            RetryLater: the catalog did not take it.
        """
        registered = {
            device.device_id: device.jurisdiction for device in table.devices().values() if device.kind == "camera"
        }
        news = {camera: whose for camera, whose in registered.items() if self._jurisdictions.get(camera) != whose}
        if news:
            await asyncio.get_running_loop().run_in_executor(self._pool, partial(self._catalog.keep_cameras, news))
            log.info("cameras.learnt", cameras=len(news))
        self._jurisdictions |= news
        self._registry_read = True

    def status(self) -> dict[str, object]:
        """Return what /statusz shows."""
        return {"known": len(self._jurisdictions), "registry_read": self._registry_read}
