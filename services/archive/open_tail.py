"""The open tail: segments whose bytes stand in scratch and whose row is not written yet.

Recorder's thread adds and removes; the API's thread reads. Both sides meet here and nowhere else.
Readers ask this before the catalog: what moves from one to the other between the two questions is then
seen twice, never missed.
"""

import threading
from dataclasses import dataclass

from services.archive.scratch import ScratchFile
from services.archive.segmenter import Growing, SegmentId
from services.contracts.units import StreamName, UtcMicroseconds


@dataclass(slots=True, kw_only=True, eq=False)
class Held:
    """A segment in scratch: its sums, its file, and the Kafka offset of its first fragment.

    `sha256` is set when it is closed and waits to be stored. The offset is where to read again after
    a crash; it is never an identity.
    """

    segment: Growing
    file: ScratchFile
    first_offset: int
    sha256: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenSegment:
    """What a reader sees of a segment at one instant; `size_bytes` is whole fragments."""

    id: SegmentId
    start_us: UtcMicroseconds
    end_us: UtcMicroseconds
    init_sha256: str
    codec: str
    dependent: bool
    frames: int
    size_bytes: int
    file: ScratchFile


class OpenTail:
    """All held segments of this process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._held: dict[tuple[str, StreamName], dict[SegmentId, OpenSegment]] = {}

    def show(self, held: Held) -> None:
        """Show a segment as it is now; called after each fragment."""
        segment = held.segment
        seen = OpenSegment(
            id=segment.id,
            start_us=segment.start_us,
            end_us=segment.end_us,
            init_sha256=segment.init_sha256,
            codec=segment.codec,
            dependent=segment.dependent,
            frames=segment.frames,
            size_bytes=segment.size_bytes,
            file=held.file,
        )
        with self._lock:
            self._held.setdefault((segment.run.camera_id, segment.run.stream), {})[segment.id] = seen

    def hide(self, held: Held) -> None:
        """Take a segment away: its row is written, or it is thrown away. A later file of the same segment stays."""
        run = held.segment.run
        with self._lock:
            stream = self._held.get((run.camera_id, run.stream), {})
            seen = stream.get(held.segment.id)
            if seen is not None and seen.file is held.file:
                del stream[held.segment.id]
            if not stream:
                self._held.pop((run.camera_id, run.stream), None)

    def segments(self, camera_id: str, stream: StreamName) -> tuple[OpenSegment, ...]:
        with self._lock:
            return tuple(self._held.get((camera_id, stream), {}).values())

    def find_init(self, camera_id: str, init_sha256: str) -> bytes | None:
        """Return the init of one of the camera's open segments."""
        with self._lock:
            streams = [held for (camera, _), held in self._held.items() if camera == camera_id]
            found = (one.file.init for held in streams for one in held.values() if one.init_sha256 == init_sha256)
            return next(found, None)

    def __len__(self) -> int:
        with self._lock:
            return sum(len(stream) for stream in self._held.values())
