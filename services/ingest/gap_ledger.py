"""Every second of a camera that is not footage, with its cause (cameras.md 10). No I/O: facts in, records out.

Two tracks per stream: what the camera did not give us (one open gap at most), and footage that was
given up after it was cut (a range that grows while it is given up). Ids come from the start alone, so
that a repeat is the same gap.
"""

from dataclasses import dataclass
from typing import Final

import msgspec

from services.contracts.gap import Gap, GapCause, GapClosed, Side, gap_id
from services.contracts.units import StreamName, UtcMicroseconds
from services.ingest.media_types import EndDetail, Hole, SessionEnd

THRESHOLD_US: Final = 200_000
_OURS: Final[frozenset[GapCause]] = frozenset(
    (
        "ingest_restart", "kafka_unavailable", "disk_full", "shed_by_policy", "clock_step", "operator_stop",
        "privacy_off_hours", "not_scheduled",
    )
)  # fmt: skip
_OUR_DETAILS: Final = frozenset((EndDetail.TCP_BACKPRESSURE, EndDetail.NO_BUFFER))


@dataclass(frozen=True, slots=True, kw_only=True)
class Lost:
    """A cut fragment that will not reach Kafka."""

    from_us: UtcMicroseconds
    to_us: UtcMicroseconds
    size_bytes: int
    cause: GapCause
    detail: str


class GapLedger:
    """The gaps of one stream. Each method returns the records to write, in order."""

    def __init__(self, camera_id: str, stream: StreamName, *, writer: str, begun_us: UtcMicroseconds) -> None:
        self._camera_id = camera_id
        self._stream: StreamName = stream
        self._writer = writer
        self._covered_to_us = begun_us
        self._open: Gap | None = None
        self._lost: Gap | None = None
        self._lost_to_us = 0
        self._lost_fragments = 0
        self._lost_bytes = 0

    @property
    def is_open(self) -> bool:
        return self._open is not None

    def footage(self, start_us: UtcMicroseconds, end_us: UtcMicroseconds, now_us: UtcMicroseconds) -> list[Gap]:
        """Note footage that was cut; it ends what was open."""
        records = self._close_open(max(start_us, 0), now_us)
        self._covered_to_us = max(self._covered_to_us, end_us)
        return records

    def session_ended(self, end: SessionEnd, now_us: UtcMicroseconds) -> list[Gap]:
        """Open a gap where the footage ends, unless one is open: the first cause is the cause."""
        if self._open is not None or end.cause is None:
            return []
        evidence: dict[str, int | str] = dict(end.evidence)
        facts = (
            ("rtsp_status", end.rtsp_status), ("errno", end.error_number), ("last_unit_us", end.last_unit_us),
            ("first_seq", end.first_seq), ("last_seq", end.last_seq),
        )  # fmt: skip
        evidence |= {name: value for name, value in facts if value is not None}
        self._open = self._gap(self._covered_to_us, end.cause, end.detail.value, evidence, now_us)
        return [self._open]

    def stopped(self, now_us: UtcMicroseconds, cause: GapCause | None, detail: str) -> list[Gap]:
        """Close what is open, and open what follows: it stays so until a later life has anything to say.

        `cause`: why nothing is recorded from now on; None: somebody else records.
        """
        if self._open is not None:
            self._covered_to_us = max(now_us, self._covered_to_us)
        records = self._close_open(self._covered_to_us, now_us) + self.lost_over(now_us)
        return records if cause is None else [*records, self._gap(self._covered_to_us, cause, detail, {}, now_us)]

    def hole(self, hole: Hole, now_us: UtcMicroseconds) -> list[Gap]:
        """Write a hole inside a running session."""
        gap = self._gap(hole.from_us, hole.cause, hole.detail.value, dict(hole.evidence), now_us)
        self._covered_to_us = max(self._covered_to_us, hole.to_us)
        return [gap, _closed(gap, hole.to_us, now_us)]

    def lost(self, lost: Lost, now_us: UtcMicroseconds) -> list[Gap]:
        """Note footage given up: one gap for as long as it goes on with one cause."""
        records: list[Gap] = []
        goes_on = (
            self._lost is not None
            and self._lost.cause == lost.cause
            and abs(lost.from_us - self._lost_to_us) <= THRESHOLD_US
        )
        if not goes_on:
            records += self.lost_over(now_us)
            self._lost = self._gap(lost.from_us, lost.cause, lost.detail, {}, now_us)
            records.append(self._lost)
        self._lost_to_us = max(self._lost_to_us if goes_on else 0, lost.to_us)
        self._lost_fragments += 1
        self._lost_bytes += lost.size_bytes
        return records

    def lost_over(self, now_us: UtcMicroseconds) -> list[Gap]:
        """Close the range of footage given up: later footage has been kept."""
        gap, self._lost = self._lost, None
        if gap is None:
            return []
        evidence: dict[str, int | str] = {"fragments": self._lost_fragments, "bytes": self._lost_bytes}
        self._lost_fragments = self._lost_bytes = 0
        return [_closed(msgspec.structs.replace(gap, evidence=evidence), self._lost_to_us, now_us)]

    def _close_open(self, to_us: UtcMicroseconds, now_us: UtcMicroseconds) -> list[Gap]:
        gap, self._open = self._open, None
        return [] if gap is None else [_closed(gap, max(to_us, gap.from_us), now_us)]

    def _gap(
        self,
        from_us: UtcMicroseconds,
        cause: GapCause,
        detail: str,
        evidence: dict[str, int | str],
        now_us: UtcMicroseconds,
    ) -> Gap:
        return Gap(
            gap_id=gap_id(self._camera_id, self._stream, from_us),
            camera_id=self._camera_id,
            stream=self._stream,
            from_us=from_us,
            to_us=None,
            cause=cause,
            detail=detail,
            evidence=evidence,
            side=side_of(cause, detail),
            writer=self._writer,
            recorded_at_us=now_us,
        )


def side_of(cause: GapCause, detail: str) -> Side:
    """Return who is to blame: us, or the device with its network."""
    return "ours" if cause in _OURS or detail in _OUR_DETAILS else "device"


def _closed(gap: Gap, to_us: UtcMicroseconds, now_us: UtcMicroseconds) -> GapClosed:
    values = msgspec.structs.asdict(gap) | {"to_us": to_us, "recorded_at_us": now_us}
    return GapClosed(**values)
