"""One camera stream as read once from ingest, and the windows that watch it. No I/O.

Fragments pass through as bytes: only the 16-byte header of each is rewritten for the window's
channel. What is kept is bounded: the newest GOP of a feed, and 2 s per watching channel.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, Literal

from services.contracts.console import (
    LIVE_FRAGMENT,
    LIVE_HEADER,
    LIVE_INIT,
    LIVE_JPEG,
    LiveDrop,
    LiveErr,
    LiveGap,
    LiveInit,
)
from services.contracts.units import StreamName

QUEUE_US: Final = 2_000_000
GOP_BYTES_MAX: Final = 16 * 1024 * 1024
LiveText = LiveInit | LiveDrop | LiveGap | LiveErr
Want = Literal["video", "still"]


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class FeedKey:
    """What is read from ingest once for all windows."""

    camera_id: str
    stream: StreamName
    want: Want


@dataclass(frozen=True, slots=True, kw_only=True)
class Media:
    """One binary frame of ingest: its header's facts and its bytes behind the header."""

    kind: int
    capture_us: int
    seq: int
    key: bool
    payload: memoryview

    def frame(self, channel: int) -> bytes:
        """Return the frame as one window is to get it."""
        return b"".join((LIVE_HEADER.pack(1, self.kind, channel, self.capture_us, self.seq), self.payload))


def read_media(frame: bytes, *, key: bool) -> tuple[int, Media]:
    """Return the channel and the media of a binary frame.

    Raises:
        ValueError: shorter than its header.
    """
    if len(frame) < LIVE_HEADER.size:
        raise ValueError(f"a live frame of {len(frame)} bytes has no header")
    _, kind, channel, capture_us, seq = LIVE_HEADER.unpack_from(frame)
    view = memoryview(frame)[LIVE_HEADER.size :]
    return channel, Media(kind=kind, capture_us=capture_us, seq=seq, key=key, payload=view)


@dataclass(slots=True, eq=False)
class WatchedChannel:
    """What one window still has to get of one feed: at most 2 s, then down to the next key picture."""

    number: int
    wake: Callable[[], None]
    pending: deque[LiveText | Media] = field(default_factory=deque)
    bytes_waiting: int = 0
    waits_for_key: bool = False
    dropped: int = 0

    def offer(self, item: LiveText | Media) -> int:
        """Queue an item; return how many fragments were left out for it."""
        if not isinstance(item, Media):
            self.pending.append(item)
            return 0
        if item.kind == LIVE_FRAGMENT and self.waits_for_key and not item.key:
            self.dropped += 1
            return 1
        left_out = self._shed(item)
        if item.kind == LIVE_FRAGMENT and left_out and not item.key:
            self.waits_for_key = True
            self.dropped += 1
            return left_out + 1
        self._say_drop(item)
        self.pending.append(item)
        self.bytes_waiting += len(item.payload)
        return left_out

    def take(self) -> LiveText | Media | None:
        if not self.pending:
            return None
        item = self.pending.popleft()
        if isinstance(item, Media):
            self.bytes_waiting -= len(item.payload)
        return item

    def _shed(self, newest: Media) -> int:
        """Drop what waits once it spans 2 s (a still: once a newer one is there)."""
        oldest = next((item for item in self.pending if isinstance(item, Media) and item.kind == newest.kind), None)
        if oldest is None or newest.kind == LIVE_INIT:
            return 0
        if newest.kind == LIVE_FRAGMENT and newest.capture_us - oldest.capture_us <= QUEUE_US:
            return 0
        kept = deque(item for item in self.pending if not isinstance(item, Media) or item.kind == LIVE_INIT)
        left_out = len(self.pending) - len(kept)
        self.pending = kept
        self.bytes_waiting = sum(len(item.payload) for item in kept if isinstance(item, Media))
        if newest.kind == LIVE_FRAGMENT:
            self.dropped += left_out
        return left_out

    def _say_drop(self, item: Media) -> None:
        if item.kind == LIVE_FRAGMENT and self.dropped:
            self.pending.append(LiveDrop(ch=self.number, frames=self.dropped))
            self.dropped = 0
            self.waits_for_key = False


@dataclass(slots=True, eq=False)
class Feed:
    """The newest GOP of a stream: sent at once to whoever joins."""

    key: FeedKey
    watchers: set[WatchedChannel] = field(default_factory=set)
    codec: str | None = None
    init: Media | None = None
    gop: list[Media] = field(default_factory=list)
    gop_bytes: int = 0
    trouble: LiveErr | LiveGap | None = None

    def text(self, said: LiveText) -> None:
        """Take what ingest says of this stream."""
        if isinstance(said, LiveInit):
            self.codec = said.codec
            self.trouble = None
            self._clear_gop()
        elif isinstance(said, LiveErr | LiveGap):
            self.trouble = said

    def media(self, media: Media) -> None:
        """Keep what a joining window needs; a GOP too long is not kept (it then waits for the next key)."""
        self.trouble = None
        if media.kind == LIVE_INIT:
            self.init = media
            self._clear_gop()
        elif media.kind == LIVE_JPEG:
            self.gop, self.gop_bytes = [media], len(media.payload)
        else:
            if media.key:
                self._clear_gop()
            if (media.key or self.gop) and self.gop_bytes + len(media.payload) <= GOP_BYTES_MAX:
                self.gop.append(media)
                self.gop_bytes += len(media.payload)
            else:
                self._clear_gop()

    def joined(self, channel: WatchedChannel) -> list[LiveText | Media]:
        """Return what a window that joins gets first."""
        first: list[LiveText | Media] = []
        if self.codec is not None:
            first.append(LiveInit(ch=channel.number, codec=self.codec))
        if self.init is not None:
            first.append(self.init)
        first.extend(self.gop)
        if self.trouble is not None:
            first.append(self.trouble)
        return first

    def _clear_gop(self) -> None:
        self.gop, self.gop_bytes = [], 0


def for_channel(said: LiveText, number: int) -> LiveText:
    """Return a text message as one window is to get it."""
    match said:
        case LiveInit():
            return LiveInit(ch=number, codec=said.codec)
        case LiveGap():
            return LiveGap(ch=number, from_us=said.from_us, to_us=said.to_us, cause=said.cause)
        case LiveErr():
            return LiveErr(ch=number, code=said.code)
        case LiveDrop():
            return LiveDrop(ch=number, frames=said.frames)
