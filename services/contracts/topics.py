"""Every topic: who says what to whom, how it is keyed, how long it is kept.

This table is the only one: what each service opens, the chart and the access-control matrix are
tested against it. Source: design.md (Topics), kafka.md 6.
"""

from dataclasses import dataclass
from typing import Final, Literal

from msgspec import Struct

from services.contracts.alarm import AlarmCleared, AlarmHeartbeat, AlarmRaised
from services.contracts.alert import Alert, AlertEvent, PartitionFence
from services.contracts.audit import Access
from services.contracts.claim import Claim
from services.contracts.command import DeviceCommand, DeviceConfirmation, OperatorCommand, Receipt
from services.contracts.device import Device
from services.contracts.fragment import Fragment, VideoEnd
from services.contracts.gap import Gap, GapClosed, GapRepaired
from services.contracts.site import Site
from services.contracts.stream import PictureHealth, StreamState

Party = Literal["registry", "ingest", "alerting", "gateway", "archive", "outcome-watch"]

MINUTE_MS: Final = 60_000
HOUR_MS: Final = 60 * MINUTE_MS
DAY_MS: Final = 24 * HOUR_MS
KIB: Final = 1024
MIB: Final = 1024 * 1024
ONE_BOX_PARTITIONS: Final = 8
DEAD_LETTER_PARTITIONS: Final = 6
SYSTEM_ROOT: Final = "system"
"""The root of a service's own fault."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Topic:
    """One topic. `key` says in words what the record key is; `root` topics are partitioned by root."""

    name: str
    key: str
    types: tuple[type[Struct], ...]
    producers: frozenset[Party]
    consumers: frozenset[Party]
    city_partitions: int
    compacted: bool = False
    retention_ms: int = 7 * DAY_MS
    message_bytes_max: int = 256 * KIB

    @property
    def dead_letters(self) -> str:
        return f"{self.name}.dlq"

    def city_settings(self) -> dict[str, str]:
        """Return the topic's Kafka settings in a city."""
        settings = {"max.message.bytes": str(self.message_bytes_max), "compression.type": "producer"}
        if self.compacted:
            settings |= {"cleanup.policy": "compact", "min.compaction.lag.ms": str(HOUR_MS),
                         "delete.retention.ms": str(7 * DAY_MS)}  # fmt: skip
        else:
            settings |= {"cleanup.policy": "delete", "retention.ms": str(self.retention_ms)}
        if self is VIDEO:
            settings["segment.bytes"] = str(512 * MIB)
        return settings

    def one_box_settings(self, *, video_partition_bytes: int) -> dict[str, str]:
        """Return the settings on one box, where one power cut must lose no alarm.

        Args:
            video_partition_bytes: most bytes of `video` kept in one partition; the active segment
                comes on top, since it is never trimmed.
        """
        settings = self.city_settings() | {
            "segment.bytes": str(16 * MIB),
            "segment.index.bytes": str(MIB),
            "file.delete.delay.ms": "1000",
        }
        if self is VIDEO:
            return settings | {"flush.ms": "1000", "retention.bytes": str(video_partition_bytes)}
        if self.compacted:
            settings["min.compaction.lag.ms"] = str(MINUTE_MS)  # docs/decisions/0007
        return settings | {"flush.messages": "1"}


def devices(pool: str) -> str:
    """Return the registry topic of a pool, a network zone that can reach its cameras."""
    return f"devices.{pool}"


_ALL: frozenset[Party] = frozenset(("registry", "ingest", "alerting", "gateway", "archive", "outcome-watch"))


def _parties(*names: Party) -> frozenset[Party]:
    return frozenset(names)


DEVICES: Final = Topic(
    name=devices("main"), key="device id or site/<site id>; the writer chooses the partition", types=(Device, Site),
    producers=_parties("registry"), consumers=_ALL, city_partitions=240, compacted=True,
)  # fmt: skip
CLAIMS: Final = Topic(
    name="claims", key="camera id or alerts/<partition>", types=(Claim,),
    producers=_parties("ingest", "alerting"),
    consumers=_parties("ingest", "alerting", "gateway", "archive", "outcome-watch"),
    city_partitions=24, compacted=True, message_bytes_max=16 * KIB,
)  # fmt: skip
VIDEO: Final = Topic(
    name="video", key="camera id", types=(Fragment, VideoEnd),
    producers=_parties("ingest"), consumers=_parties("archive"), city_partitions=64,
    retention_ms=6 * HOUR_MS, message_bytes_max=2 * MIB,
)  # fmt: skip
STREAMS: Final = Topic(
    name="streams", key="camera id", types=(StreamState, Gap, GapClosed, GapRepaired, PictureHealth),
    producers=_parties("ingest"), consumers=_parties("archive", "gateway", "alerting"), city_partitions=24,
)  # fmt: skip
ALARMS: Final = Topic(
    name="alarms", key="root: the site; for class health the topology root",
    types=(AlarmRaised, AlarmCleared, AlarmHeartbeat),
    producers=_parties("ingest", "gateway", "alerting", "archive"),
    consumers=_parties("alerting", "archive", "outcome-watch"), city_partitions=24,
)  # fmt: skip
ALERTS: Final = Topic(
    name="alerts", key="alert id; partition of its root", types=(Alert, PartitionFence),
    producers=_parties("alerting"), consumers=_parties("alerting", "gateway", "archive", "outcome-watch"),
    city_partitions=24, compacted=True,
)  # fmt: skip
ALERT_EVENTS: Final = Topic(
    name="alert-events", key="root", types=(AlertEvent, PartitionFence),
    producers=_parties("alerting"), consumers=_parties("archive", "outcome-watch"), city_partitions=24,
    retention_ms=90 * DAY_MS,
)  # fmt: skip
OPERATOR_COMMANDS: Final = Topic(
    name="operator-commands", key="root that the command changes", types=(OperatorCommand, Receipt),
    producers=_parties("gateway"), consumers=_parties("alerting", "outcome-watch"), city_partitions=24,
)  # fmt: skip
DEVICE_COMMANDS: Final = Topic(
    name="device-commands", key="device id", types=(DeviceCommand, DeviceConfirmation),
    producers=_parties("alerting", "gateway", "ingest"), consumers=_parties("ingest", "alerting", "gateway"),
    city_partitions=24,
)  # fmt: skip
AUDIT: Final = Topic(
    name="audit", key="actor", types=(Access,), producers=_ALL - {"outcome-watch"}, consumers=_parties("archive"),
    city_partitions=12, retention_ms=90 * DAY_MS,
)  # fmt: skip

TOPICS: Final = (
    DEVICES, CLAIMS, VIDEO, STREAMS, ALARMS, ALERTS, ALERT_EVENTS, OPERATOR_COMMANDS, DEVICE_COMMANDS, AUDIT,
)  # fmt: skip
BY_ROOT: Final = (ALARMS, ALERTS, ALERT_EVENTS, OPERATOR_COMMANDS)
"""These have equal partition counts, so that the owner of one partition of `alarms` owns all four."""


def dead_letter_settings() -> dict[str, str]:
    """Return the Kafka settings of a dead-letter topic."""
    return {"cleanup.policy": "delete", "retention.ms": str(7 * DAY_MS), "max.message.bytes": str(256 * KIB)}
