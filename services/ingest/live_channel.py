"""One channel of a live socket: what it still has to get, at most 2 s, then down to the next key picture. No I/O.

Messages: console.md 4.4, `contracts/console.py`.
"""

from collections import deque
from dataclasses import dataclass, field
from typing import Final

from services.contracts import codec
from services.contracts.console import (
    LIVE_FRAGMENT,
    LIVE_HEADER,
    LIVE_INIT,
    LIVE_JPEG,
    LIVE_VERSION,
    LiveDrop,
    LiveErr,
    LiveGap,
    LiveInit,
    LiveKey,
    Sub,
)
from services.contracts.units import UtcMicroseconds
from services.ingest.media_types import LiveFragment

QUEUE_US: Final = 2_000_000
JOIN_BYTES_MAX: Final = 16 * 1024 * 1024

Frame = str | bytes


@dataclass(frozen=True, slots=True)
class _Waiting:
    """A fragment in the queue. `joined`: part of the burst that lets a window begin at once."""

    fragment: LiveFragment
    joined: bool


@dataclass(slots=True, eq=False)
class Channel:
    """The queue of one `sub`."""

    sub: Sub
    _pending: deque[_Waiting | Frame] = field(default_factory=deque)
    _seq: int = 0
    _init_sha256: str | None = None
    _waits_for_key: bool = False
    _dropped: int = 0

    def join(self, gop: list[LiveFragment]) -> None:
        """Begin with the newest GOP, so that the first picture does not wait for the next fragment."""
        if sum(len(fragment.data) for fragment in gop) > JOIN_BYTES_MAX:
            gop = []
        self._pending.extend(_Waiting(fragment, True) for fragment in gop)
        self._waits_for_key = not gop

    def offer(self, fragment: LiveFragment) -> int:
        """Queue the newest fragment; return how many were left out for a window that is too slow."""
        left_out = self._shed(fragment)
        if self._waits_for_key and not fragment.keyframe:
            self._dropped += left_out
            return left_out
        if self._dropped or left_out:
            self._pending.append(_text(LiveDrop(ch=self.sub.ch, frames=self._dropped + left_out)))
        self._dropped, self._waits_for_key = 0, False
        self._pending.append(_Waiting(fragment, False))
        return left_out

    def still(self, jpeg: bytes, captured_us: UtcMicroseconds) -> None:
        """Queue a picture; one that was not sent yet is out of date."""
        kept: deque[_Waiting | Frame] = deque(item for item in self._pending if not isinstance(item, bytes))
        kept.append(self._frame(LIVE_JPEG, captured_us, jpeg))
        self._pending = kept

    def say(self, said: LiveErr | LiveGap) -> None:
        """Queue a message; the same one twice in a row says nothing new."""
        text = _text(said)
        if not self._pending or self._pending[-1] != text:
            self._pending.append(text)

    def waiting_bytes(self) -> int:
        """Return the bytes of pictures and words that wait."""
        return sum(len(item.fragment.data if isinstance(item, _Waiting) else item) for item in self._pending)

    def take(self) -> list[Frame]:
        """Return the frames of the next item, in order; none when nothing waits."""
        if not self._pending:
            return []
        item = self._pending.popleft()
        return self._frames(item.fragment) if isinstance(item, _Waiting) else [item]

    def _frames(self, fragment: LiveFragment) -> list[Frame]:
        frames: list[Frame] = []
        if fragment.init.sha256 != self._init_sha256:
            self._init_sha256 = fragment.init.sha256
            frames.append(_text(LiveInit(ch=self.sub.ch, codec=fragment.init.codec)))
            frames.append(self._frame(LIVE_INIT, fragment.start_us, fragment.init.data))
        if fragment.keyframe:
            frames.append(_text(LiveKey(ch=self.sub.ch)))
        frames.append(self._frame(LIVE_FRAGMENT, fragment.start_us, fragment.data))
        return frames

    def _frame(self, kind: int, captured_us: UtcMicroseconds, data: bytes) -> bytes:
        head = LIVE_HEADER.pack(LIVE_VERSION, kind, self.sub.ch, captured_us, self._seq & 0xFFFFFFFF)
        self._seq += 1
        return head + data

    def _shed(self, newest: LiveFragment) -> int:
        waiting = [item for item in self._pending if isinstance(item, _Waiting)]
        oldest = next((item for item in waiting if not item.joined), None)
        if oldest is None or newest.start_us - oldest.fragment.start_us <= QUEUE_US:
            return 0
        self._pending = deque(item for item in self._pending if not isinstance(item, _Waiting))
        self._waits_for_key = True
        return len(waiting)


def _text(said: LiveInit | LiveKey | LiveDrop | LiveErr | LiveGap) -> str:
    return codec.encode(said).decode()
