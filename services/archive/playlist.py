"""HLS VOD: whole GOPs by byte range, GAP entries for missing time (evidence.md 10). No I/O."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

from services.contracts.envelope import rfc3339
from services.contracts.units import UtcMicroseconds

ENTRY_US_MIN: Final = 2_000_000
GAP_ENTRY_US_MAX: Final = 6_000_000
VERSION: Final = 8
"""EXT-X-GAP needs protocol version 8 (RFC 8216bis 4.4.4.7)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A media entry, or a gap when `size_bytes` is 0. `timeline` changes with epoch, run or init.

    `key`: it begins with a key picture, so that it can be decoded alone.
    """

    uri: str
    from_us: UtcMicroseconds
    to_us: UtcMicroseconds
    offset: int = 0
    size_bytes: int = 0
    init_uri: str = ""
    timeline: tuple[int, int, str] = (0, 0, "")
    key: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class GopSpan:
    """One GOP: bytes and wall time. `key` False: the rest of one that began in the segment before."""

    from_us: UtcMicroseconds
    to_us: UtcMicroseconds
    offset: int
    size_bytes: int
    key: bool = True


def grouped(gops: Sequence[GopSpan]) -> Iterator[GopSpan]:
    """Join neighbouring GOPs until each entry lasts at least 2 s."""
    held: GopSpan | None = None
    for gop in gops:
        held = gop if held is None else _join(held, gop)
        if held.to_us - held.from_us >= ENTRY_US_MIN:
            yield held
            held = None
    if held is not None:
        yield held


def gap_entries(from_us: UtcMicroseconds, to_us: UtcMicroseconds) -> Iterator[Entry]:
    """Return missing time as entries that nobody fetches."""
    at = from_us
    while at < to_us:
        end = min(to_us, at + GAP_ENTRY_US_MAX)
        yield Entry(uri="gap.mp4", from_us=at, to_us=end)
        at = end


def render(entries: Iterable[Entry]) -> str:
    """Return the playlist's text."""
    listed = tuple(entries)
    target_s = max([round((one.to_us - one.from_us) / 1e6) for one in listed], default=0)
    lines = [
        "#EXTM3U",
        f"#EXT-X-VERSION:{VERSION}",
        f"#EXT-X-TARGETDURATION:{max(1, target_s)}",
        "#EXT-X-PLAYLIST-TYPE:VOD",
        *(["#EXT-X-INDEPENDENT-SEGMENTS"] if all(one.key for one in listed) else []),
        "#EXT-X-MEDIA-SEQUENCE:0",
    ]
    last: Entry | None = None
    for one in listed:
        lines += _lines(one, last)
        last = one if one.size_bytes else last
    return "\n".join([*lines, "#EXT-X-ENDLIST", ""])


def _lines(one: Entry, last: Entry | None) -> Iterator[str]:
    if one.size_bytes and last is not None and one.timeline != last.timeline:
        yield "#EXT-X-DISCONTINUITY"
    if one.size_bytes and (last is None or one.init_uri != last.init_uri):
        yield f'#EXT-X-MAP:URI="{one.init_uri}"'
    yield f"#EXT-X-PROGRAM-DATE-TIME:{rfc3339(one.from_us)}"
    if not one.size_bytes:
        yield "#EXT-X-GAP"
    yield f"#EXTINF:{(one.to_us - one.from_us) / 1e6:.6f},"
    if one.size_bytes:
        yield f"#EXT-X-BYTERANGE:{one.size_bytes}@{one.offset}"
    yield one.uri


def _join(held: GopSpan, gop: GopSpan) -> GopSpan:
    return replace(held, to_us=gop.to_us, size_bytes=gop.offset + gop.size_bytes - held.offset)
