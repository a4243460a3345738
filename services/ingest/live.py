"""The live port: newest pictures for the gateway, cut at 0.5 s, never through Kafka (console.md 4.4).

Nobody watching costs nothing but the newest GOP, which a session keeps. Recording never waits for a
viewer: a channel that is 2 s behind goes on with the next key picture.
"""

import asyncio
import hmac
from dataclasses import dataclass, field
from typing import Final

import msgspec
import structlog
from aiohttp import WSMsgType, web

from services.contracts.console import (
    CLOSE_RESTART,
    LiveClientSays,
    LiveErr,
    LiveGap,
    Sub,
    Unsub,
)
from services.contracts.device import CameraStream
from services.contracts.units import UtcMicroseconds
from services.ingest import metrics
from services.ingest.live_channel import Channel
from services.ingest.media.stills import Stills
from services.ingest.media_types import LiveFragment
from services.ingest.recorder import Session
from services.runtime import sockets
from services.runtime.clock import Clock
from services.runtime.errors import RetryLater, SettingsError
from services.runtime.http_server import refuse
from services.runtime.settings import SecretStore

log = structlog.get_logger()

RELAY_SECRET: Final = "live-relay"  # noqa: S105 - the name of a file, not what is in it
PING_S: Final = 15.0
SEND_S: Final = 10.0
STILL_S: Final = 2.0
CHANNELS_MAX: Final = 1024
MESSAGE_BYTES_MAX: Final = 64 * 1024
_CLIENT_SAYS: Final = msgspec.json.Decoder(LiveClientSays)
Key = tuple[str, str]


@dataclass(slots=True, eq=False)
class LiveCamera:
    """One stream as the live port knows it; recorders report to it (recorder.LiveView)."""

    key: Key
    session: Session | None = None
    is_recording: bool = False
    away_since_us: UtcMicroseconds | None = None
    cause: str = ""
    viewers: "dict[Channel, Window]" = field(default_factory=dict)

    def opened(self, session: Session) -> None:
        self.session = session

    def recording(self) -> None:
        self.is_recording, self.away_since_us = True, None
        for channel, window in self.viewers.items():
            self._begin(channel)
            window.wake()
        self._watch()

    def live(self, fragment: LiveFragment) -> None:
        for channel, window in self.viewers.items():
            metrics.LIVE_DROPPED.inc(channel.offer(fragment))
            window.wake()

    def closed(self, from_us: UtcMicroseconds, cause: str) -> None:
        was_recording, self.is_recording, self.session = self.is_recording, False, None
        if self.away_since_us is None or was_recording:
            self.away_since_us, self.cause = from_us, cause
        for channel, window in self.viewers.items():
            self._say_away(channel)
            window.wake()

    def join(self, channel: Channel, window: "Window") -> None:
        """Let a channel watch from the newest key picture on."""
        self.viewers[channel] = window
        if self.is_recording:
            self._begin(channel)
            self._watch()
        else:
            self._say_away(channel)

    def leave(self, channel: Channel) -> None:
        self.viewers.pop(channel, None)
        if not self.viewers and self.session is not None:
            self.session.watch(False)

    def key_picture(self) -> LiveFragment | None:
        gop = self.session.newest_gop() if self.session is not None else []
        return gop[0] if gop and gop[0].keyframe else None

    def _begin(self, channel: Channel) -> None:
        channel.join(self.session.newest_gop() if self.session is not None else [])

    def _watch(self) -> None:
        if self.viewers and self.session is not None:
            self.session.watch(True)

    def _say_away(self, channel: Channel) -> None:
        if self.away_since_us is None:
            channel.say(LiveErr(ch=channel.sub.ch, code="not_recording"))
        else:
            channel.say(LiveGap(ch=channel.sub.ch, from_us=self.away_since_us, to_us=None, cause=self.cause))


class LiveHub:
    """All streams, and the handler of `GET /api/v1/live`."""

    def __init__(self, *, secrets: SecretStore, stills: Stills, clock: Clock) -> None:
        self.stills = stills
        self.clock = clock
        self._secrets = secrets
        self._cameras: dict[Key, LiveCamera] = {}
        self._windows: set[Window] = set()
        metrics.LIVE_BYTES.set_function(lambda: sum(window.waiting_bytes() for window in self._windows))

    def view(self, camera_id: str, stream: CameraStream) -> LiveCamera:
        """Return where a recorder reports to; made for its first recorder."""
        key = (camera_id, stream.name)
        return self._cameras.setdefault(key, LiveCamera(key=key))

    def find(self, sub: Sub) -> LiveCamera | None:
        return self._cameras.get((sub.camera, sub.stream))

    def add_routes(self, app: web.Application) -> None:
        app.router.add_get("/api/v1/live", self.serve)

    async def serve(self, request: web.Request) -> web.StreamResponse:
        """Serve one socket until it closes."""
        self._authorise(request)
        socket = web.WebSocketResponse(heartbeat=PING_S, compress=False, max_msg_size=MESSAGE_BYTES_MAX)
        await socket.prepare(request)
        window = Window(self, socket, request.transport)
        self._windows.add(window)
        metrics.LIVE_SOCKETS.set(len(self._windows))
        try:
            await window.run()
        finally:
            self._windows.discard(window)
            metrics.LIVE_SOCKETS.set(len(self._windows))
        return socket

    async def close(self) -> None:
        """Tell every window to come back."""
        await asyncio.gather(*(window.close(CLOSE_RESTART) for window in self._windows))
        self.stills.close()

    def _authorise(self, request: web.Request) -> None:
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        try:
            wanted = self._secrets.read_text(RELAY_SECRET)
        except (RetryLater, SettingsError) as error:
            raise refuse(503, str(error)) from None
        if scheme.lower() != "bearer" or not hmac.compare_digest(token.strip().encode(), wanted.encode()):
            raise refuse(401, "send 'Authorization: Bearer <the live relay's secret>'")


class Window:
    """One socket: reads subscriptions, and writes from each channel in turn."""

    def __init__(self, hub: LiveHub, socket: web.WebSocketResponse, transport: asyncio.Transport | None) -> None:
        self._hub = hub
        self._socket = socket
        self._transport = transport
        self._channels: dict[int, tuple[LiveCamera, Channel]] = {}
        self._stills: dict[int, asyncio.Task[None]] = {}
        self._orphans: list[Channel] = []
        self._wake = asyncio.Event()

    def wake(self) -> None:
        self._wake.set()

    def waiting_bytes(self) -> int:
        return sum(channel.waiting_bytes() for _, channel in self._channels.values())

    async def run(self) -> None:
        writer = asyncio.create_task(self._write(), name="live writer")
        sockets.cut_when_writer_fails(writer, self._transport)
        try:
            async for message in self._socket:
                if message.type is not WSMsgType.TEXT or not self._hear(message.data):
                    break
        finally:
            writer.cancel()
            await asyncio.gather(writer, return_exceptions=True)
            for number in tuple(self._channels):
                self._unsubscribe(number)

    async def close(self, code: int) -> None:
        if not await sockets.close(self._socket, self._transport, code):
            log.info("live.cut", code=code)

    def _hear(self, text: str) -> bool:
        """Carry out what the window says; False when it breaks the protocol."""
        try:
            said = _CLIENT_SAYS.decode(text)
        except (msgspec.DecodeError, RecursionError):
            log.warning("live.frame_refused")
            return False
        if isinstance(said, Sub):
            self._unsubscribe(said.ch)
            self._subscribe(said)
        elif isinstance(said, Unsub):
            self._unsubscribe(said.ch)
        return True

    def _subscribe(self, sub: Sub) -> None:
        channel = Channel(sub)
        camera = self._hub.find(sub)
        if camera is None or len(self._channels) >= CHANNELS_MAX:
            channel.say(LiveErr(ch=sub.ch, code="unknown_camera" if camera is None else "overload"))
            self._orphans = [*self._orphans[-CHANNELS_MAX:], channel]
        else:
            self._channels[sub.ch] = (camera, channel)
            if sub.want == "still":
                self._stills[sub.ch] = asyncio.create_task(self._show_stills(camera, channel), name="stills")
            else:
                camera.join(channel, self)
        self.wake()

    def _unsubscribe(self, number: int) -> None:
        held = self._channels.pop(number, None)
        if held is not None:
            held[0].leave(held[1])
        task = self._stills.pop(number, None)
        if task is not None:
            task.cancel()

    async def _show_stills(self, camera: LiveCamera, channel: Channel) -> None:
        """Show each new key picture, looked for every 2 s."""
        shown_us = 0
        while True:
            picture = camera.key_picture()
            still = None if picture is None else await self._hub.stills.of(camera.key, picture)
            if still is None:
                channel.say(LiveErr(ch=channel.sub.ch, code="not_recording" if picture is None else "no_still"))
            elif still.captured_us != shown_us:
                shown_us = still.captured_us
                channel.still(still.jpeg, still.captured_us)
            self.wake()
            await self._hub.clock.sleep(STILL_S)

    async def _write(self) -> None:
        try:
            while not self._socket.closed:
                await self._wake.wait()
                self._wake.clear()
                while await self._send_round():
                    pass
        except TimeoutError:
            log.warning("live.stalled")
        except (ConnectionError, RuntimeError):
            # The socket went away between two frames; the reader ends for the same reason.
            await self.close(CLOSE_RESTART)

    async def _send_round(self) -> bool:
        """Send one item of each channel, so that none waits behind another; tell whether there was any."""
        orphans, self._orphans = self._orphans, []
        sent = False
        for channel in (*orphans, *(channel for _, channel in tuple(self._channels.values()))):
            for frame in channel.take():
                sent = True
                await self._send(frame)
        return sent

    async def _send(self, frame: str | bytes) -> None:
        if isinstance(frame, str):
            encoded, kind = frame.encode(), WSMsgType.TEXT
        else:
            encoded, kind = frame, WSMsgType.BINARY
        await sockets.send(self._socket, self._transport, encoded, kind, deadline_s=SEND_S)
