"""One RTSP session over TCP: the only file that owns a socket. Never raises for a camera's fault.

connect -> OPTIONS -> DESCRIBE -> SETUP (video only) -> PLAY -> frames -> TEARDOWN. Reading happens in
`_Link` on one buffer shared by all cameras; everything slow happens once a second in `_watch`.
Source: cameras.md 3, 6; hotpath.md.
"""

import asyncio
import fcntl
import hashlib
import ipaddress
import secrets
import socket
import ssl
import struct
import termios
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final, NoReturn, TypeVar, cast
from urllib.parse import urlsplit

import structlog

from services.contracts.gap import GapCause
from services.ingest.fragmenter import Missing
from services.ingest.media_types import (
    CameraTarget,
    EndDetail,
    Finding,
    FragmentSink,
    LiveFragment,
    RetryHint,
    SessionEnd,
    SessionPhase,
)
from services.ingest.rtsp import auth, message, rtp, sdp
from services.ingest.rtsp.errors import CameraError, MessageError, SdpError, SessionFailed
from services.ingest.rtsp.fast_path import SLACK_BYTES, MediaParser
from services.ingest.timing import STEP_NEW_RUN_US, HostTime
from services.runtime.clock import Clock
from services.runtime.errors import StoppedEarly
from services.runtime.waits import unless_stopped, within

log = structlog.get_logger()
T = TypeVar("T")

SHARED_BYTES: Final = 2 * 1024 * 1024
RECEIVE_BYTES: Final = 1024 * 1024
LOW_WATER_MAX: Final = 64 * 1024
LOW_WATER_MIN: Final = 4 * 1024
LOW_WATER_S: Final = 0.25
TCP_USER_TIMEOUT_MS: Final = 10_000
RECEIVER_REPORT_S: Final = 5.0
KEEP_ALIVE_METHODS: Final = ("OPTIONS", "SET_PARAMETER", "GET_PARAMETER")
_BUGGY_LIVE555: Final = "LIVE555 Streaming Media v20"


class SharedBuffer:
    """Where every camera's bytes are read to and parsed from; one per event loop."""

    __slots__ = ("data", "view")

    def __init__(self, capacity_bytes: int = SHARED_BYTES) -> None:
        self.data = bytearray(capacity_bytes + SLACK_BYTES)
        self.view = memoryview(self.data)[:capacity_bytes]


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionSettings:
    """The timers of cameras.md 3.1 and 6, all proposals of that page."""

    connect_s: float = 5.0
    request_s: float = 10.0
    first_packet_s: float = 3.0
    key_picture_s: float = 10.0
    stall_s: float = 3.0
    stall_intervals: int = 3
    tick_s: float = 1.0
    teardown_s: float = 0.5
    keep_gop: bool = True


class _Link(asyncio.BufferedProtocol):
    """The socket's side: reads into the shared buffer and parses at once; keeps only the remainder."""

    def __init__(self, shared: SharedBuffer, parser: MediaParser, host: HostTime, clock: Clock) -> None:
        self.transport: asyncio.Transport | None = None
        self.lost: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()
        self.bytes_read = 0
        self.reads = 0
        self._shared = shared
        self._parser = parser
        self._host = host
        self._clock = clock
        self._rest = b""
        self._rest_bytes = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002 - asyncio's signature
        rest = self._rest_bytes
        if rest:
            self._shared.data[:rest] = self._rest
        return self._shared.view[rest:]

    def buffer_updated(self, nbytes: int) -> None:
        end = self._rest_bytes + nbytes
        self.bytes_read += nbytes
        self.reads += 1
        data = self._shared.data
        try:
            used = self._parser.feed(data, 0, end, self._host.utc_us(self._clock.monotonic_ns()))
        except CameraError as error:
            self._fail(error)
            return
        if end - used >= SHARED_BYTES - LOW_WATER_MAX:
            self._fail(MessageError("a piece larger than the buffer"))
            return
        self._rest = bytes(data[used:end])
        self._rest_bytes = end - used
        if self._parser.fault is not None:
            self._fail(SessionFailed("the stream cannot go on"))

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.lost.done():
            self.lost.set_result(exc)

    def _fail(self, error: CameraError) -> None:
        self._rest, self._rest_bytes = b"", 0
        if not self.lost.done():
            self.lost.set_result(error)
        if self.transport is not None:
            self.transport.abort()


class _Ended(Exception):
    """Carries the end of a session out of nested steps; never leaves this file."""

    def __init__(self, cause: GapCause | None, detail: EndDetail, retry: RetryHint = RetryHint.NORMAL) -> None:
        super().__init__(detail.value)
        self.cause = cause
        self.detail = detail
        self.retry = retry


def any_address(_address: str) -> bool:
    """The allow-list that allows everything: simulators and tests."""
    return True


async def _first(*futures: "asyncio.Future[Any]") -> None:
    await asyncio.wait(futures, return_when=asyncio.FIRST_COMPLETED)


class CameraSession:
    """One session of one camera stream, from connect to its end.

    `run` returns how it ended; `request_stop` ends it politely from outside. `allowed` is asked for
    the one address the host name resolves to, and only that address is connected to.
    """

    def __init__(
        self,
        target: CameraTarget,
        sink: FragmentSink,
        clock: Clock,
        *,
        shared: SharedBuffer,
        settings: SessionSettings | None = None,
        allowed: Callable[[str], bool] = any_address,
    ) -> None:
        self._target = target
        self._sink = sink
        self._clock = clock
        self._shared = shared
        self._settings = settings or SessionSettings()
        self._allowed = allowed
        self._host = HostTime(clock.now_us(), clock.monotonic_ns())
        self._parser = MediaParser(self, sink, keep_gop=self._settings.keep_gop)
        self._link: _Link | None = None
        self._socket: socket.socket | None = None
        self._stop = asyncio.Event()
        self._wake = asyncio.Event()  # a second has passed, or there is no time to wait for one
        self._answer: asyncio.Future[message.Response] | None = None
        self._answer_cseq = 0
        self._play_cseq = 0
        self._cseq = 0
        self._challenge: auth.Challenge | None = None
        self._nonce_count = 0
        self._status: int | None = None
        self._error_number: int | None = None
        self._session_id: str | None = None
        self._timeout_s = message.SESSION_TIMEOUT_S
        self._base = target.url
        self._methods: frozenset[str] = frozenset()
        self._keep_alive = KEEP_ALIVE_METHODS[0]
        self._description: sdp.Description | None = None
        self._rtcp_channel = 1
        self._findings: set[str] = set()
        self._phase = SessionPhase.CONNECTING

    @property
    def phase(self) -> SessionPhase:
        return self._phase

    @property
    def parser(self) -> MediaParser:
        """Counters of the media side: units, losses, rejected packets."""
        return self._parser

    def request_stop(self) -> None:
        """End the session with a TEARDOWN; footage up to now is handed over."""
        self._stop.set()
        self._wake.set()

    def watch(self, watched: bool) -> None:
        """Cut live fragments from now on, or no more."""
        if self._parser.fragmenter is not None:
            self._parser.fragmenter.watch(watched)
        self._low_water(self._mark())

    def newest_gop(self) -> list[LiveFragment]:
        """Return what a new viewer needs before the next `live` call."""
        fragmenter = self._parser.fragmenter
        return fragmenter.newest_gop() if fragmenter is not None else []

    async def run(self) -> SessionEnd:
        """Hold the session until it ends. Only our own mistakes and cancellation raise."""
        self._host = HostTime(self._clock.now_us(), self._clock.monotonic_ns())
        try:
            await self._connect()
            await self._handshake()
            await self._watch()
        except _Ended as error:
            ended = error
        except (SessionFailed, SdpError, MessageError) as error:
            ended = self._failed(error)
        except asyncio.CancelledError:
            self._finish(_Ended("operator_stop", EndDetail.REQUESTED))
            self._close()
            raise
        self._finish(ended)
        await self._teardown()
        self._close()
        return self._end(ended)

    # ---- connect and dialogue ----

    async def _connect(self) -> None:
        self._enter(SessionPhase.CONNECTING)
        parts = urlsplit(self._target.url)
        if parts.scheme not in ("rtsp", "rtsps") or not parts.hostname or parts.username or parts.password:
            raise SessionFailed("the URL is not rtsp:// or rtsps:// without user info")
        port = parts.port or (322 if parts.scheme == "rtsps" else 554)
        try:
            address = await self._resolve(parts.hostname, port)
            await self._within(
                self._open(address, port, tls=parts.scheme == "rtsps", name=parts.hostname), self._settings.connect_s
            )
        except TimeoutError:
            raise _Ended("device_offline", EndDetail.TIMEOUT) from None
        except (OSError, ssl.SSLError) as error:
            self._error_number = error.errno
            raise _Ended("device_offline", EndDetail.REFUSED) from error

    async def _resolve(self, host: str, port: int) -> str:
        """Resolve once; connect to that address only (cameras.md 2.3)."""
        found = await self._within(
            asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM), self._settings.connect_s
        )
        address = str(found[0][4][0])
        ipaddress.ip_address(address.partition("%")[0])
        if not self._allowed(address):
            raise SessionFailed("the camera's address is outside the allowed networks")
        return address

    async def _open(self, address: str, port: int, *, tls: bool, name: str) -> None:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        sock = socket.socket(family, socket.SOCK_STREAM)
        loop = asyncio.get_running_loop()
        try:
            sock.setblocking(False)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BYTES)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, TCP_USER_TIMEOUT_MS)
            await loop.sock_connect(sock, (address, port))
            context = self._tls_context() if tls else None
            _, self._link = await loop.create_connection(
                lambda: _Link(self._shared, self._parser, self._host, self._clock),
                sock=sock,
                ssl=context,
                server_hostname=name if tls else None,
            )
        except BaseException:
            sock.close()
            raise
        self._socket = None if tls else sock
        if tls:
            self._check_pin()

    def _tls_context(self) -> ssl.SSLContext:
        context = ssl.create_default_context()
        if self._target.tls_sha256 is not None and not self._target.tls_verify:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE  # the pinned fingerprint stands in for it
        return context

    def _check_pin(self) -> None:
        if self._target.tls_sha256 is None or self._link is None or self._link.transport is None:
            return
        tls = self._link.transport.get_extra_info("ssl_object")
        seen = hashlib.sha256(tls.getpeercert(binary_form=True) or b"").hexdigest()
        if seen != self._target.tls_sha256.lower().replace(":", ""):
            raise SessionFailed("the camera's certificate is not the pinned one")

    async def _handshake(self) -> None:
        self._enter(SessionPhase.HANDSHAKE)
        url = self._target.url
        options = await self._request("OPTIONS", url, accept_any=True)
        self._methods = message.public_methods(options)
        described = await self._request("DESCRIBE", url, (("Accept", "application/sdp"),))
        self._description = description = sdp.parse(described.body)
        if description.audio_tracks:
            self._find("audio_offered", {"tracks": description.audio_tracks})
        self._base = sdp.base_url(url, described.first("content-base"), described.first("content-location"))
        aggregate = sdp.control_url(self._base, description.control)
        track = sdp.control_url(self._base, description.video.control)
        setup = await self._request("SETUP", track, (("Transport", "RTP/AVP/TCP;unicast;interleaved=0-1"),))
        self._agree(setup, description.video)
        self._enter(SessionPhase.AWAIT_MEDIA)
        await self._request("PLAY", aggregate, (("Range", "npt=0.000-"),))
        self._base = aggregate

    def _agree(self, setup: message.Response, video: sdp.VideoTrack) -> None:
        self._session_id, self._timeout_s = message.session_id(setup.first("session") or "")
        transport = message.transport(setup.first("transport") or "")
        if setup.first("transport") and not transport.interleaved:
            raise SessionFailed("the camera refuses TCP")
        channel = 0 if transport.rtp_channel is None else transport.rtp_channel
        self._rtcp_channel = transport.rtcp_channel if transport.rtcp_channel is not None else channel ^ 1
        self._parser.use(video, rtp_channel=channel, rtcp_channel=self._rtcp_channel)

    async def _request(
        self, method: str, url: str, headers: tuple[tuple[str, str], ...] = (), *, accept_any: bool = False
    ) -> message.Response:
        """Send one request and wait for its answer, answering one challenge, or one new nonce."""
        answered = False
        while True:
            response = await self._exchange(method, url, headers)
            self._status = response.status
            if response.status == 401:
                answered = self._take_challenge(response, answered=answered)
                continue
            if 200 <= response.status < 300 or accept_any:
                return response
            raise self._refusal(method, response.status)

    def _take_challenge(self, response: message.Response, *, answered: bool) -> bool:
        offers = auth.challenges(response.all("www-authenticate"))
        basic = self._target.basic_without_tls or self._target.url.startswith("rtsps:")
        chosen = auth.choose(offers, basic_allowed=basic)
        before = self._challenge
        fresh = chosen is not None and (before is None or chosen.stale or chosen.nonce != before.nonce)
        if self._target.credentials is None or chosen is None or not fresh or answered:
            self._enter(SessionPhase.AUTH_FAILED)
            raise _Ended("device_offline", EndDetail.AUTH_FAILED, RetryHint.AUTH)
        self._challenge, self._nonce_count = chosen, 0
        return before is not None

    def _refusal(self, method: str, status: int) -> _Ended | SessionFailed:
        if status == 454:
            return _Ended("device_offline", EndDetail.REFUSED, RetryHint.AT_ONCE)
        if status in (453, 503):
            return _Ended("device_offline", EndDetail.REFUSED, RetryHint.SLOTS_FULL)
        return SessionFailed(f"{method} was answered with {status}", status=status)

    async def _exchange(self, method: str, url: str, headers: tuple[tuple[str, str], ...]) -> message.Response:
        link = self._link
        if link is None:
            raise SessionFailed("not connected")
        answer: asyncio.Future[message.Response] = asyncio.get_running_loop().create_future()
        self._answer = answer
        self._answer_cseq = self._send(method, url, headers)
        if method == "PLAY":
            self._play_cseq = self._answer_cseq
        stopping = asyncio.ensure_future(self._stop.wait())
        deadline = asyncio.ensure_future(self._clock.sleep(self._settings.request_s))
        try:
            await _first(answer, link.lost, stopping, deadline)
        finally:
            self._answer = None
            stopping.cancel()
            deadline.cancel()
        if answer.done():
            return answer.result()
        if link.lost.done():
            self._lost(link)
        if self._stop.is_set():
            raise _Ended(None, EndDetail.REQUESTED)
        raise _Ended("device_offline", EndDetail.TIMEOUT)

    def _send(self, method: str, url: str, headers: tuple[tuple[str, str], ...] = ()) -> int:
        self._cseq += 1
        extra = list(headers)
        if self._session_id:
            extra.append(("Session", self._session_id))
        if self._challenge is not None and self._target.credentials is not None:
            self._nonce_count += 1
            value = auth.authorization(
                self._challenge,
                self._target.credentials,
                method=method,
                uri=url,
                count=self._nonce_count,
                cnonce=secrets.token_hex(8),
            )
            extra.append(("Authorization", value))
        self._write(message.request(method, url, self._cseq, extra))
        return self._cseq

    def _write(self, data: bytes) -> None:
        if self._link is not None and self._link.transport is not None and not self._link.transport.is_closing():
            self._link.transport.write(data)

    def on_text(self, message_bytes: bytes) -> None:
        """Take a message that stood between frames (called by the parser)."""
        parsed = message.parse(message_bytes)
        if isinstance(parsed, message.PeerRequest):
            self._write(f"RTSP/1.0 501 Not Implemented\r\nCSeq: {parsed.cseq[:32]}\r\n\r\n".encode())
            return
        answer = self._answer
        if answer is None or answer.done():
            self._note_keep_alive(parsed)
            return
        if parsed.cseq is not None and parsed.cseq != self._answer_cseq:
            return
        if self._answer_cseq == self._play_cseq and 200 <= parsed.status < 300:
            self._parser.playing = True  # RTP behind this message counts; RTP before it does not (N06)
        answer.set_result(parsed)

    def _note_keep_alive(self, response: message.Response) -> None:
        """A refused keep-alive method is replaced by the next one the camera lists."""
        if response.status == 401:
            offers = auth.challenges(response.all("www-authenticate"))
            chosen = auth.choose(offers, basic_allowed=self._target.basic_without_tls)
            if chosen is not None and self._challenge is not None and chosen.nonce != self._challenge.nonce:
                self._challenge, self._nonce_count = chosen, 0
        elif response.status in (405, 501, 551):
            later = KEEP_ALIVE_METHODS[KEEP_ALIVE_METHODS.index(self._keep_alive) + 1 :]
            self._keep_alive = next((m for m in later if m in self._methods), self._keep_alive)

    # ---- while media comes ----

    async def _watch(self) -> None:
        """Once a second: stalls, keep-alive, receiver reports, the host clock, the low-water mark."""
        link = self._link
        if link is None:
            raise SessionFailed("not connected")
        play_ns = self._clock.monotonic_ns()
        keep_alive_s = min(self._timeout_s, message.SESSION_TIMEOUT_S) / 2
        next_alive = next_report = 0.0
        marked_at, marked_bytes = 0.0, 0
        beat = asyncio.ensure_future(self._beat())
        for end in (beat, link.lost):
            end.add_done_callback(lambda _: self._wake.set())
        try:
            while True:
                await self._tick(link, beat)
                passed_s = (self._clock.monotonic_ns() - play_ns) / 1e9
                self._wake_if_hidden(link)
                self._judge(passed_s)
                if passed_s >= next_report:
                    next_report = passed_s + RECEIVER_REPORT_S
                    self._report()
                if passed_s >= next_alive:
                    if next_alive:
                        self._send(self._keep_alive, self._base)
                    next_alive = passed_s + keep_alive_s
                if passed_s - marked_at >= 2.0:
                    self._bytes_a_second = (link.bytes_read - marked_bytes) / (passed_s - marked_at)
                    marked_at, marked_bytes = passed_s, link.bytes_read
                    self._low_water(self._mark())
                self._judge_clocks()
        finally:
            beat.cancel()

    async def _beat(self) -> None:
        """Wake the watch once a second: one task for a session's life, not new ones for each second."""
        while True:
            await self._clock.sleep(self._settings.tick_s)
            self._wake.set()

    async def _tick(self, link: _Link, beat: "asyncio.Future[None]") -> None:
        await self._wake.wait()
        self._wake.clear()
        if link.lost.done():
            self._lost(link)
        if beat.done():
            beat.result()
        if self._stop.is_set():
            self._enter(SessionPhase.DRAINING)
            raise _Ended(None, EndDetail.REQUESTED)

    def _judge(self, passed_s: float) -> None:
        """The stall deadline hangs on the last access unit and on nothing else (cameras.md 6.1)."""
        parser, settings = self._parser, self._settings
        if parser.started and self._phase is SessionPhase.AWAIT_MEDIA:
            self._enter(SessionPhase.RECORDING)
        if parser.last_unit_us is None:
            if passed_s >= settings.first_packet_s:
                self._enter(SessionPhase.STALLED)
                raise _Ended("device_offline", EndDetail.SILENT)
            return
        silent_s = (self._host.utc_us(self._clock.monotonic_ns()) - parser.last_unit_us) / 1e6
        interval_s = parser.fragmenter.timeline.interval / 90_000 if parser.fragmenter else 0.0
        if silent_s >= max(settings.stall_s, settings.stall_intervals * interval_s):
            self._enter(SessionPhase.STALLED)
            raise _Ended("device_offline", EndDetail.STALL)
        if not parser.started and passed_s >= max(settings.key_picture_s, 2 * parser.longest_gop_us / 1e6):
            self._enter(SessionPhase.STALLED)
            raise _Ended("device_offline", EndDetail.NO_KEYFRAME)

    def _wake_if_hidden(self, link: _Link) -> None:
        """The low-water mark hides bytes from a slow camera: let them through (hotpath.md, shape 2)."""
        if self._socket is None or link.reads != self._reads_seen:
            self._reads_seen = link.reads
            return
        waiting = struct.unpack("i", fcntl.ioctl(self._socket.fileno(), termios.FIONREAD, b"\0\0\0\0"))[0]
        if waiting:
            self._low_water(1)

    def _mark(self) -> int:
        rate = self._bytes_a_second
        if rate <= 0:
            return 1
        return int(min(LOW_WATER_MAX, max(LOW_WATER_MIN, LOW_WATER_S * rate)))

    def _low_water(self, mark: int) -> None:
        if self._socket is None or mark == self._marked:
            return
        self._marked = mark
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, mark)

    _bytes_a_second = 0.0
    _reads_seen = -1
    _marked = 1

    def _report(self) -> None:
        parser = self._parser
        if parser.ssrc is None:
            return
        last, delay = 0, 0
        if parser.report is not None:
            last = parser.report.ntp_middle
            delay = (self._host.utc_us(self._clock.monotonic_ns()) - parser.report_us) * 65_536 // 1_000_000
        body = rtp.receiver_report(
            ours=0x5AFEA11E,
            source=parser.ssrc,
            highest_seq=parser.highest_seq,
            lost=parser.packets_lost,
            last_sr=last,
            delay_65536=delay,
        )
        self._write(struct.pack(">BBH", 0x24, self._rtcp_channel, len(body)) + body)

    def _judge_clocks(self) -> None:
        fragmenter = self._parser.fragmenter
        if fragmenter is None:
            return
        if fragmenter.rate_wrong:
            self._find("rate_wrong", {"parted_us": fragmenter.parted_us})
        if fragmenter.timeline.outliers:
            self._find("outlier_timestamp", {"units": fragmenter.timeline.outliers})
        step_us = self._host.step_us(self._clock.now_us(), self._clock.monotonic_ns())
        if not step_us:
            return
        self._sink.finding(Finding(kind="clock_step", facts={"step_us": step_us}))
        if abs(step_us) >= STEP_NEW_RUN_US:
            evidence: dict[str, int | str] = {"step_us": step_us, "wall_us": self._clock.now_us()}
            fragmenter.new_run_at_key(Missing(cause="clock_step", detail=EndDetail.FORWARD, evidence=evidence))
        self._host.move(step_us)
        self._parser.clock_moved(step_us)

    # ---- the end ----

    def _lost(self, link: _Link) -> NoReturn:
        error = link.lost.result()
        fault = self._parser.fault
        if fault is not None:
            raise _Ended(fault.cause, fault.detail)
        if isinstance(error, CameraError):
            raise _Ended("stream_error", EndDetail.BAD_BITSTREAM) from error
        if error is not None and not isinstance(error, OSError):
            raise error  # our own mistake inside the parser: never reported as the camera's fault
        self._error_number = error.errno if error is not None else None
        if not self._parser.playing:
            raise _Ended("device_offline", EndDetail.REFUSED) from error
        raise _Ended("network_loss", EndDetail.RESET) from error

    def _failed(self, error: SessionFailed | SdpError | MessageError) -> _Ended:
        log.info("rtsp.session_failed", camera_id=self._target.camera_id, reason=str(error))
        if isinstance(error, SessionFailed):
            return _Ended("device_offline", EndDetail.REFUSED)
        return _Ended("stream_error", EndDetail.BAD_BITSTREAM)

    def _finish(self, ended: _Ended) -> None:
        self._parser.finish(ended.cause or "operator_stop", ended.detail)

    async def _teardown(self) -> None:
        """Always try one TEARDOWN: old servers keep a slot, or keep sending (cameras.md 3.6.2)."""
        link = self._link
        if link is None or link.transport is None or self._session_id is None or link.lost.done():
            return
        self._low_water(1)
        self._parser.playing = False
        self._send("TEARDOWN", self._base)
        patience = asyncio.ensure_future(self._clock.sleep(self._settings.teardown_s))
        answer: asyncio.Future[message.Response] = asyncio.get_running_loop().create_future()
        self._answer, self._answer_cseq = answer, self._cseq
        try:
            await _first(answer, patience, link.lost)
        finally:
            self._answer = None
            patience.cancel()

    def _close(self) -> None:
        if self._link is not None and self._link.transport is not None:
            self._link.transport.abort()
        self._socket = None
        self._enter(SessionPhase.ENDED)

    def _end(self, ended: _Ended) -> SessionEnd:
        parser = self._parser
        evidence: dict[str, int | str] = {
            "units": parser.units,
            "units_lost": parser.units_lost,
            "units_skipped": parser.units_skipped,
            "longest_gop_us": parser.longest_gop_us,
            "packets_lost": parser.packets_lost,
            "foreign_packets": parser.foreign,
            "stray_bytes": parser.stray_bytes,
            "rejected": parser.rejected.total(),
        }
        retry = ended.retry
        tool = self._description.tool if self._description else ""
        if retry is RetryHint.NORMAL and parser.foreign and tool.startswith(_BUGGY_LIVE555):
            retry = RetryHint.STALE
        return SessionEnd(
            cause=ended.cause,
            detail=ended.detail,
            retry=retry,
            rtsp_status=self._status,
            error_number=self._error_number,
            first_seq=parser.first_seq,
            last_seq=parser.highest_seq if parser.first_seq is not None else None,
            last_unit_us=parser.last_unit_us,
            last_end_us=parser.fragmenter.last_end_us if parser.fragmenter else None,
            evidence=evidence,
        )

    def _enter(self, phase: SessionPhase) -> None:
        if phase is not self._phase or phase is SessionPhase.CONNECTING:
            self._phase = phase
            self._sink.phase(phase, "")

    def _find(self, kind: str, facts: dict[str, int | str]) -> None:
        if kind not in self._findings:
            self._findings.add(kind)
            self._sink.finding(Finding(kind=kind, facts=facts))  # type: ignore[arg-type]

    async def _within(self, work: Awaitable[T], seconds: float) -> T:
        """Wait for `work` on the injected clock, and not longer than the session is wanted.

        Raises:
            TimeoutError: it is not done in time; it is cancelled.
        """
        try:
            return await unless_stopped(self._stop, within(seconds, work, clock=self._clock))
        except StoppedEarly:
            raise _Ended(None, EndDetail.REQUESTED) from None
