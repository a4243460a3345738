"""Closed segment -> store, then catalog. Blocks; one segment at a time per partition, in order of closing.

The order within a partition is what makes a replay find the same epochs known (segmenter.py, `overlap`).
"""

from typing import Final

import structlog

from services.archive.catalog import Added, Catalog, Segment
from services.archive.metrics import ArchiveMetrics
from services.archive.object_key import init_key, segment_key
from services.archive.open_tail import Held
from services.archive.store.port import LockMode, ObjectStore, Retention
from services.runtime.clock import Clock

DAY_US: Final = 24 * 3600 * 1_000_000
INITS_KNOWN_MAX: Final = 4096

log = structlog.get_logger()


class Writer:
    """Stores one segment: object, then row."""

    def __init__(
        self,
        *,
        store: ObjectStore,
        catalog: Catalog,
        bucket: str,
        guaranteed_days: int,
        clock: Clock,
        metrics: ArchiveMetrics,
    ) -> None:
        self._store = store
        self._catalog = catalog
        self._bucket = bucket
        self._guaranteed_us = guaranteed_days * DAY_US
        self._clock = clock
        self._metrics = metrics
        self._inits: set[str] = set()

    def write(self, held: Held) -> Added:
        """Put the object and its row. The same again does nothing.

        Raises:
            RetryLater: store or catalog is away.
        """
        started_ns = self._clock.monotonic_ns()
        self._put_init(held)
        row = self._put(held)
        added = self._catalog.add_segment(row)
        seconds = (self._clock.monotonic_ns() - started_ns) / 1e9
        self._metrics.upload_seconds.observe(seconds)
        self._metrics.stored_bytes.inc(row.size_bytes)
        log.info(
            "writer.segment_stored",
            camera_id=row.run_id.camera_id,
            epoch=row.run_id.epoch,
            segment_bytes=row.size_bytes,
            fragments=row.fragments,
            row=added.value,
            duration_s=round(seconds, 3),
        )
        return added

    def _put_init(self, held: Held) -> None:
        """Store an init once, whatever the camera."""
        digest = held.segment.init_sha256
        if digest in self._inits:
            return
        self._store.put(init_key(digest), held.file.init, sha256=digest)
        if len(self._inits) < INITS_KNOWN_MAX:
            self._inits.add(digest)

    def _put(self, held: Held) -> Segment:
        segment, name = held.segment, held.segment.name
        if held.sha256 is None:
            raise ValueError("the segment is not closed")
        key = segment_key(name)
        retention = Retention(
            retain_until_us=segment.start_us + self._guaranteed_us, mode=LockMode.GOVERNANCE, hold=False
        )
        version_id = self._store.put(key, held.file.path, sha256=held.sha256, retention=retention)
        return Segment(
            run_id=segment.run,
            seq0=segment.seq0,
            seq1=segment.seq1,
            start_us=segment.start_us,
            dur_us=segment.end_us - segment.start_us,
            media_90k=segment.media_90k,
            retention_class=segment.retention_class,
            codec=segment.codec,
            bucket=self._bucket,
            key=key,
            version_id=version_id,
            size_bytes=held.file.size_bytes,
            sha256=held.sha256,
            init_sha256=segment.init_sha256,
            init_bytes=len(held.file.init),
            fragments=segment.fragments,
            frames=segment.frames,
            camera_signature=segment.signature,
            clock_ok=segment.clock_ok,
            dependent=segment.dependent,
            overlap=segment.overlap,
        )
