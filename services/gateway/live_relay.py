"""`GET /api/v1/live`: one socket per window; bytes in from ingest, bytes out, nothing parsed.

Each (camera, stream, want) is read from ingest once, by a task that lives as long as somebody
watches, from the address the camera's newest claim names. One slow window or channel delays no
other. Protocol: console.md 4.4.
"""

import asyncio
import uuid
from collections.abc import Callable
from functools import partial
from random import Random
from typing import Final

import aiohttp
import msgspec
import structlog
from aiohttp import WSMsgType, web

from services.contracts import codec
from services.contracts.audit import Access, AccessResult
from services.contracts.console import (
    CLOSE_RESTART,
    CLOSE_SESSION_ENDED,
    LiveClientSays,
    LiveErr,
    LiveKey,
    LiveServerSays,
    Sub,
    Unsub,
)
from services.gateway.city import City
from services.gateway.live_channels import Feed, FeedKey, LiveText, Media, WatchedChannel, for_channel, read_media
from services.gateway.metrics import GatewayMetrics
from services.gateway.session import session_ended
from services.runtime import sockets
from services.runtime.access_log import AccessLog
from services.runtime.claims import ClaimsLog
from services.runtime.clock import Clock
from services.runtime.errors import RetryLater
from services.runtime.identity import Caller
from services.runtime.retry import BackOff

CHANNELS_MAX: Final = 64
TOTAL_BYTES_MAX: Final = 64 * 1024 * 1024
FRAME_BYTES_MAX: Final = 12 * 1024 * 1024
SEND_S: Final = 5.0
NOTING_MAX: Final = 1_000
"""Refusals that wait for `audit`: windows that are refused this often while Kafka is away are a flood."""
AUDIT_S: Final = 2.0
"""When a window is told that its picture waits: the look cannot be written to `audit` now."""
SESSION_CHECK_S: Final = 60.0
MAY_WATCH: Final = frozenset({"operator", "supervisor"})

log = structlog.get_logger()
_BACK_OFF: Final = BackOff(first_s=0.25, most_s=5.0)
_CLIENT_SAYS: Final = msgspec.json.Decoder(LiveClientSays)
_SERVER_SAYS: Final = msgspec.json.Decoder(LiveServerSays)


class LiveRelay:
    """The windows and feeds of this replica."""

    def __init__(
        self,
        *,
        city: City,
        claims: ClaimsLog,
        http: aiohttp.ClientSession,
        relay_token: Callable[[], str],
        access_log: AccessLog,
        clock: Clock,
        metrics: GatewayMetrics,
        send_s: float = SEND_S,
    ) -> None:
        self.clock = clock
        self.send_s = send_s
        self.metrics = metrics
        self._city = city
        self._claims = claims
        self._http = http
        self._relay_token = relay_token
        self._access_log = access_log
        self._feeds: dict[FeedKey, tuple[Feed, asyncio.Task[None]]] = {}
        self._windows: set[Window] = set()
        self._noting: set[asyncio.Task[None]] = set()
        self._random = Random()  # noqa: S311 - jitter is no secret

    def bytes_held(self) -> int:
        """Return what the feeds cache and the windows have yet to take."""
        return sum(
            feed.gop_bytes + sum(channel.bytes_waiting for channel in feed.watchers) for feed, _ in self._feeds.values()
        )

    async def serve(self, request: web.Request, caller: Caller) -> web.WebSocketResponse:
        """Serve one window until it or its session ends."""
        socket = web.WebSocketResponse(heartbeat=15.0, compress=False, max_msg_size=64 * 1024)
        await socket.prepare(request)
        window = Window(self, socket, caller, origin=request.remote or "", transport=request.transport)
        self._windows.add(window)
        self.metrics.live_windows.set(len(self._windows))
        try:
            await window.run()
        finally:
            self._windows.discard(window)
            self.metrics.live_windows.set(len(self._windows))
        return socket

    async def close(self) -> None:
        """End every window and feed: this replica stops."""
        closing = (window.close(CLOSE_RESTART) for window in tuple(self._windows))
        for error in await asyncio.gather(*closing, return_exceptions=True):
            if error is not None:
                log.error("live_relay.close_failed", error=type(error).__name__)
        if self._noting:
            await asyncio.wait(self._noting, timeout=AUDIT_S)
        tasks = (*(task for _, task in self._feeds.values()), *self._noting)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def judge(self, caller: Caller, sub: Sub, *, open_channels: int) -> LiveErr | None:
        """Decide whether a person may watch one more camera."""
        if caller.role not in MAY_WATCH:
            refusal: LiveErr | None = LiveErr(ch=sub.ch, code="forbidden")
        elif self._city.camera(caller, sub.camera) is None:
            refusal = LiveErr(ch=sub.ch, code="unknown_camera")
        elif open_channels >= CHANNELS_MAX or self.bytes_held() > TOTAL_BYTES_MAX:
            refusal = LiveErr(ch=sub.ch, code="overload")
        else:
            refusal = None
        if refusal is not None:
            self.metrics.live_refused.labels(refusal.code).inc()
        return refusal

    def note_refusal(self, caller: Caller, sub: Sub, origin: str) -> None:
        """Write a refusal down beside the window, which may be gone at once."""
        if len(self._noting) >= NOTING_MAX:
            self.metrics.access_log_given_up.labels("denied").inc()
            log.error("live_relay.refusal_unnoted", account=caller.account, camera_id=sub.camera)
            return
        noting = asyncio.create_task(self.write_down(caller, sub, origin, "denied"), name="live refusal")
        self._noting.add(noting)
        noting.add_done_callback(self._noted)

    def _noted(self, noting: asyncio.Task[None]) -> None:
        self._noting.discard(noting)
        if not noting.cancelled() and (error := noting.exception()) is not None:
            self.metrics.access_log_given_up.labels("denied").inc()
            log.error("live_relay.refusal_unnoted", error=type(error).__name__)

    def join(self, key: FeedKey, channel: WatchedChannel) -> Feed:
        """Let a channel watch a feed, opening it for the first watcher."""
        held = self._feeds.get(key)
        if held is None:
            feed = Feed(key=key)
            task = asyncio.create_task(self._read(feed), name="live feed")
            task.add_done_callback(partial(self._feed_ended, feed))
            held = self._feeds[key] = (feed, task)
            self.metrics.live_feeds.set(len(self._feeds))
        feed = held[0]
        feed.watchers.add(channel)
        return feed

    def leave(self, feed: Feed, channel: WatchedChannel) -> None:
        """End a channel's watching; the last one closes the feed."""
        feed.watchers.discard(channel)
        if not feed.watchers:
            self._forget(feed)

    def _feed_ended(self, feed: Feed, task: asyncio.Task[None]) -> None:
        """Forget a feed that ended by a mistake of ours, so that the next window opens it anew."""
        if task.cancelled() or (error := task.exception()) is None:
            return
        log.error("live_relay.feed_failed", camera_id=feed.key.camera_id, exc_info=error)
        self._say(feed, LiveErr(ch=0, code="not_recording"))
        self._forget(feed)

    def _forget(self, feed: Feed) -> None:
        if feed.key in self._feeds and self._feeds[feed.key][0] is feed:
            self._feeds.pop(feed.key)[1].cancel()
            self.metrics.live_feeds.set(len(self._feeds))

    async def write_down(self, caller: Caller, sub: Sub, origin: str, result: AccessResult) -> None:
        """Return once the decision stands in `audit`; the caller sets the deadline, by cancelling."""
        access = Access(
            account=caller.account,
            role=caller.role,
            at_us=self.clock.now_us(),
            origin=origin,
            action="live",
            camera_id=sub.camera,
            from_us=None,
            to_us=None,
            request_id=str(uuid.uuid4()),
            reason=sub.purpose,
            result=result,
        )
        try:
            await self._access_log.write(access)
        except asyncio.CancelledError:
            self.metrics.access_log_given_up.labels(result).inc()
            raise

    async def _read(self, feed: Feed) -> None:
        """Keep one feed open: connect, pass on, come back with back-off."""
        attempt = 0
        while True:
            attempt += 1
            claim = self._claims.current(feed.key.camera_id)
            if claim is not None and claim.live_url is not None:
                try:
                    await self._read_from(claim.live_url, feed)
                    attempt = 0
                except (
                    aiohttp.ClientError,
                    TimeoutError,
                    OSError,
                    ValueError,
                    RetryLater,
                    msgspec.DecodeError,
                ) as error:
                    log.info("live_relay.feed_lost", camera_id=feed.key.camera_id, reason=type(error).__name__)
            self._say(feed, LiveErr(ch=0, code="not_recording"))
            await self.clock.sleep(_BACK_OFF.wait_s(max(1, attempt), self._random))

    async def _read_from(self, live_url: str, feed: Feed) -> None:
        headers = {"Authorization": f"Bearer {self._relay_token()}"}
        sub = Sub(ch=0, camera=feed.key.camera_id, stream=feed.key.stream, want=feed.key.want, purpose="relay")
        async with self._http.ws_connect(
            live_url, headers=headers, max_msg_size=FRAME_BYTES_MAX, heartbeat=15.0, compress=0
        ) as upstream:
            await upstream.send_frame(codec.encode(sub), WSMsgType.TEXT)
            key = False
            async for message in upstream:
                if message.type is WSMsgType.BINARY:
                    _, media = read_media(message.data, key=key)
                    key = False
                    feed.media(media)
                    self._offer(feed, media)
                elif message.type is WSMsgType.TEXT:
                    said = _SERVER_SAYS.decode(message.data)
                    if isinstance(said, LiveKey):
                        key = True
                    else:
                        self._say(feed, said)

    def _say(self, feed: Feed, said: LiveText) -> None:
        feed.text(said)
        for channel in feed.watchers:
            channel.offer(for_channel(said, channel.number))
            channel.wake()

    def _offer(self, feed: Feed, media: Media) -> None:
        for channel in feed.watchers:
            self.metrics.live_dropped.inc(channel.offer(media))
            channel.wake()


class Window:
    """One socket with its channels; one writer, which takes from each channel in turn."""

    def __init__(
        self, relay: LiveRelay, socket: web.WebSocketResponse, caller: Caller, *, origin: str,
        transport: asyncio.Transport | None,
    ) -> None:  # fmt: skip
        self._relay = relay
        self._transport = transport
        self._socket = socket
        self._caller = caller
        self._origin = origin
        self._channels: dict[int, tuple[Feed, WatchedChannel]] = {}
        self._joining: dict[int, asyncio.Task[None]] = {}
        self._refusals: list[LiveErr] = []
        self._wake = asyncio.Event()

    async def run(self) -> None:
        writer = asyncio.create_task(self._write(), name="live_relay")
        sockets.cut_when_writer_fails(writer, self._transport)
        try:
            async for message in self._socket:
                if message.type is not WSMsgType.TEXT or not self._hear(message.data):
                    await self.close(CLOSE_SESSION_ENDED)
                    break
        finally:
            writer.cancel()
            await asyncio.gather(writer, return_exceptions=True)
            for number in (*self._joining, *self._channels):
                self._unsubscribe(number)

    async def close(self, code: int) -> None:
        if not await sockets.close(self._socket, self._transport, code):
            log.info("live_relay.cut", account=self._caller.account, code=code)

    def _hear(self, text: str) -> bool:
        """Carry out what the window says; False when it breaks the protocol."""
        try:
            said = _CLIENT_SAYS.decode(text)
        except (msgspec.DecodeError, RecursionError):
            self._relay.metrics.frames_refused.inc()
            return False
        if isinstance(said, Sub):
            self._unsubscribe(said.ch)
            self._subscribe(said)
        elif isinstance(said, Unsub):
            self._unsubscribe(said.ch)
        return True

    def _subscribe(self, sub: Sub) -> None:
        open_channels = len(self._channels) + len(self._joining)
        refusal = self._relay.judge(self._caller, sub, open_channels=open_channels)
        if refusal is not None:
            self._relay.note_refusal(self._caller, sub, self._origin)
            self._refuse(refusal)
            return
        joining = asyncio.create_task(self._join(sub), name="live join")
        sockets.cut_when_writer_fails(joining, self._transport)
        self._joining[sub.ch] = joining

    async def _join(self, sub: Sub) -> None:
        """Let a channel watch once its look stands in `audit`; while Kafka is away, say so and go on trying."""
        await self._allowed(sub)
        self._watch(sub)
        del self._joining[sub.ch]

    async def _allowed(self, sub: Sub) -> None:
        late = LiveErr(ch=sub.ch, code="overload")
        telling = asyncio.get_running_loop().call_later(AUDIT_S, self._refuse, late)
        try:
            await self._relay.write_down(self._caller, sub, self._origin, "allowed")
        finally:
            telling.cancel()

    def _watch(self, sub: Sub) -> None:
        channel = WatchedChannel(number=sub.ch, wake=self._wake.set)
        feed = self._relay.join(FeedKey(camera_id=sub.camera, stream=sub.stream, want=sub.want), channel)
        for item in feed.joined(channel):
            channel.pending.append(item)
            channel.bytes_waiting += len(item.payload) if isinstance(item, Media) else 0
        self._channels[sub.ch] = (feed, channel)
        self._wake.set()

    def _refuse(self, refusal: LiveErr) -> None:
        if len(self._refusals) < CHANNELS_MAX:
            self._refusals.append(refusal)
        self._wake.set()

    def _unsubscribe(self, number: int) -> None:
        joining = self._joining.pop(number, None)
        if joining is not None:
            joining.cancel()
        held = self._channels.pop(number, None)
        if held is not None:
            self._relay.leave(*held)

    async def _write(self) -> None:
        try:
            while not self._socket.closed:
                await self._wait()
                if session_ended(self._caller, self._relay.clock.now_us()):
                    await self.close(CLOSE_SESSION_ENDED)
                    return
                while await self._send_round():
                    pass
        except TimeoutError:
            log.warning("live_relay.stalled", account=self._caller.account)
        except (ConnectionError, RuntimeError):
            # The socket went away between two frames; the reader ends for the same reason.
            await self.close(CLOSE_RESTART)

    async def _wait(self) -> None:
        try:
            async with asyncio.timeout(SESSION_CHECK_S):
                await self._wake.wait()
        except TimeoutError:
            return
        self._wake.clear()

    async def _send_round(self) -> bool:
        """Send at most one item of each channel; tell whether anything was there."""
        sent = False
        while self._refusals:
            await self._send(self._refusals.pop(0))
        for number, (_, channel) in tuple(self._channels.items()):
            item = channel.take()
            if item is not None:
                sent = True
                await self._send(item, number)
        return sent

    async def _send(self, item: LiveText | Media, number: int = 0) -> None:
        if isinstance(item, Media):
            frame, kind = item.frame(number), WSMsgType.BINARY
        else:
            frame, kind = codec.encode(item), WSMsgType.TEXT
        await sockets.send(self._socket, self._transport, frame, kind, deadline_s=self._relay.send_s)
