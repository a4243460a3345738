"""Where a camera's footage is: the open tail and the catalog, as one; and its bytes by key picture.

Blocks: called on archive's reading threads.
"""

import threading
from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

from services.archive import boxes, timeline
from services.archive.catalog import Catalog, Segment
from services.archive.object_key import init_key
from services.archive.open_tail import OpenSegment, OpenTail
from services.archive.scratch import Gop, ScratchLost
from services.archive.segmenter import SMALL_HOLE_US, SegmentId
from services.archive.store.port import NoSuchObject, ObjectStore
from services.archive.timeline import Footage, Tile
from services.contracts.units import StreamName, UtcMicroseconds
from services.runtime.clock import Clock

HEAD_BYTES: Final = 64 * 1024
INDEXES_KEPT: Final = 512

Source = Segment | OpenSegment


@dataclass(frozen=True, slots=True, kw_only=True)
class Index:
    """Where the key pictures of a segment stand. `end_offset`: behind the last fragment."""

    gops: tuple[Gop, ...]
    timescale: int
    end_offset: int


class History:
    """Answers what there is between two instants."""

    def __init__(self, *, catalog: Catalog, store: ObjectStore, tail: OpenTail, clock: Clock) -> None:
        self._catalog = catalog
        self._store = store
        self._tail = tail
        self._clock = clock
        self._indexes: OrderedDict[tuple[str, str], Index] = OrderedDict()
        self._lock = threading.Lock()

    def tiles(
        self, camera_id: str, stream: StreamName, from_us: UtcMicroseconds, to_us: UtcMicroseconds
    ) -> tuple[Tile[Source], ...]:
        """Return what covers a range."""
        low, high = timeline.read_range(from_us, to_us)
        footage = self._footage(camera_id, stream, low, high)
        gaps = self._catalog.gaps_between(camera_id, stream, low, high)
        first = self._catalog.first_us(camera_id, stream)
        begins = [one.from_us for one in footage] + ([] if first is None else [first])
        return timeline.tile(
            from_us,
            to_us,
            now_us=self._clock.now_us(),
            first_us=min(begins, default=None),
            footage=footage,
            gaps=gaps,
        )

    def before(self, camera_id: str, stream: StreamName, source: Source) -> Source | None:
        """Return the segment of the same run that ends where this one begins, for one that is dependent."""
        run = run_of(source)
        near = self._footage(camera_id, stream, source.start_us - 2 * SMALL_HOLE_US, source.start_us + 1)
        found = [one.ref for one in near if run_of(one.ref) == run and one.ref.start_us < source.start_us]
        return max(found, key=lambda ref: ref.start_us, default=None)

    def find(self, camera_id: str, stream: StreamName, epoch: int, seq0: int) -> Source | None:
        """Return one segment by identity."""
        for one in self._tail.segments(camera_id, stream):
            if one.id.run.epoch == epoch and one.id.seq0 == seq0:
                return one
        return self._catalog.segment(camera_id, stream, epoch, seq0)

    def read(self, source: Source, offset: int, size_bytes: int) -> bytes:
        """Read a segment's bytes.

        Raises:
            RetryLater: the segment is being stored this very moment, or the store is away.
        """
        if isinstance(source, OpenSegment):
            return self._read_open(source, offset, min(size_bytes, max(0, source.size_bytes - offset)))
        return self._store.get_range(source.key, source.version_id, offset=offset, size_bytes=size_bytes)

    def _read_open(self, source: OpenSegment, offset: int, size_bytes: int) -> bytes:
        """Read from scratch, or from where the same bytes went since `source` was looked up."""
        try:
            return source.file.read(offset, size_bytes)
        except ScratchLost:
            run = source.id.run
            found = self.find(run.camera_id, run.stream, run.epoch, source.id.seq0)
            if found is None or (isinstance(found, OpenSegment) and found.file is source.file):
                raise
            return self.read(found, offset, size_bytes)

    def init(self, source: Source) -> bytes:
        """Return a segment's `ftyp` and `moov`."""
        if isinstance(source, OpenSegment):
            return source.file.init
        return self.read(source, 0, source.init_bytes)

    def find_init(self, camera_id: str, init_sha256: str) -> bytes | None:
        """Return an init by its digest."""
        found = self._tail.find_init(camera_id, init_sha256)
        if found is not None:
            return found
        try:
            return self._store.get_range(init_key(init_sha256), init_sha256, offset=0, size_bytes=HEAD_BYTES)
        except NoSuchObject:
            return None

    def index(self, source: Source) -> Index:
        """Return where the key pictures stand; of stored segments two small reads, then kept."""
        if isinstance(source, OpenSegment):
            scale = boxes.timescale(memoryview(source.file.init))
            gops = tuple(gop for gop in source.file.gops() if gop.offset < source.size_bytes)
            return Index(gops=gops, timescale=scale, end_offset=source.size_bytes)
        at = (source.key, source.version_id)
        with self._lock:
            known = self._indexes.get(at)
        if known is None:
            known = self._read_index(source)
            with self._lock:
                self._indexes[at] = known
                if len(self._indexes) > INDEXES_KEPT:
                    self._indexes.popitem(last=False)
        return known

    def _read_index(self, segment: Segment) -> Index:
        head = memoryview(self.read(segment, 0, segment.init_bytes + HEAD_BYTES))
        scale = boxes.timescale(head[: segment.init_bytes])
        first = boxes.first_fragment(head[segment.init_bytes :])
        tail = memoryview(self.read(segment, segment.size_bytes - boxes.MFRO_BYTES, boxes.MFRO_BYTES))
        size = boxes.mfra_bytes(tail)
        end_offset = segment.size_bytes - size
        keys = boxes.read_mfra(memoryview(self.read(segment, end_offset, size)))
        first_offset = segment.init_bytes + first.moof_offset
        # Wall time is media time slewed by less than 500 ppm (cameras.md 7): a straight line over the segment.
        rate = segment.dur_us / segment.media_90k * 90_000 / scale if segment.media_90k else 1_000_000 / scale
        gops = [
            Gop(
                offset=key.offset,
                start_us=segment.start_us + round((key.time - first.first_time) * rate),
                time=key.time,
                key=True,
            )
            for key in keys
        ]
        if not gops or gops[0].offset != first_offset:
            begin = Gop(offset=first_offset, start_us=segment.start_us, time=first.first_time, key=False)
            gops.insert(0, begin)
        return Index(gops=tuple(gops), timescale=scale, end_offset=end_offset)

    def _footage(
        self, camera_id: str, stream: StreamName, from_us: UtcMicroseconds, to_us: UtcMicroseconds
    ) -> list[Footage[Source]]:
        tail = {one.id: one for one in self._tail.segments(camera_id, stream)}
        stored = self._catalog.segments_between(camera_id, stream, from_us, to_us)
        for segment in stored:
            tail.pop(SegmentId(segment.run_id, segment.seq0), None)
        open_ones = [one for one in tail.values() if one.start_us < to_us and one.end_us > from_us]
        sources: list[Source] = [*stored, *open_ones]
        return [_footage(one) for one in sources]


def run_of(source: Source) -> tuple[int, int]:
    """Return epoch and run."""
    run = source.id.run if isinstance(source, OpenSegment) else source.run_id
    return run.epoch, run.run


def seq0_of(source: Source) -> int:
    return source.id.seq0 if isinstance(source, OpenSegment) else source.seq0


def _footage(source: Source) -> Footage[Source]:
    epoch, run = run_of(source)
    return Footage(
        from_us=source.start_us,
        to_us=source.end_us,
        epoch=epoch,
        run=run,
        open=isinstance(source, OpenSegment),
        small_hole_us=max(SMALL_HOLE_US, 2 * (source.end_us - source.start_us) // max(1, source.frames)),
        ref=source,
    )
