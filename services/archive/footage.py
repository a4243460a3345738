"""From a range to what can be played: the parts one file can hold, byte ranges, playlist entries.

Blocks: called on archive's reading threads.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

from services.archive import clip, playlist, timeline
from services.archive.history import History, Source, run_of, seq0_of
from services.archive.scratch import Gop
from services.archive.timeline import Tile
from services.contracts.timeline import ClipPart, ClipParts
from services.contracts.units import StreamName, UtcMicroseconds

PART_US_MAX: Final = 4 * 3600 * 1_000_000
DEPENDENT_MAX: Final = 64
"""How many segments back a key picture is looked for: smart codecs, 120 s each."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A contiguous stretch of one run under one init."""

    from_us: UtcMicroseconds
    to_us: UtcMicroseconds
    tiles: tuple[Tile[Source], ...]

    @property
    def is_open(self) -> bool:
        return any(one.state == "open" for one in self.tiles)


def parts(tiles: Sequence[Tile[Source]]) -> tuple[Part, ...]:
    """Return the stretches that one file each can hold."""
    found: list[list[Tile[Source]]] = []
    for one in tiles:
        if not one.is_footage:
            found.append([])
            continue
        if not found or not found[-1] or not _goes_on(found[-1], one):
            found.append([])
        found[-1].append(one)
    return tuple(Part(from_us=group[0].from_us, to_us=group[-1].to_us, tiles=tuple(group)) for group in found if group)


def instead(tiles: Sequence[Tile[Source]], href: Callable[[int, int], str]) -> ClipParts:
    """Return the answer 409: what to fetch instead, and why."""
    return ClipParts(
        parts=tuple(
            ClipPart(from_us=part.from_us, to_us=part.to_us, href=href(part.from_us, part.to_us))
            for part in parts(tiles)
        ),
        gaps=tuple(timeline.timeline_item(one) for one in tiles if not one.is_footage),
    )


def cutting(history: History, camera_id: str, stream: StreamName, part: Part) -> clip.Cutting:
    """Return what `clip.cut` needs for a whole part, from the last key picture at or before its beginning."""
    from_us, to_us = part.from_us, part.to_us
    sources = [one.footage.ref for one in part.tiles if one.footage is not None]
    first = sources[0]
    gop = _gop_before(history.index(first).gops, from_us)
    for _ in range(DEPENDENT_MAX):
        before = None if gop.key else history.before(camera_id, stream, first)
        if before is None:
            break
        sources.insert(0, before)
        first, gop = before, _gop_before(history.index(before).gops, from_us)
    pieces = [
        clip.Piece(
            read=partial(history.read, source),
            from_offset=gop.offset if source is first else history.index(source).gops[0].offset,
            to_offset=history.index(source).end_offset,
        )
        for source in sources
    ]
    pieces[-1] = clip.Piece(
        read=pieces[-1].read, from_offset=pieces[-1].from_offset, to_offset=_end_behind(history, sources[-1], to_us)
    )
    return clip.Cutting(
        init=history.init(first),
        pieces=pieces,
        timescale=history.index(first).timescale,
        from_us=from_us,
        to_us=to_us,
        first_us=gop.start_us,
    )


def entries(
    history: History, tiles: Sequence[Tile[Source]], *, uri: Callable[[Source], str], init_uri: Callable[[str], str]
) -> Iterator[playlist.Entry]:
    """Return a playlist's entries: whole GOPs that touch the range, and gaps for the rest.

    A GOP that begins before the range is listed whole, so an entry may begin a little earlier.
    """
    reached_us = 0
    for one in tiles:
        if one.footage is None:
            begin = max(one.from_us, reached_us)
            yield from playlist.gap_entries(begin, one.to_us)
            continue
        source = one.footage.ref
        spans = [span for span in _spans(history, source) if span.to_us > one.from_us and span.from_us < one.to_us]
        for span in playlist.grouped(spans):
            reached_us = span.to_us
            epoch, run = run_of(source)
            yield playlist.Entry(
                uri=uri(source),
                from_us=span.from_us,
                to_us=span.to_us,
                offset=span.offset,
                size_bytes=span.size_bytes,
                init_uri=init_uri(source.init_sha256),
                timeline=(epoch, run, source.init_sha256),
                key=span.key,
            )


def media_name(source: Source, stream: StreamName) -> str:
    """Return the name of a segment's bytes: the same while it is open and once it is stored."""
    epoch, _ = run_of(source)
    return f"{stream}-{epoch}-{seq0_of(source)}.mp4"


def _spans(history: History, source: Source) -> Iterator[playlist.GopSpan]:
    index = history.index(source)
    ends = [(gop.start_us, gop.offset) for gop in index.gops[1:]] + [(source.end_us, index.end_offset)]
    for gop, (end_us, end_offset) in zip(index.gops, ends, strict=True):
        if end_us > gop.start_us:
            yield playlist.GopSpan(
                from_us=gop.start_us,
                to_us=end_us,
                offset=gop.offset,
                size_bytes=end_offset - gop.offset,
                key=gop.key,
            )


def _goes_on(group: Sequence[Tile[Source]], one: Tile[Source]) -> bool:
    last = group[-1].footage
    if last is None or one.footage is None:
        return False
    same = run_of(last.ref) == run_of(one.footage.ref) and last.ref.init_sha256 == one.footage.ref.init_sha256
    # A lower epoch that shows again after a higher one leaves a hole in its own pictures.
    return (
        same
        and last.ref.end_us + last.small_hole_us >= one.footage.ref.start_us
        and one.to_us - group[0].from_us <= PART_US_MAX
    )


def _gop_before(gops: Sequence[Gop], at_us: UtcMicroseconds) -> Gop:
    return max((gop for gop in gops if gop.start_us <= at_us), key=lambda gop: gop.start_us, default=gops[0])


def _end_behind(history: History, source: Source, to_us: UtcMicroseconds) -> int:
    index = history.index(source)
    return next((gop.offset for gop in index.gops if gop.start_us >= to_us), index.end_offset)
