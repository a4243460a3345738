"""Reads all of `devices.<pool>` and keeps a copy on disk, so that a start without Kafka knows the city.

Without that copy a bell could not be believed while Kafka is away (kafka.md 10.4, rule 8).
"""

import asyncio
import os
from collections.abc import Callable
from pathlib import Path

import msgspec
import structlog

from services.contracts import codec
from services.contracts.device import Device
from services.contracts.errors import ContractError
from services.contracts.site import Site
from services.ingest.registry import Registry, merged
from services.runtime.clock import Clock
from services.runtime.kafka_port import Kafka
from services.runtime.registry import RecordTable, follow_registry

log = structlog.get_logger()


class _Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    sites: tuple[Site, ...]
    devices: tuple[Device, ...]


class RegistryReader:
    """`current` is replaced whole, so that other threads may read it; `on_change` is told each time."""

    def __init__(self, kafka: Kafka, *, pool: str, snapshot: Path, clock: Clock) -> None:
        self.current = Registry()
        self._kafka = kafka
        self._pool = pool
        self._snapshot = snapshot
        self._clock = clock
        self._caught_up = asyncio.Event()
        self._listeners: list[Callable[[Registry], None]] = []

    def on_change(self, listener: Callable[[Registry], None]) -> None:
        self._listeners.append(listener)

    async def load_snapshot(self) -> None:
        """Begin with what the last run knew; a missing or broken copy is an empty city."""
        try:
            data = await asyncio.to_thread(self._snapshot.read_bytes)
            kept = codec.decode(data, _Snapshot)
        except FileNotFoundError:
            return
        except (OSError, ContractError) as error:
            log.warning("registry.snapshot_unreadable", reason=type(error).__name__)
            return
        self._become(
            Registry(
                sites={site.site_id: site for site in kept.sites},
                devices={device.device_id: device for device in kept.devices},
            )
        )

    def known(self) -> Registry | None:
        """Return the city once it is known: read to its end, or from the last run's copy."""
        return self.current if self._caught_up.is_set() or self.current.devices else None

    async def caught_up(self) -> None:
        """Wait until all that stood in the topic has been read."""
        await self._caught_up.wait()

    async def run(self) -> None:
        """Read for ever; differences alone are applied, also when the log went back and is read anew."""
        await follow_registry(self._kafka, self._pool, clock=self._clock, on_standing=self._take)

    async def _take(self, table: RecordTable) -> None:
        # A wiped topic says nothing: what was known is recorded on until a record says otherwise.
        if table.applied:
            await self._apply(merged(table))
        self._caught_up.set()

    async def _apply(self, registry: Registry) -> None:
        if registry == self.current:
            return
        self._become(registry)
        try:
            await asyncio.to_thread(_write, self._snapshot, registry)
        except OSError as error:
            log.warning("registry.snapshot_unwritten", reason=error.strerror)

    def _become(self, registry: Registry) -> None:
        self.current = registry
        log.info("registry.changed", sites=len(registry.sites), devices=len(registry.devices))
        for listener in self._listeners:
            listener(registry)


def _write(path: Path, registry: Registry) -> None:
    """Replace the copy whole: written beside it, synced, renamed."""
    kept = _Snapshot(sites=tuple(registry.sites.values()), devices=tuple(registry.devices.values()))
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_suffix(".new")
    with beside.open("wb") as file:
        file.write(codec.encode(kept))
        file.flush()
        os.fsync(file.fileno())
    beside.rename(path)
