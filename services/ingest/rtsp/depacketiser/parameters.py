"""The parameter sets of one stream: which are in use, which wait for the next key picture. Pure.

In-band beats SDP; what cannot be read is left aside and in-band sets are awaited. Source: cameras.md 4.5, 4.6.
"""

from collections.abc import Iterable
from typing import Literal

from services.ingest import fmp4, parameter_sets
from services.ingest.media_types import InitSegment
from services.ingest.parameter_sets import SpsFacts
from services.ingest.rtsp.depacketiser import h264, h265
from services.ingest.rtsp.errors import BitstreamError

SETS_MAX = 32
_Key = tuple[int, int]


class ParameterSets:
    """Sets by kind and id. A set that differs from the one in use waits until `take_init`."""

    def __init__(self, codec: Literal["h264", "h265"], described: Iterable[bytes]) -> None:
        self._codec = codec
        self._rules = h264 if codec == "h264" else h265
        self._used: dict[_Key, bytes] = {}
        self._staged: dict[_Key, bytes] = {}
        self._given = False
        self.facts: SpsFacts | None = None
        for nal in described:
            if self._rules.is_parameter_set(self._rules.kind_of(nal[0])) and self._readable(nal):
                self._staged[self._key(nal)] = nal

    @property
    def waiting(self) -> bool:
        """Sets wait for the next key picture."""
        return bool(self._staged)

    @property
    def sequence_changed(self) -> bool:
        """A sequence set waits that the pictures in use were not coded with."""
        if not self._staged or not self._given:
            return False
        return any(self._rules.is_sequence_set(kind) and (kind, ident) in self._used for kind, ident in self._staged)

    def offer(self, nal: bytes) -> None:
        """Take a set from the stream."""
        if len(nal) <= self._rules.HEADER_BYTES or len(nal) > parameter_sets.SET_BYTES_MAX:
            return
        key = self._key(nal)
        used = self._used.get(key)
        if used is not None and (used == nal or self._same(used, nal)):
            self._staged.pop(key, None)
        elif len(self._staged) < SETS_MAX:
            self._staged[key] = nal

    def take_init(self) -> InitSegment | None:
        """Return a new init segment when sets wait, else None; called at a key picture.

        Raises:
            BitstreamError: a set is missing or cannot be read; what was in use stays in use.
        """
        if not self._staged:
            return None
        sets = {**self._used, **self._staged}
        try:
            init = fmp4.init_segment(self._codec, [sets[key] for key in sorted(sets)])
        except BitstreamError:
            self._staged = {key: nal for key, nal in self._staged.items() if self._readable(nal)}
            raise
        self._staged = {}
        self._used = sets
        self._given = True
        self.facts = self._read(
            next(nal for (kind, _), nal in sorted(sets.items()) if self._rules.is_sequence_set(kind))
        )
        return init

    def _readable(self, nal: bytes) -> bool:
        if not self._rules.is_sequence_set(self._rules.kind_of(nal[0])):
            return True
        try:
            self._read(nal)
        except BitstreamError:
            return False
        return True

    def _read(self, nal: bytes) -> SpsFacts:
        return parameter_sets.h264(nal) if self._codec == "h264" else parameter_sets.h265(nal)

    def _same(self, one: bytes, other: bytes) -> bool:
        """Compare without the bytes some cameras leave behind a set's end (H10)."""
        if self._rules.is_sequence_set(self._rules.kind_of(one[0])):
            try:
                return self._read(one).compared == self._read(other).compared
            except BitstreamError:
                return False
        return one.rstrip(b"\x00") == other.rstrip(b"\x00")

    def _key(self, nal: bytes) -> _Key:
        kind = self._rules.kind_of(nal[0])
        return kind, parameter_sets.set_id(self._codec, kind, nal)
