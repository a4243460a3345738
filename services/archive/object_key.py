"""Identity <-> object key (evidence.md 5). The name alone rebuilds the identity of a segment. No I/O."""

import hashlib
import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from services.contracts.epoch import RunId
from services.contracts.errors import MalformedMessage
from services.contracts.units import StreamName, UtcMicroseconds

_KEY: Final = re.compile(
    r"v1/(?P<hh>[0-9a-f]{2})/(?P<camera>[a-z0-9][a-z0-9_-]{0,63})(?:\.(?P<stream>sub))?"
    r"/(?P<day>\d{4}-\d{2}-\d{2})/(?P<hour>\d{2})/(?P<start>\d{16})-(?P<dur>\d+)-(?P<epoch>\d{16})-(?P<run>\d{4,})"
    r"-(?P<seq0>\d{8,})-(?P<seq1>\d{8,})\.mp4"
)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentName:
    """What names a segment: the run, its first and last fragment, and the time it covers."""

    run: RunId
    seq0: int
    seq1: int
    start_us: UtcMicroseconds
    dur_ms: int


def segment_key(name: SegmentName) -> str:
    """Return the object key. The main stream's level is the camera id alone, the sub stream's has its name."""
    run = name.run
    level = run.camera_id if run.stream == "main" else f"{run.camera_id}.{run.stream}"
    start = _EPOCH + timedelta(microseconds=name.start_us)
    return (
        f"v1/{_spread(run.camera_id)}/{level}/{start:%Y-%m-%d}/{start:%H}/{name.start_us:016d}-{name.dur_ms}"
        f"-{run.epoch:016d}-{run.run:04d}-{name.seq0:08d}-{name.seq1:08d}.mp4"
    )


def read_segment_key(key: str) -> SegmentName:
    """Return what a key names.

    Raises:
        MalformedMessage: not a key that `segment_key` writes.
    """
    match = _KEY.fullmatch(key)
    if match is None:
        raise MalformedMessage("not the key of a segment")
    stream: StreamName = "sub" if match["stream"] else "main"
    name = SegmentName(
        run=RunId(match["camera"], stream, int(match["epoch"]), int(match["run"])),
        seq0=int(match["seq0"]),
        seq1=int(match["seq1"]),
        start_us=int(match["start"]),
        dur_ms=int(match["dur"]),
    )
    if segment_key(name) != key:
        raise MalformedMessage("the parts of a segment's key contradict each other")
    return name


def init_key(init_sha256: str) -> str:
    """Return the key under which an init segment is stored once, whatever the camera."""
    return f"v1/init/{init_sha256}.mp4"


def _spread(camera_id: str) -> str:
    """Return two hex digits that spread cameras over a store's index."""
    return hashlib.sha256(camera_id.encode()).hexdigest()[:2]
