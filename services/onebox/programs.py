"""The processes of a box beside Kafka, as they are started. No I/O."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from services.onebox.layout import SERVICES, Layout

MALLOC: Final[Mapping[str, str]] = {
    "MALLOC_MMAP_THRESHOLD_": "268435456",
    "MALLOC_TRIM_THRESHOLD_": "268435456",
    "MALLOC_TOP_PAD_": "16777216",
}
"""All three or none: half the CPU of producing (kafka.md 4)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """A process beside the services, such as a simulator. Without a port it is ready when it runs.

    `port` is where it takes connections: those of the programs beside come before the services start.
    """

    name: str
    command: Sequence[str]
    environ: Mapping[str, str] = field(default_factory=dict)
    ops_port: int | None = None
    port: int | None = None


def four_services(layout: Layout, ports: Mapping[str, int]) -> Sequence[Program]:
    """Return the services, each with the settings file that was written for it."""
    return [
        Program(
            name=name,
            command=[sys.executable, "-m", f"services.{name}", "--settings", str(layout.settings(name))],
            ops_port=ports[f"{name} ops"],
        )
        for name in SERVICES
    ]
