"""Settings and metrics of every service as documents, read from the code."""

import importlib
from collections.abc import Iterator
from typing import Any

import msgspec
from prometheus_client import CollectorRegistry

from services.alerting.metrics import AlertingMetrics
from services.alerting.settings import AlertingSettings
from services.archive.metrics import ArchiveMetrics
from services.archive.settings import ArchiveSettings
from services.gateway.metrics import GatewayMetrics
from services.gateway.settings import GatewaySettings
from services.ingest.settings import IngestSettings
from services.runtime.metrics import REGISTRY

SETTINGS: dict[str, type[msgspec.Struct]] = {
    "ingest": IngestSettings,
    "alerting": AlertingSettings,
    "gateway": GatewaySettings,
    "archive": ArchiveSettings,
}
HOW_TO_SET = (
    "A file (`--settings FILE`, YAML) holds any of these keys; the environment wins over it:"
    " `kafka.bootstrap` is `SAFEALLEY_KAFKA__BOOTSTRAP`. An unknown key is refused with its line."
)
GENERATED = "Generated from the code by `python tests/contract/regenerate.py`."


def settings_document() -> str:
    """Return docs/reference/settings.md."""
    lines = [
        "# Settings",
        "",
        GENERATED,
        HOW_TO_SET,
    ]
    for service, struct in SETTINGS.items():
        lines += [
            "",
            f"## {service}",
            "",
            " ".join((struct.__doc__ or "").split()),
            "",
            "| key | default |",
            "|---|---|",
        ]
        lines += [f"| `{key}` | {_shown(default)} |" for key, default in keys(struct)]
    return "\n".join(lines) + "\n"


def metrics_document() -> str:
    """Return docs/reference/metrics.md."""
    lines = ["# Metrics", "", GENERATED, "Labels are small closed sets; `camera` is on eight series only."]
    for owner, rows in metrics().items():
        lines += ["", f"## {owner}", "", "| metric | kind | labels | meaning |", "|---|---|---|---|", *rows]
    return "\n".join(lines) + "\n"


def metrics() -> dict[str, list[str]]:
    """Return a table row for each metric, by service."""
    importlib.import_module("services.ingest.metrics")
    own = CollectorRegistry()
    for made in (AlertingMetrics, GatewayMetrics, ArchiveMetrics):
        made(own)
    rows: dict[str, list[str]] = {name: [] for name in ("every service", *SETTINGS)}
    for registry in (REGISTRY, own):
        for collector in {id(found): found for found in registry._collector_to_names}.values():
            name = getattr(collector, "_name", "")
            if not name.startswith("safealley_"):
                continue
            kind = getattr(collector, "_type", "")
            full = f"{name}_total" if kind == "counter" else name
            owner = next((service for service in SETTINGS if name.startswith(f"safealley_{service}_")), "every service")
            labels = ", ".join(f"`{label}`" for label in getattr(collector, "_labelnames", ()))
            rows[owner].append(f"| `{full}` | {kind} | {labels} | {getattr(collector, '_documentation', '')} |")
    return {owner: sorted(found) for owner, found in rows.items()}


def keys(struct: type[msgspec.Struct], above: str = "") -> Iterator[tuple[str, Any]]:
    """Return every key of a settings Struct, dotted, with its default."""
    for field in msgspec.structs.fields(struct):
        default = field.default if field.default is not msgspec.NODEFAULT else None
        if default is None and field.default_factory is not msgspec.NODEFAULT:
            default = field.default_factory()
        if isinstance(default, msgspec.Struct):
            for key, _ in keys(type(default), f"{above}{field.name}."):
                value: Any = default
                for part in key.removeprefix(f"{above}{field.name}.").split("."):
                    value = getattr(value, part)
                yield key, value
        else:
            yield f"{above}{field.name}", default


def _shown(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, tuple):
        return ", ".join(f"`{part}`" for part in value) or "none"
    return f"`{value}`"
