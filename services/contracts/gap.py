"""A gap is data: every second that is not footage, with its cause (cameras.md 10)."""

import hashlib
from typing import ClassVar, Literal

from msgspec import Struct

from services.contracts.units import Identifier, StreamName, UtcMicroseconds

GapCause = Literal[
    "device_offline",
    "network_loss",
    "stream_error",
    "ingest_restart",
    "kafka_unavailable",
    "kafka_retention_loss",
    "kafka_log_regressed",
    "chunk_lost",
    "archive_fault",
    "storage_unavailable",
    "disk_full",
    "shed_by_policy",
    "clock_step",
    "privacy_off_hours",
    "not_scheduled",
    "operator_stop",
]
Side = Literal["ours", "device"]


class Gap(Struct, frozen=True, kw_only=True):
    """Half-open `[from_us, to_us)`; `to_us` is None while the gap is open.

    The id is a hash of (camera, stream, from), so two writers of one gap make one record.
    `evidence` holds numbers and closed words only.
    """

    TYPE: ClassVar[str] = "kr.safealley.gap.opened.v1"

    gap_id: str
    camera_id: Identifier
    stream: StreamName
    from_us: UtcMicroseconds
    to_us: UtcMicroseconds | None
    cause: GapCause
    detail: str
    evidence: dict[str, int | str]
    side: Side
    writer: str
    recorded_at_us: UtcMicroseconds
    repaired_by: str | None = None


class GapClosed(Gap, frozen=True, kw_only=True):
    """The gap has an end."""

    TYPE: ClassVar[str] = "kr.safealley.gap.closed.v1"


class GapRepaired(Gap, frozen=True, kw_only=True):
    """Footage was found for the gap later; both facts stay visible."""

    TYPE: ClassVar[str] = "kr.safealley.gap.repaired.v1"


def gap_id(camera_id: str, stream: StreamName, from_us: UtcMicroseconds) -> str:
    """Return the deterministic id of a gap."""
    return hashlib.sha256(f"{camera_id}/{stream}/{from_us}".encode()).hexdigest()[:32]
