"""`GET /api/v1/alert-stream`: one console, one queue, one writer; snapshot, events, heartbeat, receipts.

A console that stops reading delays nobody: its queue is bounded and its socket is closed with 4008
once a frame has not left in 5 s. Protocol: alerts.md 8, console.md 5.2.
"""

import asyncio
import random
from collections.abc import Iterable
from typing import Final, Protocol, cast

import msgspec
import structlog
from aiohttp import WSMsgType, web

from services.contracts import codec
from services.contracts.console import (
    CLOSE_RESTART,
    CLOSE_SESSION_ENDED,
    Bye,
    ConsoleSays,
    Cursor,
    EventFrame,
    EventItem,
    Heartbeat,
    Hello,
    ReceiptFrame,
    Resync,
    Snapshot,
    SnapshotEnd,
)
from services.contracts.errors import MalformedMessage
from services.gateway.console_queue import ConsoleQueue
from services.gateway.metrics import GatewayMetrics
from services.gateway.session import session_ended
from services.gateway.view import AlertView, Held, may_see, pages
from services.runtime import sockets
from services.runtime.clock import Clock
from services.runtime.identity import Caller

HELLO_S: Final = 5.0
SEND_S: Final = 5.0
HEARTBEAT_S: Final = 5.0
COALESCE_S: Final = 0.02
CATCH_UP_S: Final = 2.0
PING_S: Final = 15.0
FRAME_BYTES_MAX: Final = 64 * 1024

log = structlog.get_logger()
_CONSOLE_SAYS: Final = msgspec.json.Decoder(ConsoleSays)


class ReceiptSink(Protocol):
    """Takes what a console says it showed or sounded."""

    async def receipts(self, caller: Caller, console_id: str, frame: ReceiptFrame) -> None:
        """Write receipts on; a failure is counted, the console is not told."""


class AlertStream:
    """The consoles of this replica. `publish` is called for every change of an alert."""

    def __init__(
        self, *, view: AlertView, cluster: str, clock: Clock, receipts: ReceiptSink, metrics: GatewayMetrics,
        send_s: float = SEND_S,
    ) -> None:  # fmt: skip
        self.view = view
        self.send_s = send_s
        self.clock = clock
        self.metrics = metrics
        self._cluster = cluster
        self._receipts = receipts
        self._consoles: set[Console] = set()

    def __len__(self) -> int:
        return len(self._consoles)

    def cursor(self) -> Cursor:
        return Cursor(cluster=self._cluster, at=self.view.positions())

    def publish(self, held: Held) -> None:
        """Offer a change to every console that may see it."""
        for console in self._consoles:
            console.offer(held)

    def queued(self) -> tuple[int, int]:
        """Return the entries and bytes waiting over all consoles."""
        return sum(len(c.queue) for c in self._consoles), sum(c.queue.size_bytes for c in self._consoles)

    async def serve(self, request: web.Request, caller: Caller) -> web.WebSocketResponse:
        """Speak with one console until it or its session ends."""
        socket = web.WebSocketResponse(heartbeat=PING_S, compress=False, max_msg_size=FRAME_BYTES_MAX)
        await socket.prepare(request)
        hello = await _hello(socket)
        if hello is None:
            return socket
        console = Console(self, socket, caller, hello, transport=request.transport)
        await self._catch_up(hello.cursor)
        self._consoles.add(console)
        console.begin()
        self.metrics.consoles.set(len(self._consoles))
        log.info("alert_stream.opened", console_id=hello.console_id, account=caller.account, sound=hello.sound)
        try:
            await console.run(self._receipts)
        finally:
            self._consoles.discard(console)
            self.metrics.consoles.set(len(self._consoles))
            log.info("alert_stream.closed", console_id=hello.console_id, code=socket.close_code)
        return socket

    async def close(self) -> None:
        """Tell every console to come back: this replica stops."""
        byes = [console.bye("restart", CLOSE_RESTART) for console in tuple(self._consoles)]
        for error in await asyncio.gather(*byes, return_exceptions=True):
            if error is not None:
                log.error("alert_stream.bye_failed", error=type(error).__name__)

    def resumes(self, cursor: Cursor | None) -> list[Held] | None:
        """Return what changed since a cursor, or None where a snapshot is due."""
        if cursor is None or cursor.cluster != self._cluster or self.view.ahead(cursor):
            return None
        return self.view.changed_since(cursor, self.clock.now_us() // 1000)

    async def _catch_up(self, cursor: Cursor | None) -> None:
        """Wait at most 2 s for this replica to reach a cursor that another one gave out."""
        waited_s = 0.0
        while (
            cursor is not None and cursor.cluster == self._cluster and self.view.ahead(cursor) and waited_s < CATCH_UP_S
        ):
            await self.clock.sleep(0.05)
            waited_s += 0.05


class Console:
    """One window. Made when it has said hello, gone with its socket; never used again."""

    def __init__(
        self, stream: AlertStream, socket: web.WebSocketResponse, caller: Caller, hello: Hello,
        *, transport: asyncio.Transport | None,
    ) -> None:  # fmt: skip
        self.queue = ConsoleQueue()
        self._transport = transport
        self._stream = stream
        self._socket = socket
        self._caller = caller
        self._hello = hello
        self._jurisdictions = frozenset(hello.filters.jurisdiction)
        self._wake = asyncio.Event()
        self._seq = 0
        self._beats_at_once = False
        self._cursor = hello.cursor or stream.cursor()

    def offer(self, held: Held) -> None:
        if may_see(self._caller, held.alert, self._jurisdictions):
            self.queue.put(held)
            self._wake.set()

    def begin(self) -> None:
        """Queue what this console missed; the same turn of the loop subscribed it, so nothing falls between."""
        missed = self._stream.resumes(self._hello.cursor)
        # Who missed nothing would hear nothing, and not know that it is heard.
        self._beats_at_once = missed == []
        if missed is None:
            self.queue.overflowed = True
        else:
            for held in missed:
                self.offer(held)
            self._cursor = self._stream.cursor() if not len(self.queue) else self._cursor
        self._wake.set()

    async def run(self, receipts: ReceiptSink) -> None:
        """Read and write until either ends."""
        writer = asyncio.create_task(self._write(), name="alert_stream")
        sockets.cut_when_writer_fails(writer, self._transport)
        try:
            await self._read(receipts, writer)
        finally:
            writer.cancel()
            await asyncio.gather(writer, return_exceptions=True)

    async def bye(self, reason: str, code: int) -> None:
        """Say good-bye and close; a socket that takes nothing is cut."""
        retry_ms = 500 + random.randrange(1500)  # noqa: S311 - spreads reconnects, no secret
        try:
            await self._send(Bye(seq=self._next_seq(), reason=reason, retry_ms=retry_ms))
        except (TimeoutError, ConnectionError, RuntimeError) as error:
            log.info("alert_stream.bye_unsaid", console_id=self._hello.console_id, reason=type(error).__name__)
        await self._close(code)

    async def _read(self, receipts: ReceiptSink, writer: asyncio.Task[None]) -> None:
        async for message in self._socket:
            if writer.done():
                break
            if message.type is not WSMsgType.TEXT:
                continue
            try:
                said = _CONSOLE_SAYS.decode(message.data)
            except (msgspec.DecodeError, RecursionError):
                self._stream.metrics.frames_refused.inc()
                await self.bye("malformed", CLOSE_SESSION_ENDED)
                break
            if isinstance(said, ReceiptFrame):
                await receipts.receipts(self._caller, self._hello.console_id, said)

    async def _write(self) -> None:
        clock = self._stream.clock
        last_beat_ns = clock.monotonic_ns() - (round(HEARTBEAT_S * 1e9) if self._beats_at_once else 0)
        try:
            while not self._socket.closed:
                idle_s = HEARTBEAT_S - (clock.monotonic_ns() - last_beat_ns) / 1e9
                await self._wait(max(0.0, idle_s))
                if session_ended(self._caller, clock.now_us()):
                    await self.bye("session_ended", CLOSE_SESSION_ENDED)
                    return
                if self.queue.overflowed:
                    await self._send_snapshot()
                while len(self.queue) and not self.queue.overflowed:
                    await self._send_events()
                if (clock.monotonic_ns() - last_beat_ns) / 1e9 >= HEARTBEAT_S:
                    last_beat_ns = clock.monotonic_ns()
                    await self._send_heartbeat()
        except TimeoutError:
            self._stream.metrics.consoles_stalled.inc()
            log.warning("alert_stream.stalled", console_id=self._hello.console_id, queued=len(self.queue))
        except (ConnectionError, RuntimeError):
            # The socket went away between two frames; the reader sees the same and ends.
            await self._close(CLOSE_RESTART)

    async def _wait(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._wake.wait()
        except TimeoutError:
            return
        self._wake.clear()
        if not self.queue.urgent and not self.queue.overflowed:
            await asyncio.sleep(COALESCE_S)

    async def _send_snapshot(self) -> None:
        if self._seq:
            await self._send(Resync(seq=self._next_seq(), reason="overflow"))
            self._stream.metrics.resyncs.inc()
        self.queue.clear()
        now_us = self._stream.clock.now_us()
        held = self._stream.view.snapshot(self._caller, self._jurisdictions, now_us)
        cursor = self._stream.cursor()
        for page in pages(held):
            await self._send(Snapshot(seq=self._next_seq(), items=_raw(page)))
            self._delivered(page)
        self._cursor = cursor
        await self._send(SnapshotEnd(seq=self._next_seq(), cursor=cursor))

    async def _send_events(self) -> None:
        cursor = self._stream.cursor()
        batch = self.queue.take()
        if batch.whole:
            self._cursor = cursor
        await self._send(EventFrame(seq=self._next_seq(), cursor=self._cursor, items=_raw(batch.items)))
        self._delivered(batch.items)

    async def _send_heartbeat(self) -> None:
        now_us = self._stream.clock.now_us()
        if not len(self.queue):
            self._cursor = self._stream.cursor()
        await self._send(
            Heartbeat(seq=self._next_seq(), server_time_us=now_us, cursor=self._cursor, queue=len(self.queue))
        )

    def _delivered(self, items: Iterable[Held]) -> None:
        now_us = self._stream.clock.now_us()
        for held in items:
            if held.alert.version == 1:
                self._stream.metrics.e2e_seconds.labels(held.alert.alarm_class).observe(
                    max(0, now_us - held.alert.received_us) / 1e6
                )
            if held.ask:
                log.info(
                    "alert_stream.delivered",
                    console_id=self._hello.console_id,
                    alert_id=held.alert.alert_id,
                    version=held.alert.version,
                    trace_id=_trace_id(held.traceparent),
                )

    async def _send(self, frame: msgspec.Struct) -> None:
        encoded, deadline_s = codec.encode(frame), self._stream.send_s
        await sockets.send(self._socket, self._transport, encoded, WSMsgType.TEXT, deadline_s=deadline_s)

    async def _close(self, code: int) -> None:
        if not await sockets.close(self._socket, self._transport, code):
            log.info("alert_stream.cut", console_id=self._hello.console_id, code=code)

    def _next_seq(self) -> int:
        self._seq += 1
        return self._seq


async def _hello(socket: web.WebSocketResponse) -> Hello | None:
    """Read the first frame; anything else closes the socket with a reason."""
    try:
        async with asyncio.timeout(HELLO_S):
            message = await socket.receive()
    except TimeoutError:
        await socket.close(code=CLOSE_SESSION_ENDED, message=b"no hello in 5 s")
        return None
    if message.type is not WSMsgType.TEXT:
        await socket.close(code=CLOSE_SESSION_ENDED, message=b"the first frame must be hello")
        return None
    try:
        hello = codec.decode(message.data, Hello)
    except MalformedMessage as error:
        await socket.close(code=CLOSE_SESSION_ENDED, message=str(error).encode()[:120])
        return None
    return hello


def _raw(items: Iterable[Held]) -> tuple[EventItem, ...]:
    """Return the items as encoded once for all consoles: msgspec copies a Raw into the frame as it is."""
    return cast("tuple[EventItem, ...]", tuple(held.item for held in items))


def _trace_id(traceparent: str | None) -> str | None:
    return None if traceparent is None else traceparent.split("-")[1]
