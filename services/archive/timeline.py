"""Segments and gaps tile the time of a camera, without hole or overlap (evidence.md 8). No I/O.

Before the first thing known of a camera stream nothing was expected: `not_scheduled`, detail
`before_first_record`. After now everything is `pending`. The end that nobody has spoken of yet is `pending` for
30 s of silence and then `unknown` (its last 3 s stay `pending`). A hole that is no longer than what
counts as a gap belongs to what stands before it.
"""

import heapq
import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final, Generic, Protocol, TypeVar

from services.archive.segmenter import SMALL_HOLE_US
from services.contracts.gap import GapCause, Side
from services.contracts.timeline import Timeline, TimelineItem, TimelineState
from services.contracts.units import StreamName, UtcMicroseconds

PENDING_US: Final = 3_000_000
SILENCE_US: Final = 30_000_000
MARGIN_US: Final = 10_000_000
BEFORE_FIRST: Final = "before_first_record"
NOT_EXPECTED: Final[frozenset[GapCause]] = frozenset({"not_scheduled", "operator_stop", "privacy_off_hours"})
"""Causes that leave no second expected: they count neither for nor against coverage."""

R = TypeVar("R")


class KnownGap(Protocol):
    """What is needed of a gap."""

    @property
    def gap_id(self) -> str: ...
    @property
    def from_us(self) -> UtcMicroseconds: ...
    @property
    def to_us(self) -> UtcMicroseconds | None: ...
    @property
    def cause(self) -> GapCause: ...
    @property
    def detail(self) -> str: ...
    @property
    def side(self) -> Side: ...
    @property
    def writer(self) -> str: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Footage(Generic[R]):
    """A stretch of footage; `ref` leads to its bytes. `open`: in the open tail, not yet evidence."""

    from_us: UtcMicroseconds
    to_us: UtcMicroseconds
    epoch: int
    run: int
    open: bool
    small_hole_us: int
    ref: R


@dataclass(frozen=True, slots=True, kw_only=True)
class Tile(Generic[R]):
    """One stretch and what is there: footage, a gap, or neither."""

    from_us: UtcMicroseconds
    to_us: UtcMicroseconds
    state: TimelineState
    footage: Footage[R] | None = None
    gap: KnownGap | None = None

    @property
    def is_footage(self) -> bool:
        return self.footage is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Layer(Generic[R]):
    from_us: UtcMicroseconds
    to_us: UtcMicroseconds
    rank: tuple[int, int, int, int]
    tile: Tile[R]


def read_range(from_us: UtcMicroseconds, to_us: UtcMicroseconds) -> tuple[UtcMicroseconds, UtcMicroseconds]:
    """Return the range whose footage and gaps `tile` needs to judge the edges of the one asked for."""
    return max(0, from_us - MARGIN_US), to_us + SILENCE_US + MARGIN_US


def tile(
    from_us: UtcMicroseconds,
    to_us: UtcMicroseconds,
    *,
    now_us: UtcMicroseconds,
    first_us: UtcMicroseconds | None,
    footage: Sequence[Footage[R]],
    gaps: Sequence[KnownGap],
) -> tuple[Tile[R], ...]:
    """Return tiles that cover `[from_us, to_us)` once; one for each segment or gap that shows.

    Where epochs overlap the higher one shows and the lower fills its holes. A gap shows only where
    there is no footage; `first_us` is the first instant of which anything is known.
    """
    low, high = read_range(from_us, to_us)
    layers = [_footage_layer(one) for one in footage] + _gap_layers(gaps, footage, now_us)
    pieces = _flatten(layers, low, max(high, from_us))
    filled = _fill(pieces, now_us=now_us, first_us=first_us)
    return tuple(_clip(filled, from_us, to_us))


def coverage_ratio(tiles: Iterable[Tile[R]]) -> float:
    """Return recorded time over expected time; 1.0 when nothing was expected."""
    recorded = expected = 0
    for one in tiles:
        length = one.to_us - one.from_us
        if one.is_footage:
            recorded += length
        if one.state != "pending" and not (one.gap is not None and one.gap.cause in NOT_EXPECTED):
            expected += length
    return recorded / expected if expected else 1.0


def answer(
    camera_id: str, stream: StreamName, from_us: UtcMicroseconds, to_us: UtcMicroseconds, tiles: Sequence[Tile[R]]
) -> Timeline:
    """Return tiles as the API says them, neighbours of one run or one gap joined."""
    items: list[TimelineItem] = []
    for one in tiles:
        item = timeline_item(one)
        if items and _joins(items[-1], item):
            items[-1] = _with_end(items[-1], item.to_us)
        else:
            items.append(item)
    return Timeline(
        camera_id=camera_id,
        stream=stream,
        from_us=from_us,
        to_us=to_us,
        coverage_ratio=coverage_ratio(tiles),
        items=tuple(items),
    )


def timeline_item(one: Tile[R]) -> TimelineItem:
    """Return a tile as the API says it."""
    footage, gap = one.footage, one.gap
    return TimelineItem(
        state=one.state,
        from_us=one.from_us,
        to_us=one.to_us,
        epoch=footage.epoch if footage else None,
        run=footage.run if footage else None,
        gap_id=(gap.gap_id or None) if gap else None,
        cause=gap.cause if gap else None,
        detail=(gap.detail or None) if gap else None,
        side=gap.side if gap else None,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Nothing:
    """Time before anything is known of a stream: no record, so no id."""

    gap_id: str = ""
    from_us: UtcMicroseconds = 0
    to_us: UtcMicroseconds | None = None
    cause: GapCause = "not_scheduled"
    detail: str = BEFORE_FIRST
    side: Side = "ours"
    writer: str = "archive"


def _footage_layer(one: Footage[R]) -> _Layer[R]:
    state: TimelineState = "open" if one.open else "recorded"
    shown = Tile(from_us=one.from_us, to_us=one.to_us, state=state, footage=one)
    return _Layer(from_us=one.from_us, to_us=one.to_us, rank=(1, one.epoch, one.run, one.from_us), tile=shown)


def _gap_layers(gaps: Sequence[KnownGap], footage: Sequence[Footage[R]], now_us: UtcMicroseconds) -> list[_Layer[R]]:
    """Return gaps as layers. An open gap ends where the next footage or gap begins, or now."""
    begins = sorted([one.from_us for one in footage] + [gap.from_us for gap in gaps])
    layers: list[_Layer[R]] = []
    for gap in gaps:
        end_us = gap.to_us
        if end_us is None:
            end_us = next((at for at in begins if at > gap.from_us), max(now_us, gap.from_us))
        rank = (0, int(gap.to_us is not None), int(gap.writer != "archive"), gap.from_us)
        shown: Tile[R] = Tile(from_us=gap.from_us, to_us=end_us, state="gap", gap=gap)
        layers.append(_Layer(from_us=gap.from_us, to_us=end_us, rank=rank, tile=shown))
    return layers


def _flatten(layers: Sequence[_Layer[R]], low: UtcMicroseconds, high: UtcMicroseconds) -> list[Tile[R]]:
    """Return the highest layer at each instant; where there is none, a tile `unknown`."""
    waiting = sorted((layer for layer in layers if layer.from_us < layer.to_us), key=lambda layer: layer.from_us)
    points = {low, high}
    points.update(at for layer in waiting for at in (layer.from_us, layer.to_us) if low < at < high)
    edges = sorted(points)
    heap: list[tuple[tuple[int, ...], int]] = []
    tiles: list[Tile[R]] = []
    index = 0
    for start, end in itertools.pairwise(edges):
        while index < len(waiting) and waiting[index].from_us <= start:
            heapq.heappush(heap, (tuple(-part for part in waiting[index].rank), index))
            index += 1
        while heap and waiting[heap[0][1]].to_us <= start:
            heapq.heappop(heap)
        shown: Tile[R] = waiting[heap[0][1]].tile if heap else Tile(from_us=start, to_us=end, state="unknown")
        tiles.append(_between(shown, start, end))
    return _joined(tiles)


def _joined(tiles: Iterable[Tile[R]]) -> list[Tile[R]]:
    joined: list[Tile[R]] = []
    for one in tiles:
        last = joined[-1] if joined else None
        if last and last.state == one.state and last.footage is one.footage and last.gap is one.gap:
            joined[-1] = replace(last, to_us=one.to_us)
        else:
            joined.append(one)
    return joined


def _fill(pieces: Sequence[Tile[R]], *, now_us: UtcMicroseconds, first_us: UtcMicroseconds | None) -> list[Tile[R]]:
    """Say what the uncovered pieces are."""
    filled: list[Tile[R]] = []
    for index, piece in enumerate(pieces):
        if piece.state != "unknown":
            filled.append(piece)
            continue
        last = filled[-1] if filled else None
        ends_in_something = index + 1 < len(pieces)
        if last is not None and ends_in_something and piece.to_us - piece.from_us <= _small_hole_us(last):
            filled[-1] = replace(last, to_us=piece.to_us)
        else:
            filled += _explain(piece, now_us=now_us, first_us=first_us, ends_in_something=ends_in_something)
    return filled


def _small_hole_us(before: Tile[R]) -> int:
    return before.footage.small_hole_us if before.footage else SMALL_HOLE_US


def _explain(
    piece: Tile[R], *, now_us: UtcMicroseconds, first_us: UtcMicroseconds | None, ends_in_something: bool
) -> Iterable[Tile[R]]:
    """Cut an uncovered piece at the first known instant, at the silence of the last seconds, and at now."""
    begin_us = piece.to_us if first_us is None else first_us
    silent = not ends_in_something and piece.to_us >= now_us
    quiet_from_us = now_us
    if silent:
        brief = now_us - max(piece.from_us, begin_us) <= SILENCE_US
        quiet_from_us = 0 if brief else now_us - PENDING_US
    cuts = sorted({piece.from_us, piece.to_us, *_within(piece, begin_us, quiet_from_us, now_us)})
    for start, end in itertools.pairwise(cuts):
        if start >= now_us:
            yield Tile(from_us=start, to_us=end, state="pending")
        elif start < begin_us:
            yield Tile(from_us=start, to_us=end, state="gap", gap=_NOTHING)
        elif start >= quiet_from_us:
            yield Tile(from_us=start, to_us=end, state="pending")
        else:
            yield Tile(from_us=start, to_us=end, state="unknown")


_NOTHING: Final = _Nothing()


def _within(piece: Tile[R], *instants: UtcMicroseconds) -> Iterable[UtcMicroseconds]:
    return (at for at in instants if piece.from_us < at < piece.to_us)


def _clip(tiles: Iterable[Tile[R]], from_us: UtcMicroseconds, to_us: UtcMicroseconds) -> Iterable[Tile[R]]:
    for one in tiles:
        start, end = max(one.from_us, from_us), min(one.to_us, to_us)
        if start < end:
            yield _between(one, start, end)


def _between(one: Tile[R], from_us: UtcMicroseconds, to_us: UtcMicroseconds) -> Tile[R]:
    """Return a tile with these ends; itself where it has them, as most tiles of a long range have."""
    if (one.from_us, one.to_us) == (from_us, to_us):
        return one
    return replace(one, from_us=from_us, to_us=to_us)


def _joins(last: TimelineItem, item: TimelineItem) -> bool:
    return last.to_us == item.from_us and _facts(last) == _facts(item)


def _facts(item: TimelineItem) -> tuple[object, ...]:
    return (item.state, item.epoch, item.run, item.gap_id, item.cause, item.detail, item.side)


def _with_end(item: TimelineItem, to_us: UtcMicroseconds) -> TimelineItem:
    return TimelineItem(
        state=item.state, from_us=item.from_us, to_us=to_us, epoch=item.epoch, run=item.run, gap_id=item.gap_id,
        cause=item.cause, detail=item.detail, side=item.side,
    )  # fmt: skip
