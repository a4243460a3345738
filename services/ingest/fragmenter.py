"""Access units in, fragments out: cut rules, buffers in turn, the anchor hold, the newest GOP. No I/O.

The parser writes coded data straight into `buffer` behind `DATA_AT`; this file only keeps where units
end, and writes the header in front of the data when a fragment closes (hotpath.md, design D).
Source: cameras.md 7.3, 8.1-8.3.
"""

import hashlib
from dataclasses import dataclass
from typing import Final

from services.contracts.fragment import FRAGMENT_BYTES_MAX
from services.contracts.gap import GapCause
from services.ingest import fmp4
from services.ingest.media_types import (
    ClosedFragment,
    EndDetail,
    FragmentSink,
    Hole,
    InitSegment,
    LiveFragment,
    RunEnd,
)
from services.ingest.rtsp.timeline import NEW_RUN, ON_LINE, SECOND_90K, Place, Timeline
from services.ingest.timing import CameraClock, RunClock

DATA_AT: Final = fmp4.HEADER_ROOM
FIRST_BUFFER_BYTES: Final = 384 * 1024
BUFFERS_MAX: Final = 16
FREE_BUFFERS_MAX: Final = 2
GOP_BYTES_MAX: Final = 16 * 1024 * 1024
LIVE_90K: Final = SECOND_90K // 2
HOLE_MIN_US: Final = 200_000
DATA_BYTES_MAX: Final = FRAGMENT_BYTES_MAX - DATA_AT

KEY: Final = 1
BROKEN: Final = 2
SIGNED: Final = 4


class FragmentBuffer:
    """Bytes of one fragment, header room first. Grows; never shrinks."""

    __slots__ = ("data", "view")

    def __init__(self, capacity_bytes: int = FIRST_BUFFER_BYTES) -> None:
        self.data = bytearray(capacity_bytes)
        self.view = memoryview(self.data)

    def ensure(self, used: int, more: int) -> None:
        """Make room for `more` bytes behind `used`."""
        if used + more <= len(self.data):
            return
        grown = bytearray(max(2 * len(self.data), used + more))
        grown[:used] = self.view[:used]
        self.data = grown
        self.view = memoryview(grown)


@dataclass(frozen=True, slots=True, kw_only=True)
class Missing:
    """Why there may be a hole in front of a fragment."""

    cause: GapCause
    detail: EndDetail
    evidence: dict[str, int | str]


@dataclass(slots=True, kw_only=True)
class _Closed:
    """A fragment whose wall time is not known yet."""

    buffer: FragmentBuffer
    start: int
    end: int
    init: InitSegment
    run: int
    media_start_90k: int
    media_90k: int
    rtp_start_90k: int
    recv_first_us: int
    recv_last_us: int
    flags: int
    keyframe: bool
    units: int
    missing: Missing | None


_Waiting = tuple[int, int, int, InitSegment | None, Missing | None]


class Fragmenter:
    """One stream's fragments. The parser calls `unit` when an access unit is complete."""

    def __init__(self, sink: FragmentSink, timeline: Timeline, init: InitSegment, *, keep_gop: bool = True) -> None:
        self.timeline = timeline
        self.camera_clock = CameraClock()
        self.buffer = FragmentBuffer()
        self.units = 0
        self.run = 0
        self._sink = sink
        self._init = init
        self._keep_gop = keep_gop
        self._clock = RunClock()
        self._last_end_us: int | None = None
        self._free: list[FragmentBuffer] = []
        self._out = 1
        self._number = 0
        self._run_dts: int | None = None
        self._ends: list[int] = []
        self._dts: list[int] = []
        self._offsets: list[int] = []
        self._flags = 0
        self._keyframe = False
        self._recv_first_us = 0
        self._recv_last_us = 0
        self._waiting: list[_Waiting] = []
        self._held: list[_Closed] = []
        self._front: Missing | None = None  # of the open fragment
        self._run_missing: Missing | None = None
        self._dropped: Missing | None = None
        self._next_run: Missing | None = None
        self._gop: list[LiveFragment] = []
        self._gop_bytes = 0
        self._watched = False
        self._live_from = 0
        self._live_sent: list[LiveFragment] = []

    @property
    def last_end_us(self) -> int | None:
        return self._last_end_us

    @property
    def rate_wrong(self) -> bool:
        return self._clock.rate_wrong

    @property
    def parted_us(self) -> int:
        return self._clock.parted_us

    def unit(
        self,
        end: int,
        stamp: int,
        flags: int,
        recv_us: int,
        *,
        init: InitSegment | None = None,
        missing: Missing | None = None,
    ) -> int:
        """Take the access unit that ends at `end` of `buffer`; return where the next one begins.

        `buffer` may be another one afterwards. `init` comes with the key unit that needs it; `missing`
        says why a hole in front of this unit would be there, if there is one.
        """
        self.units += 1
        waiting = self._waiting
        if not (waiting or flags & KEY) and self._dts and init is None and missing is None:
            dts = self.timeline.plain(stamp, recv_us)
            if dts is not None:
                return self._plain(end, dts, flags, recv_us)
        waiting.append((end, flags, recv_us, init, missing))
        if self._next_run is not None and flags & KEY:
            self.new_run(self._next_run)
        for place in self.timeline.push(stamp, recv_us):
            end = self._place(place)
        return self._waiting[-1][0] if self._waiting else end

    def _plain(self, end: int, dts: int, flags: int, recv_us: int) -> int:
        """Put a unit that simply follows into the open fragment: 24 of 25 go this way."""
        times = self._dts
        if (
            dts - times[0] + self.timeline.interval > SECOND_90K
            or end - DATA_AT > DATA_BYTES_MAX
            or len(times) >= fmp4.UNITS_MAX
            or self._watched
            or self._held
            or self._run_dts is None
        ):
            self._waiting.append((end, flags, recv_us, None, None))
            return self._place(Place(ON_LINE, dts, 0))
        self._flags |= flags
        self._recv_last_us = recv_us
        self._ends.append(end)
        times.append(dts)
        self._offsets.append(0)
        self._clock.observe(dts - self._run_dts, recv_us)
        return end

    def append_to_last(self, end: int, flags: int) -> None:
        """Let the last unit end at `end`: what stands there has no picture of its own."""
        if self._waiting:
            self._waiting[-1] = (end, self._waiting[-1][1] | flags, *self._waiting[-1][2:])
        elif self._ends:
            self._ends[-1] = end
            self._flags |= flags

    def new_run(self, missing: Missing) -> int:
        """Begin a new run with the next unit that is pushed; return where it is written."""
        self._next_run = None
        for place in self.timeline.flush():
            self._place(place)
        self.timeline.new_run()
        self._begin_run(missing)
        return DATA_AT

    def new_run_at_key(self, missing: Missing) -> None:
        """Begin a new run with the next key unit (a stepped host clock; no unit is lost)."""
        self._next_run = missing

    def finish(self, cause: GapCause, detail: EndDetail) -> None:
        """Close and hand over everything; the run has ended."""
        for place in self.timeline.flush():
            self._place(place)
        self._begin_run(Missing(cause=cause, detail=detail, evidence={}))

    def watch(self, watched: bool) -> None:
        """Cut live fragments from now on, or no more."""
        if watched and not self._watched:
            self._live_from = 0
            self._live_sent = []
        self._watched = watched

    def newest_gop(self) -> list[LiveFragment]:
        """Return what a new viewer needs before the next `live` call; empty where he has to wait."""
        if self._live_sent and self._live_sent[0].keyframe:
            return list(self._live_sent)
        return [*self._gop, *self._live_sent] if self._gop else []

    def _place(self, place: Place) -> int:
        """Give a waiting unit its place, closing what stands before it first; return the write offset."""
        end, flags, recv_us, init, missing = self._waiting.pop(0)
        how, dts, offset = place
        if self._dts and (
            how != ON_LINE
            or flags & KEY
            or init is not None
            or dts - self._dts[0] + self.timeline.interval > SECOND_90K
            or end - DATA_AT > DATA_BYTES_MAX
            or len(self._dts) >= fmp4.UNITS_MAX
        ):
            end -= self._close(dts if how == ON_LINE else None, end)
        if how == NEW_RUN:
            self._begin_run(missing or Missing(cause="stream_error", detail=EndDetail.RTP_DISCONTINUITY, evidence={}))
        elif how != ON_LINE and missing is None:
            missing = Missing(cause="device_offline", detail=EndDetail.STALL, evidence={})
        if init is not None:
            self._init = init
        if self._run_dts is None:
            self._run_dts = dts
        if not self._dts:
            self._front = missing or self._run_missing
            self._run_missing = None
            self._flags = 0
            self._keyframe = bool(flags & KEY)
            self._recv_first_us = recv_us
        elif self._watched and dts - self._dts[self._live_from] + self.timeline.interval > LIVE_90K:
            self._cut_live(dts)
        self._flags |= flags
        self._recv_last_us = recv_us
        self._ends.append(end)
        self._dts.append(dts)
        self._offsets.append(offset)
        clock = self._clock
        clock.observe(dts - self._run_dts, recv_us)
        if self._held and clock.anchored(recv_us):
            self._publish_held()
        return end

    def _close(self, next_dts: int | None, written: int) -> int:
        """Close the open fragment; move what stands behind it; return by how much."""
        last = self._dts[-1]
        until = last + self.timeline.interval if next_dts is None else max(next_dts, last + 1)
        if self._watched:
            self._cut_live(until)
        buffer, data_end = self.buffer, self._ends[-1]
        for unit in self._waiting:
            written = max(written, unit[0])
        following = self._next_buffer(written - data_end)
        following.view[DATA_AT : DATA_AT + written - data_end] = buffer.view[data_end:written]
        closed = self._describe(buffer, data_end, until)
        self.buffer = following
        shift = data_end - DATA_AT
        self._waiting = [(unit[0] - shift, *unit[1:]) for unit in self._waiting]
        self._ends, self._dts, self._offsets = [], [], []
        self._live_from = 0
        self._live_sent = []
        self._held.append(closed)
        if self._clock.anchored(self._recv_last_us):
            self._publish_held()
        return shift

    def _describe(self, buffer: FragmentBuffer, data_end: int, until: int) -> _Closed:
        first = self._dts[0]
        decode_time = first - (self._run_dts or 0)
        start = self._write(buffer, 0, len(self._dts), until)
        closed = _Closed(
            buffer=buffer,
            start=start,
            end=data_end,
            init=self._init,
            run=self.run,
            media_start_90k=decode_time,
            media_90k=until - first,
            rtp_start_90k=first,
            recv_first_us=self._recv_first_us,
            recv_last_us=self._recv_last_us,
            flags=self._flags,
            keyframe=self._keyframe,
            units=len(self._dts),
            missing=self._front,
        )
        if self._keep_gop:
            self._remember(closed)
        return closed

    def _write(self, buffer: FragmentBuffer, first: int, stop: int, until: int) -> int:
        """Write the header for units `[first, stop)` in front of their data; return its start."""
        dts, ends = self._dts, self._ends
        data_at = ends[first - 1] if first else DATA_AT
        starts = [data_at, *ends[first : stop - 1]]
        sizes = [end - start for start, end in zip(starts, ends[first:stop], strict=True)]
        times = [*dts[first + 1 : stop], until]
        durations = [after - before for before, after in zip(dts[first:stop], times, strict=True)]
        offsets = self._offsets[first:stop]
        self._number += 1
        return fmp4.write_header(
            buffer.view,
            data_at,
            data_bytes=ends[stop - 1] - data_at,
            number=self._number,
            decode_time=dts[first] - (self._run_dts or 0),
            keyframe=self._keyframe and first == 0,
            durations=durations,
            sizes=sizes,
            offsets=offsets if any(offsets) else None,
        )

    def _publish_held(self) -> None:
        held, self._held = self._held, []
        for closed in held:
            self._publish(closed)

    def _publish(self, closed: _Closed) -> None:
        placement = self._clock.place(closed.media_start_90k, closed.media_90k, closed.recv_last_us)
        if self._out > BUFFERS_MAX:
            self._out -= 1
            self._dropped = Missing(cause="kafka_unavailable", detail=EndDetail.NO_BUFFER, evidence={})
            return
        self._say_hole(closed.missing or self._dropped, placement.start_us)
        self._dropped = None
        self._last_end_us = placement.start_us + placement.wall_us
        fmp4.write_time(closed.buffer.data, closed.start, placement.start_us)
        view = closed.buffer.view[closed.start : closed.end]
        buffer = closed.buffer
        self._sink.fragment(
            ClosedFragment(
                data=view,
                sha256=hashlib.sha256(view).hexdigest(),
                init=closed.init,
                run=closed.run,
                start_us=placement.start_us,
                wall_us=placement.wall_us,
                media_start_90k=closed.media_start_90k,
                media_90k=closed.media_90k,
                rtp_start_90k=closed.rtp_start_90k,
                recv_first_us=closed.recv_first_us,
                recv_last_us=closed.recv_last_us,
                camera_offset_ms=self.camera_clock.offset_ms,
                rate_wrong=placement.rate_wrong,
                keyframe=closed.keyframe,
                broken_refs=bool(closed.flags & BROKEN),
                signed_sei="present" if closed.flags & SIGNED else "absent",
                units=closed.units,
                give_back=lambda: self._give_back(buffer),
            )
        )

    def _say_hole(self, missing: Missing | None, start_us: int) -> None:
        if missing is None or self._last_end_us is None:
            return
        threshold_us = max(HOLE_MIN_US, 2 * self.timeline.interval * 100 // 9)
        if start_us - self._last_end_us > threshold_us:
            hole = Hole(
                from_us=self._last_end_us,
                to_us=start_us,
                cause=missing.cause,
                detail=missing.detail,
                evidence=missing.evidence,
            )
            self._sink.hole(hole)

    def _begin_run(self, missing: Missing) -> None:
        """End the current run, if it has anything, and let the next unit begin another."""
        if self._dts:
            self._close(None, self._ends[-1])
        self._publish_held()
        if self._run_dts is not None:
            ended = RunEnd(
                run=self.run,
                end_us=self._clock.end_us or 0,
                media_end_90k=self._clock.end_media_90k,
                cause=missing.cause,
                detail=missing.detail,
            )
            self._sink.run_ended(ended)
            self.run += 1
        self._run_dts = None
        self._clock = RunClock(self._last_end_us or 0)
        self._run_missing = missing
        self._gop = []
        self._gop_bytes = 0

    def _cut_live(self, until: int) -> None:
        """Hand the units since the last cut to the viewers, as a fragment of their own."""
        first, stop = self._live_from, len(self._dts)
        if first >= stop:
            return
        self._live_from = stop
        data_at = self._ends[first - 1] if first else DATA_AT
        behind = bytes(self.buffer.view[data_at - DATA_AT : data_at]) if first else b""
        start = self._write(self.buffer, first, stop, until) + fmp4.PRFT_BYTES
        data = bytes(self.buffer.view[start : self._ends[stop - 1]])
        if first:
            self.buffer.view[data_at - DATA_AT : data_at] = behind
        media = self._dts[first] - (self._run_dts or 0)
        live = LiveFragment(
            data=data,
            init=self._init,
            run=self.run,
            start_us=self._clock.estimate_us(media),
            media_start_90k=media,
            media_90k=until - self._dts[first],
            keyframe=self._keyframe and first == 0,
            units=stop - first,
        )
        self._live_sent.append(live)
        self._sink.live(live)

    def _remember(self, closed: _Closed) -> None:
        if closed.keyframe:
            self._gop = []
            self._gop_bytes = 0
        elif not self._gop:
            return
        data = bytes(closed.buffer.view[closed.start + fmp4.PRFT_BYTES : closed.end])
        self._gop_bytes += len(data)
        if self._gop_bytes > GOP_BYTES_MAX:
            self._gop = []
            return
        self._gop.append(
            LiveFragment(
                data=data,
                init=closed.init,
                run=closed.run,
                start_us=self._clock.estimate_us(closed.media_start_90k),
                media_start_90k=closed.media_start_90k,
                media_90k=closed.media_90k,
                keyframe=closed.keyframe,
                units=closed.units,
            )
        )

    def _next_buffer(self, needed: int) -> FragmentBuffer:
        buffer = self._free.pop() if self._free else FragmentBuffer()
        self._out += 1
        buffer.ensure(DATA_AT, needed + DATA_AT)
        return buffer

    def _give_back(self, buffer: FragmentBuffer) -> None:
        self._out -= 1
        if len(self._free) < FREE_BUFFERS_MAX:
            self._free.append(buffer)
