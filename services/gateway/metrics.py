"""Every metric of gateway, by stage. Labels are closed sets."""

from collections.abc import Sized
from typing import Protocol

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

_E2E_EDGES = (0.002, 0.005, 0.01, 0.015, 0.03, 0.06, 0.12, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0)


class _Queued(Protocol):
    def queued(self) -> tuple[int, int]:
        """Return entries and bytes."""


class _Holds(Protocol):
    def bytes_held(self) -> int:
        """Return bytes."""


class GatewayMetrics:
    """Instruments made on an injected registry, so that tests have their own."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.e2e_seconds = Histogram(
            "safealley_gateway_e2e_seconds",
            "Alarm received by ingest to message handed to a console's socket.",
            ["alarm_class"],
            buckets=_E2E_EDGES,
            registry=registry,
        )
        self.consoles = Gauge(
            "safealley_gateway_alert_stream_consoles", "Consoles connected to this replica.", registry=registry
        )
        self.consoles_stalled = Counter(
            "safealley_gateway_alert_stream_stalled_total",
            "Consoles closed because they took nothing for 5 s.",
            registry=registry,
        )
        self.resyncs = Counter(
            "safealley_gateway_alert_stream_resyncs_total",
            "Snapshots sent again after a queue overflowed.",
            registry=registry,
        )
        self.queue_bytes = Gauge(
            "safealley_gateway_alert_stream_queue_bytes", "Bytes waiting for consoles.", registry=registry
        )
        self.frames_refused = Counter(
            "safealley_gateway_alert_stream_refused_total",
            "Frames of consoles that broke the protocol.",
            registry=registry,
        )
        self.records_refused = Counter(
            "safealley_gateway_view_records_refused_total",
            "Records that are not what their topic carries.",
            ["topic"],
            registry=registry,
        )
        self.records_fenced = Gauge(
            "safealley_gateway_view_records_fenced", "Records of former owners, ignored.", registry=registry
        )
        self.commands = Counter(
            "safealley_gateway_commands_answers_total",
            "Commands of people by verb and answer.",
            ["verb", "answer"],
            registry=registry,
        )
        self.receipts_lost = Counter(
            "safealley_gateway_commands_receipts_lost_total", "Receipts that Kafka did not take.", registry=registry
        )
        self.live_windows = Gauge("safealley_gateway_live_relay_windows", "Live sockets of windows.", registry=registry)
        self.live_feeds = Gauge(
            "safealley_gateway_live_relay_feeds", "Camera streams read from ingest, each once.", registry=registry
        )
        self.access_log_entries = Gauge(
            "safealley_gateway_access_log_entries",
            "Looks that wait for `audit`; their pictures wait too.",
            registry=registry,
        )
        self.access_log_given_up = Counter(
            "safealley_gateway_access_log_given_up_total",
            "Looks whose window left before `audit` had them, by decision; none of them saw a picture.",
            ["result"],
            registry=registry,
        )
        self.live_bytes = Gauge(
            "safealley_gateway_live_relay_bytes", "Bytes cached or waiting for windows.", registry=registry
        )
        self.live_dropped = Counter(
            "safealley_gateway_live_relay_dropped_total",
            "Fragments left out for windows that were too slow.",
            registry=registry,
        )
        self.live_refused = Counter(
            "safealley_gateway_live_relay_refused_total", "Channels refused, by code.", ["code"], registry=registry
        )

    def watch(self, alerts: _Queued, live: _Holds, access_log: Sized) -> None:
        """Read the depths of the buffers whenever metrics are read."""
        self.queue_bytes.set_function(lambda: alerts.queued()[1])
        self.live_bytes.set_function(live.bytes_held)
        self.access_log_entries.set_function(lambda: len(access_log))
