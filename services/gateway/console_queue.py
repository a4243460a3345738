"""What still has to be sent to one console: bounded, coalesced by alert, emergencies one by one.

No I/O. Overflow clears the queue and asks for a fresh snapshot; it is never a silent drop
(alerts.md 8.4).
"""

from dataclasses import dataclass
from typing import Final

from services.gateway.view import Held

ENTRIES_MAX: Final = 1024
BYTES_MAX: Final = 4 * 1024 * 1024
BATCH_MAX: Final = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """What goes out in one frame. `whole`: nothing is left behind it, so the cursor may move."""

    items: tuple[Held, ...]
    whole: bool


class ConsoleQueue:
    """Newest state of each changed alert, in the order of first change."""

    def __init__(self, *, entries_max: int = ENTRIES_MAX, bytes_max: int = BYTES_MAX) -> None:
        self._entries_max = entries_max
        self._bytes_max = bytes_max
        self._pending: dict[tuple[str, int], Held] = {}
        self._bytes = 0
        self._emergencies = 0
        self.overflowed = False
        self.coalesced = 0

    def __len__(self) -> int:
        return len(self._pending)

    @property
    def size_bytes(self) -> int:
        return self._bytes

    @property
    def urgent(self) -> bool:
        """An emergency waits: send at once."""
        return self._emergencies > 0

    def put(self, held: Held) -> None:
        """Add a change, or mark the queue overflowed and empty it."""
        if self.overflowed:
            return
        key = (held.alert.alert_id, held.alert.version if held.emergency else 0)
        before = self._pending.get(key)
        if before is not None:
            self._bytes -= before.size_bytes
            self.coalesced += 1
        elif held.emergency:
            self._emergencies += 1
        self._pending[key] = held
        self._bytes += held.size_bytes
        if len(self._pending) > self._entries_max or self._bytes > self._bytes_max:
            self.clear()
            self.overflowed = True

    def take(self) -> Batch:
        """Return the next frame's items: emergencies first, at most 64."""
        keys = sorted(self._pending, key=lambda key: not self._pending[key].emergency)[:BATCH_MAX]
        items = tuple(self._pending.pop(key) for key in keys)
        self._bytes -= sum(held.size_bytes for held in items)
        self._emergencies -= sum(held.emergency for held in items)
        return Batch(items=items, whole=not self._pending)

    def clear(self) -> None:
        """Forget everything: a snapshot follows."""
        self._pending.clear()
        self._bytes = 0
        self._emergencies = 0
        self.overflowed = False
