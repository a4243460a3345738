"""The one registry, and what `runtime` exports for every service.

A service's own instruments stand in its `metrics.py`, named `safealley_<service>_<stage>_<what>_<unit>`
and made with `registry=REGISTRY`. Labels are small closed sets; never an address, a URL or a person.
"""

from importlib import metadata
from typing import Final, TypeAlias

from aiohttp.typedefs import Handler
from prometheus_client import REGISTRY as _DEFAULT
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.aiohttp import make_aiohttp_handler

Registry: TypeAlias = CollectorRegistry
REGISTRY: Final[Registry] = _DEFAULT

EVENT_LOOP_LAG_SECONDS: Final = Histogram(
    "safealley_event_loop_lag_seconds",
    "How much later than asked a timer of the event loop fires.",
    ["service"],
    # operations.md 6.1: p99 below 50 ms, so one edge stands there.
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0),
    registry=REGISTRY,
)
BUILD_INFO: Final = Gauge(
    "safealley_build_info", "1; the label is the release.", ["service", "version"], registry=REGISTRY
)
CLAIMS_UNREADABLE_TOTAL: Final = Counter(
    "safealley_claims_unreadable_total", "Records of `claims` that are no claim this release reads.", registry=REGISTRY
)
REGISTRY_RECORDS_TOTAL: Final = Counter(
    "safealley_registry_records_total",
    "Records of `devices`: read, or refused since this release cannot read them.",
    ["result"],
    registry=REGISTRY,
)
HTTP_REQUESTS_TOTAL: Final = Counter(
    "safealley_http_requests_total", "Requests answered, by class of status.", ["status"], registry=REGISTRY
)
HTTP_REQUEST_SECONDS: Final = Histogram(
    "safealley_http_request_seconds",
    "From a request's headers to its answer; WebSockets are left out.",
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0),
    registry=REGISTRY,
)
HTTP_CONNECTIONS_REFUSED_TOTAL: Final = Counter(
    "safealley_http_connections_refused_total",
    "Connections ended at once: their server had as many as it may have.",
    registry=REGISTRY,
)


def version() -> str:
    """Return the release that runs."""
    try:
        return metadata.version("safealley")
    except metadata.PackageNotFoundError:
        return "0+source"


def exposition() -> Handler:
    """Return the handler of /metrics."""
    return make_aiohttp_handler(REGISTRY)
