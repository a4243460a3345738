"""Every metric of alerting, by stage. Labels are closed sets; never a device, an alert or a person."""

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

_EDGES = (0.001, 0.002, 0.005, 0.01, 0.02, 0.04, 0.06, 0.12, 0.25, 0.5, 1.0, 2.0, 5.0, 12.0)


class AlertingMetrics:
    """Instruments made on an injected registry, so that tests have their own."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.alarms = Counter(
            "safealley_alerting_correlator_alarms_total", "Alarms read, by what became of them.",
            ["alarm_class", "reason"], registry=registry,
        )  # fmt: skip
        self.priorities = Counter(
            "safealley_alerting_prioritiser_alerts_total", "Alerts opened, by priority.", ["priority"],
            registry=registry,
        )  # fmt: skip
        self.changes = Counter(
            "safealley_alerting_lifecycle_changes_total", "Changes of alerts, by event.", ["change"],
            registry=registry,
        )  # fmt: skip
        self.commands = Counter(
            "safealley_alerting_commands_answers_total", "Commands of people, by verb and reason.",
            ["verb", "reason"], registry=registry,
        )  # fmt: skip
        self.receipts = Counter(
            "safealley_alerting_commands_receipts_total", "Receipts of consoles, by kind and reason.",
            ["kind", "reason"], registry=registry,
        )  # fmt: skip
        self.to_written_seconds = Histogram(
            "safealley_alerting_changelog_received_to_written_seconds",
            "Alarm received by ingest to its alert acknowledged by Kafka.", ["alarm_class"],
            buckets=_EDGES, registry=registry,
        )  # fmt: skip
        self.resends = Counter(
            "safealley_alerting_changelog_resends_total", "Records sent again after no answer.", registry=registry
        )
        self.rewritten = Counter(
            "safealley_alerting_changelog_rewritten_total",
            "States written again because a former owner wrote behind us.", registry=registry,
        )  # fmt: skip
        self.unreadable = Counter(
            "safealley_alerting_changelog_unreadable_total", "Records that are not what their topic carries.",
            ["topic"], registry=registry,
        )  # fmt: skip
        self.restored = Gauge(
            "safealley_alerting_ownership_restored_alerts", "Alerts restored at the last assignment.",
            registry=registry,
        )  # fmt: skip
        self.restore_seconds = Histogram(
            "safealley_alerting_ownership_restore_seconds", "Claim, fence and restore of the assigned partitions.",
            buckets=(0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0), registry=registry,
        )  # fmt: skip
        self.lost_offsets = Counter(
            "safealley_alerting_ownership_lost_offsets_total",
            "Offsets that were to be read and are gone from the log.", ["topic"], registry=registry,
        )  # fmt: skip
        self.superseded = Counter(
            "safealley_alerting_ownership_superseded_total", "Partitions taken over by another owner.",
            registry=registry,
        )  # fmt: skip
        self.alerts = Gauge("safealley_alerting_state_alerts", "Alerts held whole in memory.", registry=registry)
        self.active = Gauge("safealley_alerting_state_active", "Alerts that are not normal.", registry=registry)
        self.lane_bytes = Gauge(
            "safealley_alerting_lanes_bytes", "Bytes of records read and not yet decided.", registry=registry
        )

    def watch(self, *, alerts: Callable[[], int], active: Callable[[], int], lane_bytes: Callable[[], int]) -> None:
        """Read the gauges when they are asked for, so that a change costs nothing."""
        self.alerts.set_function(alerts)
        self.active.set_function(active)
        self.lane_bytes.set_function(lane_bytes)
