"""What the steps of a check share: the probe they are given and the link they return."""

from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
from msgspec import Struct

from services.onebox.endpoints import Endpoints
from services.runtime.clock import Clock
from services.runtime.identity import Role
from services.runtime.kafka_port import Kafka


class Link(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One link of the chain: whether it holds, and its figure."""

    holds: bool
    name: str = ""
    figure: float | None = None
    unit: str = ""
    detail: str = ""


@dataclass(slots=True, kw_only=True)
class Probe:
    """A running box as an outsider sees it, and what earlier steps found."""

    endpoints: Endpoints
    camera_id: str
    hashes: Path
    kafka: Kafka
    clock: Clock
    scratch: Path
    found: dict[str, Any] = field(default_factory=dict)
    session: aiohttp.ClientSession | None = None
    until_end: AsyncExitStack = field(default_factory=AsyncExitStack)
    """What a step opens for the steps after it."""

    @property
    def http(self) -> aiohttp.ClientSession:
        if self.session is None:
            raise RuntimeError("the check has no client session yet")
        return self.session

    @http.setter
    def http(self, session: aiohttp.ClientSession) -> None:
        self.session = session

    def bearer(self, role: Role) -> dict[str, str]:
        """Return the header that makes a request this role's."""
        return {"Authorization": f"Bearer {self.endpoints.tokens[role]}"}

    def archive_url(self, what: str) -> str:
        """Return an address of archive, as the page reaches it: through the gateway."""
        return f"{self.endpoints.gateway}/api/v1/archive/cameras/{self.camera_id}/{what}"


def expect(holds: bool, what: str) -> None:
    """Raise what a link lacks.

    Raises:
        AssertionError: it does not hold.
    """
    if not holds:
        raise AssertionError(what)
