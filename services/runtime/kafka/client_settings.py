"""The clients' settings, one table per kind (kafka.md 5.1, 5.2). Data only; no client library.

aiokafka's defaults are wrong for us (auto-commit, acks=1, latest, 50 MiB fetches: guard 17), so that
every setting is written down here, and a test reads them back from constructed clients.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from services.runtime.kafka_port import GroupProfile, ProducerProfile

KIB: Final = 1024
MIB: Final = 1024 * 1024
START_S: Final = 30.0
STOP_S: Final = 5.0
LEFT_S: Final = 2.0
"""For a start nobody waits for any more, before its client is stopped."""
CALL_S: Final = 5.0
"""Deadline of commit, committed, position, seek and offset look-ups."""
SEND_GRACE_S: Final = 5.0
METADATA_MAX_AGE_MS: Final = 60_000
"""A minute, so that a leader moved while nothing is sent is known before the next alarm."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProducerSettings:
    """One producer. The limits are our own checks, made before the client sees a record (guard 7)."""

    linger_ms: int
    max_batch_size: int
    max_request_size: int
    credit_bytes: int
    value_bytes_max: int
    header_bytes_max: int
    record_bytes_max: int
    request_timeout_ms: int = 15_000

    @property
    def deadline_s(self) -> float:
        """Credit, send and acknowledgement together."""
        return self.request_timeout_ms / 1000 + SEND_GRACE_S

    def client(self) -> dict[str, Any]:
        return {
            "acks": "all",
            "enable_idempotence": False,  # guards 1-3: an idempotent send can hang for ever
            "compression_type": None,
            "linger_ms": self.linger_ms,
            "max_batch_size": self.max_batch_size,
            "max_request_size": self.max_request_size,
            "request_timeout_ms": self.request_timeout_ms,
            "metadata_max_age_ms": METADATA_MAX_AGE_MS,
        }


PRODUCERS: Final[Mapping[ProducerProfile, ProducerSettings]] = {
    ProducerProfile.RECORDS: ProducerSettings(
        linger_ms=0, max_batch_size=64 * KIB, max_request_size=256 * KIB, credit_bytes=MIB,
        value_bytes_max=256 * KIB, header_bytes_max=256 * KIB, record_bytes_max=256 * KIB,
    ),
    ProducerProfile.VIDEO: ProducerSettings(
        linger_ms=0, max_batch_size=MIB, max_request_size=2 * MIB, credit_bytes=8 * MIB,
        value_bytes_max=MIB, header_bytes_max=6 * KIB, record_bytes_max=MIB + 8 * KIB,
    ),
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchSettings:
    """How a consumer fetches; enough for a reader without a group."""

    fetch_max_wait_ms: int = 100
    fetch_min_bytes: int = 1
    fetch_max_bytes: int = MIB
    max_partition_fetch_bytes: int = 256 * KIB
    request_timeout_ms: int = 15_000

    def client(self) -> dict[str, Any]:
        return {
            "fetch_max_wait_ms": self.fetch_max_wait_ms,
            "fetch_min_bytes": self.fetch_min_bytes,
            "fetch_max_bytes": self.fetch_max_bytes,
            "max_partition_fetch_bytes": self.max_partition_fetch_bytes,
            "request_timeout_ms": self.request_timeout_ms,
            "metadata_max_age_ms": METADATA_MAX_AGE_MS,
            "enable_auto_commit": False,
            "auto_offset_reset": "none",
            "check_crcs": True,
            "isolation_level": "read_uncommitted",
        }


READER: Final = FetchSettings()
PATIENT_READER: Final = replace(READER, fetch_max_wait_ms=1_000)
"""Each fetch of an idle reader costs about 1 ms of CPU: ten a second are a camera or two (2026-11-25)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupSettings:
    """One member of a group.

    `session_fallback_ms` is for brokers whose `group.min.session.timeout.ms` refuses the first
    value (stock: 6,000). `revoke_s` ends well before the rebalance does, `assigned_s` before the
    poll interval. A stuck client ends the process, but not ingest, which records on.
    """

    fetch: FetchSettings
    session_ms: int
    heartbeat_ms: int
    rebalance_ms: int
    max_poll_interval_ms: int
    revoke_s: float
    assigned_s: float
    session_fallback_ms: int | None = None
    exits_when_stuck: bool = True

    def client(self) -> dict[str, Any]:
        return self.fetch.client() | {
            "session_timeout_ms": self.session_ms,
            "heartbeat_interval_ms": self.heartbeat_ms,
            "rebalance_timeout_ms": self.rebalance_ms,
            "max_poll_interval_ms": self.max_poll_interval_ms,
            "group_instance_id": None,  # guard 21
        }

    def fallback(self) -> "GroupSettings | None":
        """Return the settings for a broker that refuses the session time."""
        if self.session_fallback_ms is None:
            return None
        return replace(self, session_ms=self.session_fallback_ms, session_fallback_ms=None)


_ARCHIVE_FETCH: Final = FetchSettings(
    fetch_max_wait_ms=250, fetch_max_bytes=8 * MIB, max_partition_fetch_bytes=2 * MIB + 64 * KIB,
    request_timeout_ms=30_000,
)  # fmt: skip
_ARCHIVE: Final = GroupSettings(
    fetch=_ARCHIVE_FETCH, session_ms=10_000, heartbeat_ms=3_000, rebalance_ms=90_000,
    max_poll_interval_ms=90_000, revoke_s=65.0, assigned_s=80.0,
)  # fmt: skip
GROUPS: Final[Mapping[GroupProfile, GroupSettings]] = {
    GroupProfile.ALERTING: GroupSettings(
        fetch=READER, session_ms=3_000, session_fallback_ms=6_000, heartbeat_ms=1_000, rebalance_ms=15_000,
        max_poll_interval_ms=60_000, revoke_s=10.0, assigned_s=50.0,
    ),
    GroupProfile.ARCHIVE_VIDEO: replace(_ARCHIVE, fetch=replace(_ARCHIVE_FETCH, fetch_min_bytes=65_536)),
    GroupProfile.ARCHIVE_RECORDS: _ARCHIVE,
    GroupProfile.OWNERSHIP: GroupSettings(
        fetch=READER, session_ms=6_000, heartbeat_ms=1_000, rebalance_ms=15_000,
        max_poll_interval_ms=60_000, revoke_s=10.0, assigned_s=50.0, exits_when_stuck=False,
    ),
}  # fmt: skip
