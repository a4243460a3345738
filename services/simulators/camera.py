"""Many RTSP cameras in one process, from one clip, with faults on request.

`python -m services.simulators.camera --count 3 --clip FILE`. Each camera answers at `/<id>` (`cam-1`,
`cam-2`, ...), sends packet by packet at its own phase, and drops whole units when its peer reads too
slowly, as cameras do. Faults come as JSON lines on standard input:
`{"camera": "cam-1", "fault": "stall"}` (see `FAULTS`). Credentials come from a file, never from argv.
"""

import argparse
import asyncio
import base64
import hashlib
import json
import secrets
import socket
import struct
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal, cast

from services.runtime.clock import SystemClock
from services.simulators import clip_source
from services.simulators.clip_source import TICKS_PER_S, Clip

AuthScheme = Literal["digest-md5", "digest-sha256", "basic"]
FAULTS: Final = (
    "drop",  # reset the connection
    "stall",  # stay connected, send nothing
    "resume",
    "off",  # reset, and refuse new connections
    "on",
    "refuse_auth",  # answer 401 to everything
    "accept_auth",
    "ssrc",  # another SSRC from the next unit
    "timestamp",  # `ticks`: shift the RTP time
    "lose",  # `packets`: swallow that many
)
PAYLOAD_TYPE: Final = 96
BACKLOG_BYTES_MAX: Final = 1024 * 1024
SESSION_TIMEOUT_S: Final = 60
REPORT_EVERY_S: Final = 5.0
_HEAD: Final = struct.Struct(">BBHBBHII")
_REPORT: Final = struct.Struct(">BBHBBHIIIIII")
_NTP_EPOCH_S: Final = 2_208_988_800


@dataclass(slots=True, kw_only=True)
class Credentials:
    """What a camera asks for; never printed."""

    username: str
    password: str = field(repr=False)
    scheme: AuthScheme = "digest-sha256"


class Camera:
    """One camera: at most `clients_max` players, one loop over the clip, faults."""

    def __init__(self, name: str, clip: Clip, *, phase_s: float = 0.0, clients_max: int = 3) -> None:
        self.name = name
        self.clip = clip
        self.clients_max = clients_max
        self.players: set[_Connection] = set()
        self.stalled = False
        self.off = False
        self.refusing = False
        self.units_sent = 0
        self.units_dropped = 0
        self.connections: set[_Connection] = set()
        self._phase_s = phase_s
        self._ssrc = secrets.randbits(32)
        self._seq = secrets.randbits(16)
        self._base = secrets.randbits(32)
        self._shift = 0
        self._lose = 0
        self._index = 0
        self._loops = 0
        self._started_s = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._order = _send_times(clip)

    def fault(self, name: str, *, ticks: int = 0, packets: int = 1) -> None:
        """Make one of FAULTS happen."""
        if name in ("drop", "off"):
            self.off = self.off or name == "off"
            for connection in list(self.connections):
                connection.reset()
        elif name in ("stall", "resume"):
            self.stalled = name == "stall"
        elif name == "on":
            self.off = False
        elif name in ("refuse_auth", "accept_auth"):
            self.refusing = name == "refuse_auth"
        elif name == "ssrc":
            self._ssrc = secrets.randbits(32)
        elif name == "timestamp":
            self._shift += ticks
        elif name == "lose":
            self._lose += packets
        else:
            raise ValueError(f"no such fault: {name}")

    def play(self, player: "_Connection") -> None:
        """Begin to send to a player; the first one starts the clip from its first unit."""
        self.players.add(player)
        if self._timer is None:
            loop = asyncio.get_running_loop()
            self._started_s = loop.time() + self._phase_s
            self._index = 0
            self._loops = 0
            self._base = (self._base + secrets.randbits(20)) & 0xFFFFFFFF
            self._timer = loop.call_at(self._started_s, self._send_unit)

    def leave(self, player: "_Connection") -> None:
        self.players.discard(player)
        if not self.players and self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def next_packet(self) -> tuple[int, int]:
        """Return the sequence number and RTP time of the next packet, for RTP-Info."""
        return self._seq, self._stamp(0)

    def sender_report(self, wall_us: int) -> bytes:
        seconds, micro = divmod(wall_us, 1_000_000)
        stamp = self._stamp(max(0, self._index - 1))
        return _REPORT.pack(
            0x24, 1, 28, 0x80, 200, 6, self._ssrc, seconds + _NTP_EPOCH_S, (micro << 32) // 1_000_000, stamp, 0, 0
        )

    def _stamp(self, index: int) -> int:
        offset = self.clip.units[index].time_90k + self._loops * self.clip.duration_90k
        return (self._base + offset + self._shift) & 0xFFFFFFFF

    def _send_unit(self) -> None:
        index, stamp = self._index, self._stamp(self._index)
        payloads = self.clip.packets[index]
        ready = [] if self.stalled else [p for p in self.players if not p.clogged(self.clip.units[index].key)]
        self.units_dropped += len(self.players) - len(ready)
        self.units_sent += 1
        seq, last = self._seq, len(payloads) - 1
        pack, ssrc = _HEAD.pack, self._ssrc
        for number, payload in enumerate(payloads):
            kind = PAYLOAD_TYPE | (128 if number == last else 0)
            packet = pack(0x24, 0, 12 + len(payload), 0x80, kind, seq, stamp, ssrc) + payload
            seq = (seq + 1) & 0xFFFF
            if self._lose:
                self._lose -= 1
                continue
            for player in ready:
                player.write(packet)
        self._seq = seq
        self._index += 1
        if self._index == len(self.clip.units):
            self._index = 0
            self._loops += 1
        due_s = self._started_s + self._loops * self.clip.duration_90k / TICKS_PER_S + self._order[self._index]
        self._timer = asyncio.get_running_loop().call_at(due_s, self._send_unit)


class CameraServer:
    """The listening side: cameras by path."""

    def __init__(self, cameras: Iterable[Camera], *, credentials: Credentials | None = None) -> None:
        self.cameras = {camera.name: camera for camera in cameras}
        self.credentials = credentials
        self.tcp_requests = 0
        self._server: asyncio.Server | None = None

    async def start(self, host: str = "127.0.0.1", port: int = 0) -> int:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: _Connection(self), host, port)
        return int(self._server.sockets[0].getsockname()[1])

    async def stop(self) -> None:
        for camera in self.cameras.values():
            for connection in list(camera.connections):
                connection.reset()
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()


class _Connection(asyncio.Protocol):
    """One client. Requests are small and few, so they are read simply."""

    def __init__(self, server: CameraServer) -> None:
        self._server = server
        self._transport: asyncio.Transport | None = None
        self._text = b""
        self._camera: Camera | None = None
        self._nonce = secrets.token_hex(12)
        self._session = secrets.token_hex(4)
        self._waits_for_key = False
        self._reports: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        raw = transport.get_extra_info("socket")
        if raw is not None:
            raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        if self._reports is not None:
            self._reports.cancel()
        if self._camera is not None:
            self._camera.leave(self)
            self._camera.connections.discard(self)

    def data_received(self, data: bytes) -> None:
        self._text += data
        while self._text:
            if self._text[0] == 0x24:
                if len(self._text) < 4 or len(self._text) < 4 + int.from_bytes(self._text[2:4], "big"):
                    return
                self._text = self._text[4 + int.from_bytes(self._text[2:4], "big") :]
                continue
            head, blank, rest = self._text.partition(b"\r\n\r\n")
            if not blank:
                return
            self._text = rest
            self._answer(head.decode("utf-8", "replace"))

    def write(self, packet: bytes) -> None:
        if self._transport is not None:
            self._transport.write(packet)

    def clogged(self, key: bool) -> bool:
        """Tell whether the peer reads too slowly; after a drop wait for a key unit, as cameras do."""
        if self._transport is None or self._transport.get_write_buffer_size() > BACKLOG_BYTES_MAX:
            self._waits_for_key = True
        elif key:
            self._waits_for_key = False
        return self._waits_for_key

    def reset(self) -> None:
        if self._transport is not None:
            raw = self._transport.get_extra_info("socket")
            if raw is not None:
                raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self._transport.abort()

    def _answer(self, head: str) -> None:
        lines = head.split("\r\n")
        words = lines[0].split()
        headers = {n.strip().lower(): v.strip() for n, _, v in (line.partition(":") for line in lines[1:])}
        cseq = headers.get("cseq", "0")
        if len(words) != 3:
            self._reply(400, cseq)
            return
        method, url = words[0], words[1]
        path = url.split("://", 1)[-1].partition("/")[2]
        camera = self._server.cameras.get(path.split("/")[0])
        self._server.tcp_requests += 1
        if method == "OPTIONS":
            self._reply(200, cseq, ("Public: OPTIONS, DESCRIBE, SETUP, PLAY, GET_PARAMETER, TEARDOWN",))
        elif camera is None:
            self._reply(404, cseq)
        elif camera.off:
            self.reset()
        elif not self._authorized(camera, method, url, headers.get("authorization", "")):
            self._reply(401, cseq, tuple(self._offers()))
        else:
            self._camera = camera
            camera.connections.add(self)
            self._obey(camera, method, url, cseq, headers)

    def _obey(self, camera: Camera, method: str, url: str, cseq: str, headers: dict[str, str]) -> None:
        session = f"Session: {self._session};timeout={SESSION_TIMEOUT_S}"
        if method == "DESCRIBE":
            body = _description(camera.clip)
            base = (f"Content-Base: {url}/", "Content-Type: application/sdp", f"Content-Length: {len(body)}")
            self._reply(200, cseq, base, body)
        elif method == "SETUP":
            if "interleaved" not in headers.get("transport", ""):
                self._reply(461, cseq)
            elif len(camera.players) >= camera.clients_max:
                self._reply(453, cseq)
            else:
                self._reply(200, cseq, ("Transport: RTP/AVP/TCP;unicast;interleaved=0-1", session))
        elif method == "PLAY":
            seq, stamp = camera.next_packet()
            info = f"RTP-Info: url={url}/trackID=1;seq={seq};rtptime={stamp}"
            self._reply(200, cseq, (session, "Range: npt=0.000-", info))
            self._waits_for_key = bool(camera.players)
            camera.play(self)
            self._report()
        elif method == "TEARDOWN":
            camera.leave(self)
            self._reply(200, cseq, (session,))
        elif method in ("GET_PARAMETER", "SET_PARAMETER"):
            self._reply(200, cseq, (session,))
        else:
            self._reply(501, cseq)

    def _report(self) -> None:
        if self._camera is None or self not in self._camera.players:
            return
        if not self._camera.stalled:
            self.write(self._camera.sender_report(_wall_us()))
        self._reports = asyncio.get_running_loop().call_later(REPORT_EVERY_S, self._report)

    def _reply(self, status: int, cseq: str, headers: tuple[str, ...] = (), body: bytes = b"") -> None:
        lines = [f"RTSP/1.0 {status} {_REASONS.get(status, '')}", f"CSeq: {cseq}", *headers]
        self.write(("\r\n".join(lines) + "\r\n\r\n").encode() + body)

    def _offers(self) -> Iterable[str]:
        scheme = self._server.credentials.scheme if self._server.credentials else "digest-md5"
        if scheme == "basic":
            yield 'WWW-Authenticate: Basic realm="camera"'
        elif scheme == "digest-md5":
            yield f'WWW-Authenticate: Digest realm="camera", nonce="{self._nonce}"'
        else:
            qop = f'nonce="{self._nonce}", qop="auth"'
            yield f'WWW-Authenticate: Digest realm="camera", {qop}, algorithm=MD5'
            yield f'WWW-Authenticate: Digest realm="camera", {qop}, algorithm=SHA-256'

    def _authorized(self, camera: Camera, method: str, url: str, given: str) -> bool:
        wanted = self._server.credentials
        if camera.refusing:
            return False
        if wanted is None:
            return True
        scheme, _, rest = given.partition(" ")
        if scheme == "Basic":
            expected = base64.b64encode(f"{wanted.username}:{wanted.password}".encode()).decode()
            return wanted.scheme == "basic" and secrets.compare_digest(rest.strip(), expected)
        fields = {n.strip(): v.strip().strip('"') for n, _, v in (part.partition("=") for part in rest.split(","))}
        if scheme != "Digest" or wanted.scheme == "basic" or fields.get("nonce") != self._nonce:
            return False
        sha = fields.get("algorithm", "MD5") == "SHA-256"
        if wanted.scheme == "digest-sha256" and not sha:
            return False
        secret = _hash(f"{wanted.username}:camera:{wanted.password}", sha)
        parts = [secret, self._nonce, _hash(f"{method}:{url}", sha)]
        if fields.get("qop"):
            parts[2:2] = [fields.get("nc", ""), fields.get("cnonce", ""), fields["qop"]]
        return secrets.compare_digest(_hash(":".join(parts), sha), fields.get("response", ""))


_REASONS: Final = {
    200: "OK",
    400: "Bad Request",
    401: "Unauthorized",
    404: "Not Found",
    453: "Not Enough Bandwidth",
    461: "Unsupported Transport",
    501: "Not Implemented",
}


def _hash(text: str, sha: bool) -> str:
    raw = text.encode()
    return hashlib.sha256(raw).hexdigest() if sha else hashlib.md5(raw, usedforsecurity=False).hexdigest()


def _wall_us() -> int:
    return SystemClock().now_us()


def _send_times(clip: Clip) -> list[float]:
    """Return when each unit is sent: presentation times in decode order, never going back."""
    return [time / TICKS_PER_S for time in sorted(unit.time_90k for unit in clip.units)]


def _description(clip: Clip) -> bytes:
    kind = {"h264": "H264", "h265": "H265"}[clip.codec]
    encoded = [base64.b64encode(nal).decode() for nal in clip.parameter_sets]
    if clip.codec == "h264":
        fmtp = "packetization-mode=1;sprop-parameter-sets=" + ",".join(encoded)
    else:
        names = {32: "sprop-vps", 33: "sprop-sps", 34: "sprop-pps"}
        fmtp = ";".join(f"{names[nal[0] >> 1]}={text}" for nal, text in zip(clip.parameter_sets, encoded, strict=True))
    lines = (
        "v=0",
        "o=- 1 1 IN IP4 127.0.0.1",
        "s=simulated camera",
        "t=0 0",
        "a=control:*",
        f"m=video 0 RTP/AVP {PAYLOAD_TYPE}",
        f"a=rtpmap:{PAYLOAD_TYPE} {kind}/90000",
        f"a=fmtp:{PAYLOAD_TYPE} {fmtp}",
        "a=control:trackID=1",
    )
    return ("\r\n".join(lines) + "\r\n").encode()


async def serve(arguments: argparse.Namespace) -> None:
    """Run until standard input closes or the process is ended."""
    clip = _clip(arguments)
    if arguments.hashes:
        clip.write_hashes(arguments.hashes)
    credentials = None
    if arguments.credentials:
        known = json.loads(arguments.credentials.read_text())
        credentials = Credentials(username=known["username"], password=known["password"], scheme=arguments.auth)
    interval_s = clip.duration_90k / TICKS_PER_S / len(clip.units)
    cameras = [
        Camera(f"cam-{n + 1}", clip, phase_s=interval_s * n / arguments.count, clients_max=arguments.clients)
        for n in range(arguments.count)
    ]
    server = CameraServer(cameras, credentials=credentials)
    port = await server.start(arguments.host, arguments.port)
    ready = {"port": port, "cameras": list(server.cameras), "codec": clip.codec, "units": len(clip.units)}
    sys.stdout.write(json.dumps(ready) + "\n")
    sys.stdout.flush()
    try:
        await _obey_stdin(server)
    finally:
        await server.stop()


async def _obey_stdin(server: CameraServer) -> None:
    reader = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    try:
        await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    except (ValueError, PermissionError):
        await asyncio.Event().wait()  # standard input is a file or nothing: no faults, run until ended
    async for line in reader:
        try:
            wish = json.loads(line)
            server.cameras[wish["camera"]].fault(
                wish["fault"], ticks=int(wish.get("ticks", 0)), packets=int(wish.get("packets", 1))
            )
        except (ValueError, KeyError, TypeError) as error:
            sys.stderr.write(f"camera simulator: not a fault: {error!r}\n")
    await asyncio.Event().wait()


def _clip(arguments: argparse.Namespace) -> Clip:
    if arguments.clip:
        return clip_source.from_file(arguments.clip)
    width, _, height = arguments.size.partition("x")
    return clip_source.pattern(
        arguments.codec,
        width=int(width),
        height=int(height),
        frame_rate=arguments.fps,
        gop=arguments.gop,
        bitrate_bps=round(arguments.mbps * 1_000_000),
        seconds=arguments.seconds,
        b_frames=arguments.b_frames,
    )


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m services.simulators.camera", description=__doc__)
    parser.add_argument("--count", type=int, default=1)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=9554, help="0: chosen by the kernel, said on standard output")
    parser.add_argument("--clip", type=Path, help="an MP4 file to loop instead of the pattern")
    parser.add_argument("--codec", choices=("h264", "h265"), default="h264")
    parser.add_argument("--size", default="640x360")
    parser.add_argument("--fps", type=int, default=25)
    parser.add_argument("--gop", type=int, default=25)
    parser.add_argument("--mbps", type=float, default=2.0)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--b-frames", type=int, default=0)
    parser.add_argument("--clients", type=int, default=3, help="players a camera takes at once")
    parser.add_argument("--credentials", type=Path, help='JSON file {"username": ..., "password": ...}')
    parser.add_argument("--auth", choices=("digest-md5", "digest-sha256", "basic"), default="digest-sha256")
    parser.add_argument("--hashes", type=Path, help="write the SHA-256 of every unit here")
    return parser.parse_args()


def main() -> None:
    """Entry point."""
    try:
        asyncio.run(serve(_arguments()))
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
