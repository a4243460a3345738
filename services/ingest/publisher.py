"""Closed fragments and ends of runs -> `video`: first in, first out per camera, bounded in bytes.

A session hands its fragment over and goes on at once. A fragment goes out as the session's own buffer
when nothing of its camera waits; otherwise its bytes are copied and the buffer is given back. Epoch,
run and seq are stamped when a fragment is first sent; a resend is the same record. What Kafka cannot
take is kept up to a bound, then the oldest of that camera is given up and named to the gap ledger. The
end of a run is a record of its own, and what was given up ends a run: a run in the log has no hole.
A fragment above 1 MiB goes out in chunks, each after the acknowledgement of the one before, and one such
fragment of a partition at a time, so that a reader has few of them to hold.
"""

import asyncio
import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

import structlog
from msgspec.structs import replace

from services.contracts.fragment import (
    CHUNKED_BYTES_MAX,
    FRAGMENT_BYTES_MAX,
    Chunk,
    ClockState,
    Fragment,
    VideoEnd,
)
from services.contracts.gap import GapCause
from services.contracts.topics import VIDEO
from services.contracts.units import StreamName, UtcMicroseconds
from services.ingest import metrics
from services.ingest.gap_ledger import Lost
from services.ingest.media_types import ClosedFragment
from services.runtime.clock import Clock
from services.runtime.errors import PoisonMessage, RetryLater
from services.runtime.kafka_port import Headers, Kafka, Outgoing, Producer, ProducerProfile

log = structlog.get_logger()

_RETRY_S: Final = (0.5, 2.0)
_SLOW_NS: Final = 2_000_000_000


class LaneListener(Protocol):
    """What a camera is told about its footage. No call may block or raise."""

    def acked(self, start_us: UtcMicroseconds, end_us: UtcMicroseconds) -> None:
        """Kafka has it."""

    def lost(self, lost: Lost) -> None:
        """It is given up."""


@dataclass(slots=True, kw_only=True)
class _Queued:
    """A fragment on its way. `value` is the session's buffer until `keep`, then our own copy."""

    fragment: ClosedFragment
    timeline: tuple[int, int]
    value: bytes | memoryview
    size: int
    put_ns: int
    stamped: Fragment | None = None

    def keep(self) -> bytes:
        """Return a copy of the bytes and give the buffer back: a camera has few of them."""
        if isinstance(self.value, memoryview):
            self.value = bytes(self.value)
            self.fragment.release()
        return self.value


@dataclass(frozen=True, slots=True, kw_only=True)
class _Cut:
    """The run that is open, if any, ends here."""


@dataclass(slots=True, kw_only=True)
class _OpenRun:
    timeline: tuple[int, int]
    run: int
    seq: int
    end_us: UtcMicroseconds


class VideoPublisher:
    """The producer and the bytes that all lanes share. `run` keeps the producer."""

    def __init__(
        self, kafka: Kafka, *, capacity_bytes: int, clock: Clock, host_clock: Callable[[], ClockState]
    ) -> None:
        self.clock = clock
        self.host_clock = host_clock
        self.producer: Producer | None = None
        self.disk_full = False
        self._kafka = kafka
        self._capacity_bytes = capacity_bytes
        self._buffered_bytes = 0
        self._lanes: set[Lane] = set()
        self._reachable = asyncio.Event()
        self._turns: dict[int, asyncio.Lock] = {}

    def lane(self, camera_id: str, stream: StreamName, *, retention_class: str, listener: LaneListener) -> "Lane":
        lane = Lane(self, camera_id, stream, retention_class=retention_class, listener=listener)
        self._lanes.add(lane)
        return lane

    def forget(self, lane: "Lane") -> None:
        self._lanes.discard(lane)

    async def run(self) -> None:
        """Keep a producer until cancelled; lanes wait for it."""
        while True:
            try:
                async with self._kafka.producer(ProducerProfile.VIDEO) as producer:
                    await self._kafka.partitions(VIDEO.name)
                    self.producer = producer
                    self._reachable.set()
                    await asyncio.Event().wait()
            except (RetryLater, PoisonMessage) as error:
                log.warning("publisher.kafka_unreachable", reason=str(error), buffered_bytes=self._buffered_bytes)
            finally:
                self.producer = None
                self._reachable.clear()
            await self.clock.sleep(random.uniform(*_RETRY_S))  # noqa: S311 - jitter, no secret

    async def reachable(self) -> Producer:
        while self.producer is None:
            await self._reachable.wait()
        return self.producer

    async def turn(self, camera_id: str) -> asyncio.Lock:
        """Return what is held while chunks go to the partition of a camera."""
        partition = (await self.reachable()).partition_for(VIDEO.name, camera_id)
        return self._turns.setdefault(partition, asyncio.Lock())

    def stop_video(self, *, disk_full: bool) -> None:
        """Keep the disk's reserve: fragments become gaps until there is room again."""
        if disk_full == self.disk_full:
            return
        self.disk_full = disk_full
        metrics.DISK_FULL.set(disk_full)
        log.warning("publisher.disk_full" if disk_full else "publisher.disk_has_room")
        if disk_full:
            for lane in self._lanes:
                lane.cut()

    def make_room(self, lane: "Lane", size: int) -> bool:
        """Give up oldest fragments until `size` fits; False when nothing more can be given up."""
        while self._buffered_bytes + size > self._capacity_bytes:
            victim = lane if lane.droppable_bytes else max(self._lanes, key=lambda one: one.droppable_bytes)
            if not victim.drop_oldest():
                return False
        return True

    def buffered(self, size: int) -> None:
        self._buffered_bytes += size
        metrics.BUFFERED_BYTES.set(self._buffered_bytes)

    def statistics(self) -> dict[str, int]:
        credit = dict(self.producer.statistics()) if self.producer is not None else {}
        return {"buffered_bytes": self._buffered_bytes, "capacity_bytes": self._capacity_bytes} | {
            f"producer_{name}": value for name, value in credit.items()
        }


class Lane:
    """One camera stream's way to Kafka. `run` sends; `claimed` lets it begin."""

    def __init__(
        self,
        publisher: VideoPublisher,
        camera_id: str,
        stream: StreamName,
        *,
        retention_class: str,
        listener: LaneListener,
    ) -> None:
        self._publisher = publisher
        self._camera_id = camera_id
        self._stream: StreamName = stream
        self._retention_class = retention_class
        self._listener = listener
        self._queue: deque[_Queued | _Cut] = deque()
        self._wake = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._epoch: int | None = None
        self._seq = 0
        self._next_run = 0
        self._open: _OpenRun | None = None
        self._broken = False
        self._sending: _Queued | None = None
        self._failing = False
        self.droppable_bytes = 0
        """What waits and was never begun to be sent."""

    @property
    def epoch(self) -> int | None:
        return self._epoch

    def claimed(self, epoch: int) -> None:
        """Begin an epoch: seq and run count from 0 in it."""
        self._epoch, self._seq, self._next_run = epoch, 0, 0
        self._wake.set()

    def put(self, fragment: ClosedFragment, session: int) -> None:
        """Take a fragment. Never blocks; `fragment` is released now or when it is acknowledged."""
        size = len(fragment.data)
        if self._publisher.disk_full:
            self._give_up(fragment, size, "disk_full", "reserve_reached")
            fragment.release()
            return
        if not self._publisher.make_room(self, size):
            self._give_up(fragment, size, *self._why())
            fragment.release()
            return
        item = _Queued(
            fragment=fragment,
            timeline=(session, fragment.run),
            value=fragment.data,
            size=size,
            put_ns=self._publisher.clock.monotonic_ns(),
        )
        if self._queue or self._epoch is None:
            item.keep()
        self._queue.append(item)
        self._publisher.buffered(size)
        self.droppable_bytes += size
        metrics.BUFFERED_FRAGMENTS.inc()
        self._idle.clear()
        self._wake.set()

    def cut(self) -> None:
        """End the open run behind what waits."""
        if isinstance(self._queue[-1], _Cut) if self._queue else self._open is None:
            return
        self._queue.append(_Cut())
        self._idle.clear()
        self._wake.set()

    def drop_oldest(self) -> bool:
        """Give up the oldest fragment that was never sent; False when there is none."""
        for index, item in enumerate(self._queue):
            if isinstance(item, _Queued) and item.stamped is None and item is not self._sending:
                del self._queue[index]
                self.droppable_bytes -= item.size
                item.keep()
                self._forget(item)
                self._give_up(item.fragment, item.size, *self._why())
                return True
        return False

    async def run(self) -> None:
        """Send what comes, in order, for ever. Nothing is sent before the claim."""
        while True:
            if not self._queue:
                self._idle.set()
            if not self._queue or self._epoch is None:
                self._wake.clear()
                await self._wake.wait()
                continue
            item = self._queue[0]
            if isinstance(item, _Cut):
                await self._end_run()
                self._queue.popleft()
            else:
                await self._send_fragment(item, self._epoch)

    async def flushed(self) -> None:
        """Wait until all has been acknowledged or given up; the caller sets the deadline."""
        await self._idle.wait()

    def abandon(self) -> list[Lost]:
        """Release what still waits, at the end of the process; return it for the ledger."""
        left = [item for item in self._queue if isinstance(item, _Queued)]
        self._queue.clear()
        for item in left:
            item.keep()
            self._forget(item)
        self._publisher.forget(self)
        return [_lost(item.fragment, item.size, *self._why()) for item in left]

    async def _send_fragment(self, item: _Queued, epoch: int) -> None:
        self._sending = item
        self.droppable_bytes -= item.size
        try:
            if item.stamped is None:
                await self._begin_run_if_needed(item)
                item.stamped = self._stamp(item, epoch)
            if item.size > FRAGMENT_BYTES_MAX:
                await self._send_chunks(item, item.stamped)
            else:
                headers = item.stamped.to_headers()
                await self._until_acked(item.value, headers, keep=item.keep)
        except PoisonMessage as error:
            log.error("publisher.fragment_refused", camera_id=self._camera_id, reason=error.reason)
            self._queue.popleft()
            self._forget(item)
            item.fragment.release()
            self._give_up(item.fragment, item.size, "stream_error", "unit_too_large")
            return
        finally:
            self._sending = None
        self._queue.popleft()
        self._forget(item)
        item.fragment.release()
        self._acked(item)

    async def _send_chunks(self, item: _Queued, fragment: Fragment) -> None:
        """Send a long fragment from a copy: it takes several round trips, and its turn may come late."""
        if item.size > CHUNKED_BYTES_MAX:
            raise PoisonMessage("longer than chunks may be together")
        value = memoryview(item.keep())
        async with await self._publisher.turn(self._camera_id):
            for at in range(0, item.size, FRAGMENT_BYTES_MAX):
                part = value[at : at + FRAGMENT_BYTES_MAX]
                chunk = Chunk(at_bytes=at, fragment_bytes=item.size)
                headers = replace(fragment, chunk=chunk).to_headers()
                await self._until_acked(part, headers)

    async def _begin_run_if_needed(self, item: _Queued) -> None:
        another = self._broken or (self._open is not None and self._open.timeline != item.timeline)
        self._broken = False  # before the wait: what is given up meanwhile stood behind this one
        if another:
            await self._end_run()
        if self._open is None:
            self._open = _OpenRun(timeline=item.timeline, run=self._next_run, seq=self._seq, end_us=0)
            self._next_run += 1

    def _stamp(self, item: _Queued, epoch: int) -> Fragment:
        cut, opened = item.fragment, self._open
        if opened is None:
            raise RuntimeError("a fragment is stamped inside an open run")
        opened.seq, opened.end_us = self._seq, cut.end_us
        self._seq += 1
        return Fragment(
            camera_id=self._camera_id,
            stream=self._stream,
            epoch=epoch,
            run=opened.run,
            seq=opened.seq,
            start_us=cut.start_us,
            wall_us=cut.wall_us,
            media_90k=cut.media_90k,
            rtp_start_90k=cut.rtp_start_90k,
            recv_first_us=cut.recv_first_us,
            recv_last_us=cut.recv_last_us,
            clock_offset_us=None,
            camera_offset_ms=cut.camera_offset_ms,
            clock="rate_wrong" if cut.rate_wrong else self._publisher.host_clock(),
            keyframe=cut.keyframe,
            broken_refs=cut.broken_refs,
            codec=cut.init.codec,
            retention_class=self._retention_class,
            init_sha256=cut.init.sha256,
            sha256=cut.sha256,
            signed_sei=cut.signed_sei,
            init=cut.init.data,
        )

    async def _end_run(self) -> None:
        opened, self._open = self._open, None
        if opened is None or self._epoch is None:
            return
        end = VideoEnd(
            camera_id=self._camera_id,
            stream=self._stream,
            epoch=self._epoch,
            run=opened.run,
            seq=opened.seq,
            end_us=opened.end_us,
        )
        await self._until_acked(b"", end.to_headers())

    async def _until_acked(
        self,
        value: bytes | memoryview,
        headers: Headers,
        *,
        keep: Callable[[], bytes] | None = None,
    ) -> None:
        """Send until Kafka has it. A send without an answer may have arrived: the same record is sent again.

        `keep`: gives `value`'s buffer back once it has to wait, and returns the bytes to send then.
        """
        while True:
            producer = self._publisher.producer
            try:
                if producer is None:
                    self._failing = True
                    value = value if keep is None else keep()
                    producer = await self._publisher.reachable()
                await producer.send(self._outgoing(value, headers))
            except RetryLater as error:
                self._failing = True
                value = value if keep is None else keep()
                metrics.FRAGMENTS.labels("resent").inc()
                log.info("publisher.send_again", camera_id=self._camera_id, reason=type(error).__name__)
                await self._publisher.clock.sleep(random.uniform(*_RETRY_S))  # noqa: S311 - jitter, no secret
                continue
            self._failing = False
            return

    def _outgoing(self, value: bytes | memoryview, headers: Headers) -> Outgoing:
        return Outgoing(
            topic=VIDEO.name,
            key=self._camera_id,
            value=value,
            headers=headers,
            timestamp_ms=self._publisher.clock.now_us() // 1000,
        )

    def _acked(self, item: _Queued) -> None:
        cut = item.fragment
        metrics.FRAGMENTS_ACKED.inc()
        metrics.FRAGMENT_BYTES.inc(item.size)
        metrics.FRAGMENT_ACK_SECONDS.observe((self._publisher.clock.monotonic_ns() - item.put_ns) / 1e9)
        self._listener.acked(cut.start_us, cut.end_us)

    def _why(self) -> tuple[GapCause, str]:
        waits_long = (
            self._sending is not None and self._publisher.clock.monotonic_ns() - self._sending.put_ns > _SLOW_NS
        )
        if self._publisher.producer is None or self._failing or waits_long or self._epoch is None:
            return "kafka_unavailable", "buffer_full"
        return "shed_by_policy", "spool_full"

    def _give_up(self, fragment: ClosedFragment, size: int, cause: GapCause, detail: str) -> None:
        self._broken = True
        metrics.FRAGMENTS.labels("dropped").inc()
        metrics.DROPPED_BYTES.inc(size)
        self._listener.lost(_lost(fragment, size, cause, detail))

    def _forget(self, item: _Queued) -> None:
        self._publisher.buffered(-item.size)
        metrics.BUFFERED_FRAGMENTS.dec()


def _lost(fragment: ClosedFragment, size: int, cause: GapCause, detail: str) -> Lost:
    return Lost(from_us=fragment.start_us, to_us=fragment.end_us, size_bytes=size, cause=cause, detail=detail)
