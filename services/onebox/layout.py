"""Where everything of one box stands: the folders of DIR, the names of its ports. No I/O."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

PortChoice = Literal["default", "free"]
SERVICES: Final = ("ingest", "alerting", "gateway", "archive")

DEFAULT_PORTS: Final[Mapping[str, int]] = {
    "gateway": 8080,
    "device door": 8081,
    "live relay": 8082,
    "archive": 8083,
    "ingest ops": 9101,
    "alerting ops": 9102,
    "gateway ops": 9103,
    "archive ops": 9104,
}
KAFKA_PORTS: Final = (9092, 9093)


def wanted_ports(choice: PortChoice) -> Mapping[str, int]:
    """Return the port of each door; 0 lets the kernel choose."""
    return DEFAULT_PORTS if choice == "default" else dict.fromkeys(DEFAULT_PORTS, 0)


@dataclass(frozen=True, slots=True)
class Layout:
    """The folders and files of a data directory."""

    root: Path

    @property
    def endpoints(self) -> Path:
        return self.root / "endpoints.json"

    @property
    def lock(self) -> Path:
        return self.root / "up.lock"

    @property
    def disk_plan(self) -> Path:
        """How much was free at the first start: the topics were made for that."""
        return self.root / "disk.json"

    @property
    def kafka(self) -> Path:
        return self.root / "kafka"

    @property
    def secrets(self) -> Path:
        return self.root / "secrets"

    @property
    def identity(self) -> Path:
        return self.root / "identity"

    def settings(self, service: str) -> Path:
        return self.root / "settings" / f"{service}.yaml"

    def data(self, service: str) -> Path:
        return self.root / service

    def log(self, process: str) -> Path:
        return self.root / "log" / f"{process}.log"
