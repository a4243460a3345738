"""What archive answers about a camera's time (evidence.md 8)."""

from typing import Literal

from msgspec import Struct

from services.contracts.gap import Side
from services.contracts.units import StreamName, UtcMicroseconds

TimelineState = Literal["recorded", "open", "gap", "pending", "destroyed", "unknown"]


class TimelineItem(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One stretch of time `[from_us, to_us)` and what is there."""

    state: TimelineState
    from_us: UtcMicroseconds
    to_us: UtcMicroseconds
    epoch: int | None = None
    run: int | None = None
    gap_id: str | None = None
    cause: str | None = None
    detail: str | None = None
    side: Side | None = None


class Timeline(Struct, frozen=True, kw_only=True):
    """A camera's range, tiled without hole or overlap."""

    camera_id: str
    stream: StreamName
    from_us: UtcMicroseconds
    to_us: UtcMicroseconds
    coverage_ratio: float
    items: tuple[TimelineItem, ...]


class ClipPart(Struct, frozen=True, kw_only=True):
    """A stretch that one MP4 file can hold."""

    from_us: UtcMicroseconds
    to_us: UtcMicroseconds
    href: str


class ClipParts(Struct, frozen=True, kw_only=True):
    """The answer 409 to a clip over a gap, a change of run or of init: fetch these instead."""

    parts: tuple[ClipPart, ...]
    gaps: tuple[TimelineItem, ...]
