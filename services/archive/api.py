"""Archive's HTTP door: timeline, playlist, media, clip. Every look has a reason and a record in `audit`.

For now supervisor and auditor may look; grants, cases and approvals come later. Blocking work runs on the
reading threads.
"""

import asyncio
import ipaddress
import re
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import Executor
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final, TypeVar
from urllib.parse import urlencode

import structlog
from aiohttp import web
from aiohttp.abc import AbstractStreamWriter

from services.archive import footage, playlist, timeline
from services.archive.audit import Audit
from services.archive.cameras import Cameras
from services.archive.clip import Clip, Cutting, cut
from services.archive.clip_files import ClipFiles, ClipTooLarge
from services.archive.history import History, Source
from services.archive.metrics import ArchiveMetrics
from services.archive.open_tail import OpenSegment
from services.archive.scratch import ScratchLost
from services.archive.store.port import WrongDigest
from services.archive.timeline import Tile
from services.contracts.audit import Access, AccessAction, AccessResult
from services.contracts.envelope import from_rfc3339
from services.contracts.units import StreamName, UtcMicroseconds
from services.runtime.clock import Clock
from services.runtime.http_server import (
    Refusal,
    RequestIdKey,
    TraceparentKey,
    caller_of,
    json_response,
    public,
    refuse,
)
from services.runtime.identity import Role

MAY_LOOK: Final[frozenset[Role]] = frozenset({"supervisor", "auditor"})
TIMELINE_US_MAX: Final = 7 * 24 * 3600 * 1_000_000
PLAYLIST_US_MAX: Final = 24 * 3600 * 1_000_000
PURPOSE_CHARS_MAX: Final = 200
CHUNK_BYTES: Final = 1024 * 1024
CLIP_WAIT_S: Final = 20.0
_CAMERA_ID: Final = r"{camera_id:[a-z0-9][a-z0-9_-]{0,63}}"
_NAME: Final = r"{stream:main|sub}-{epoch:\d{1,16}}-{seq0:\d{1,10}}.mp4"

R = TypeVar("R")
log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """A checked request: who wants to see which time of which camera, and why."""

    camera_id: str
    stream: StreamName
    from_us: UtcMicroseconds
    to_us: UtcMicroseconds
    purpose: str

    def query(self, from_us: UtcMicroseconds | None = None, to_us: UtcMicroseconds | None = None) -> str:
        span = {} if from_us is None else {"from": from_us, "to": to_us}
        return urlencode({**span, "stream": self.stream, "purpose": self.purpose})


class ArchiveApi:
    """The handlers and what they stand on."""

    def __init__(
        self,
        *,
        history: History,
        cameras: Cameras,
        audit: Audit,
        pool: Executor,
        clip_files: ClipFiles,
        clips_at_once: int,
        clock: Clock,
        metrics: ArchiveMetrics,
    ) -> None:
        self._history = history
        self._cameras = cameras
        self._audit = audit
        self._pool = pool
        self._clip_files = clip_files
        self._clips = asyncio.Semaphore(clips_at_once)
        self._clock = clock
        self._metrics = metrics

    def add_to(self, app: web.Application) -> None:
        """Add the routes."""
        camera = f"/api/v1/archive/cameras/{_CAMERA_ID}"
        app.add_routes(
            [
                web.get(f"{camera}/timeline", self.timeline),
                web.get(f"{camera}/playlist.m3u8", self.playlist),
                web.get(f"{camera}/clip.mp4", self.clip),
                web.get(f"{camera}/media/{_NAME}", self.media),
                web.get(f"{camera}/init/{{digest:[0-9a-f]{{64}}}}.mp4", self.init),
                web.get("/api/v1/archive", self.index),
            ]
        )

    @public
    async def index(self, _request: web.Request) -> web.Response:
        """Say that this is archive; tells nothing of any camera."""
        return json_response({"service": "archive"})

    async def timeline(self, request: web.Request) -> web.StreamResponse:
        look = await self._look(request, "timeline", longest_us=TIMELINE_US_MAX)
        tiles = await self._tiles(look)
        unknown_us = sum(one.to_us - one.from_us for one in tiles if one.state == "unknown")
        self._metrics.unknown_seconds.inc(unknown_us / 1e6)
        await self._note(request, "timeline", look)
        return json_response(timeline.answer(look.camera_id, look.stream, look.from_us, look.to_us, tiles))

    async def playlist(self, request: web.Request) -> web.StreamResponse:
        look = await self._look(request, "playlist", longest_us=PLAYLIST_US_MAX)
        text = await self._read(partial(self._render, look))
        await self._note(request, "playlist", look)
        return web.Response(body=text.encode(), content_type="application/vnd.apple.mpegurl")

    async def media(self, request: web.Request) -> web.StreamResponse:
        """Serve byte ranges of one segment, open or stored."""
        look = await self._look(request, "range_read", longest_us=None)
        epoch, seq0 = int(request.match_info["epoch"]), int(request.match_info["seq0"])
        source = await self._read(partial(self._history.find, look.camera_id, look.stream, epoch, seq0))
        if source is None:
            raise refuse(404, "there is no such segment")
        start, end = _range(request, source.size_bytes)
        span_us = (source.start_us, source.end_us)
        await self._note(request, "range_read", look, span_us=span_us, size_bytes=end - start)
        return await self._send(request, source, start, end)

    async def init(self, request: web.Request) -> web.StreamResponse:
        """Serve an init by its digest; it holds no picture."""
        await self._admit(request, "range_read")
        find = partial(self._history.find_init, request.match_info["camera_id"], request.match_info["digest"])
        found = await self._read(find)
        if found is None:
            raise refuse(404, "there is no such init")
        headers = {"Cache-Control": "private, max-age=31536000, immutable"}
        return web.Response(body=found, content_type="video/mp4", headers=headers)

    async def clip(self, request: web.Request) -> web.StreamResponse:
        """Answer with one file of exactly the range, or with 409 and the parts that can be had."""
        look = await self._look(request, "clip", longest_us=TIMELINE_US_MAX)
        tiles = await self._tiles(look)
        found = footage.parts(tiles)
        if len(found) != 1 or (found[0].from_us, found[0].to_us) != (look.from_us, look.to_us):
            await self._note(request, "clip", look, result="failed")
            return json_response(footage.instead(tiles, partial(_clip_href, look)), status=409)
        with ExitStack() as until_sent:
            async with self._turn():
                read = partial(footage.cutting, self._history, look.camera_id, look.stream, found[0])
                cutting = await self._read(read)
                target = until_sent.enter_context(self._clip_file(cutting))
                made = await self._make_clip(cutting, target)
            # Sent outside the turn: a caller who reads slowly keeps room for clips, but no other from being made.
            await self._note(request, "clip", look, size_bytes=made.size_bytes)
            response = _clip_response(target, look, made, is_open=found[0].is_open)
            await response.prepare(request)
            return response

    @contextmanager
    def _clip_file(self, cutting: Cutting) -> Iterator[Path]:
        try:
            with self._clip_files.file(cutting.size_bytes) as target:
                yield target
        except ClipTooLarge as error:
            raise refuse(422, str(error), error="too_large") from None

    async def _make_clip(self, cutting: Cutting, target: Path) -> Clip:
        started_ns = self._clock.monotonic_ns()
        made = await self._read(partial(cut, cutting, target))
        self._metrics.clip_seconds.observe((self._clock.monotonic_ns() - started_ns) / 1e9)
        self._metrics.clip_bytes.inc(made.size_bytes)
        return made

    @asynccontextmanager
    async def _turn(self) -> AsyncIterator[None]:
        async with asyncio.timeout(CLIP_WAIT_S):
            await self._clips.acquire()
        try:
            yield
        finally:
            self._clips.release()

    def _render(self, look: Look) -> str:
        tiles = self._history.tiles(look.camera_id, look.stream, look.from_us, look.to_us)
        return playlist.render(
            footage.entries(
                self._history,
                tiles,
                uri=lambda source: f"media/{footage.media_name(source, look.stream)}?{look.query()}",
                init_uri=lambda digest: f"init/{digest}.mp4",
            )
        )

    async def _tiles(self, look: Look) -> tuple[Tile[Source], ...]:
        return await self._read(partial(self._history.tiles, look.camera_id, look.stream, look.from_us, look.to_us))

    async def _read(self, call: Callable[[], R]) -> R:
        """Run a blocking read; once more when a segment went from scratch to the store under it."""
        loop = asyncio.get_running_loop()
        for _ in range(20):
            try:
                return await loop.run_in_executor(self._pool, call)
            except ScratchLost:
                # Between the rename and the row there are some milliseconds.
                await self._clock.sleep(0.05)
        return await loop.run_in_executor(self._pool, call)

    async def _send(self, request: web.Request, source: Source, start: int, end: int) -> web.StreamResponse:
        whole = (start, end) == (0, source.size_bytes)
        response = web.StreamResponse(status=200 if whole else 206)
        response.content_type = "video/mp4"
        response.content_length = end - start
        response.headers["Accept-Ranges"] = "bytes"
        if not isinstance(source, OpenSegment):
            response.headers["ETag"] = f'"{source.sha256}"'
        if not whole:
            response.headers["Content-Range"] = f"bytes {start}-{end - 1}/{source.size_bytes}"
        chunk = await self._read(partial(self._history.read, source, start, min(CHUNK_BYTES, end - start)))
        await response.prepare(request)
        at = start
        while request.method != "HEAD":
            if not chunk:
                raise WrongDigest(f"an object of {source.size_bytes} bytes ends at {at}")
            await response.write(chunk)
            at += len(chunk)
            if at >= end:
                break
            chunk = await self._read(partial(self._history.read, source, at, min(CHUNK_BYTES, end - at)))
        await response.write_eof()
        return response

    # --- who may look, and the record of it ----------------------------------------------------

    async def _admit(self, request: web.Request, action: AccessAction) -> None:
        """Let a look go on, or note and refuse it. Another jurisdiction's camera does not exist."""
        caller, camera_id = caller_of(request), request.match_info["camera_id"]
        refusal: Refusal | None = None
        if caller.role not in MAY_LOOK:
            refusal = refuse(403, f"the role {caller.role} may not see recorded pictures")
        else:
            whose = self._cameras.jurisdiction(camera_id)
            if whose is None or not caller.may_see(whose):
                refusal = refuse(404, "there is no such camera")
        if refusal is not None:
            await self._write(request, action, camera_id, purpose=request.query.get("purpose", ""), result="denied")
            raise refusal
        if self._audit.full:
            raise refuse(503, "looks cannot be noted now, so none is allowed: Kafka is away")

    async def _look(self, request: web.Request, action: AccessAction, *, longest_us: int | None) -> Look:
        await self._admit(request, action)
        purpose = request.query.get("purpose", "").strip()
        if not purpose or len(purpose) > PURPOSE_CHARS_MAX:
            raise refuse(422, f"purpose is missing: say why, in at most {PURPOSE_CHARS_MAX} characters")
        stream: StreamName = "sub" if _stream(request) == "sub" else "main"
        from_us, to_us = (0, 0) if longest_us is None else _span(request, longest_us)
        return Look(
            camera_id=request.match_info["camera_id"], stream=stream, from_us=from_us, to_us=to_us, purpose=purpose
        )

    async def _note(
        self,
        request: web.Request,
        action: AccessAction,
        look: Look,
        *,
        span_us: tuple[UtcMicroseconds, UtcMicroseconds] | None = None,
        size_bytes: int = 0,
        result: AccessResult = "allowed",
    ) -> None:
        span = span_us or (look.from_us, look.to_us)
        await self._write(
            request, action, look.camera_id, purpose=look.purpose, result=result, span=span, size_bytes=size_bytes
        )

    async def _write(
        self,
        request: web.Request,
        action: AccessAction,
        camera_id: str,
        *,
        purpose: str,
        result: AccessResult,
        span: tuple[UtcMicroseconds | None, UtcMicroseconds | None] = (None, None),
        size_bytes: int = 0,
    ) -> None:
        caller = caller_of(request)
        self._metrics.views.labels(action=action, result=result).inc()
        await self._audit.write(
            Access(
                account=caller.account,
                role=caller.role,
                at_us=self._clock.now_us(),
                origin=_origin(request),
                action=action,
                camera_id=camera_id,
                from_us=span[0],
                to_us=span[1],
                request_id=request.get(RequestIdKey, ""),
                reason=purpose[:PURPOSE_CHARS_MAX],
                result=result,
                bytes=size_bytes,
                trace_id=request.get(TraceparentKey, "-" * 3).split("-")[1] or None,
            )
        )


class _SentInside(web.FileResponse):
    """A file that its handler has sent already when aiohttp asks for it: it is gone by then."""

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        return None if self.prepared else await super().prepare(request)


def _clip_response(target: Path, look: Look, made: Clip, *, is_open: bool) -> web.FileResponse:
    name = f"{look.camera_id}-{look.from_us}-{look.to_us}.mp4"
    return _SentInside(
        target,
        headers={
            "Content-Type": "video/mp4",
            "Content-Disposition": f'attachment; filename="{name}"',
            "Safealley-State": "open" if is_open else "recorded",
            "Safealley-Requested": f"{look.from_us}-{look.to_us}",
            "Safealley-Contained": f"{made.from_us}-{made.to_us}",
        },
    )


def _clip_href(look: Look, from_us: UtcMicroseconds, to_us: UtcMicroseconds) -> str:
    return f"/api/v1/archive/cameras/{look.camera_id}/clip.mp4?{look.query(from_us, to_us)}"


def _stream(request: web.Request) -> str:
    stream = request.match_info.get("stream") or request.query.get("stream", "main")
    if stream not in ("main", "sub"):
        raise refuse(422, "stream is main or sub")
    return stream


def _span(request: web.Request, longest_us: int) -> tuple[UtcMicroseconds, UtcMicroseconds]:
    from_us, to_us = (_instant(request, name) for name in ("from", "to"))
    if not 0 < to_us - from_us <= longest_us:
        raise refuse(422, f"from must stand before to, at most {longest_us // 3_600_000_000} hours")
    return from_us, to_us


def _instant(request: web.Request, name: str) -> UtcMicroseconds:
    """Return an instant given in microseconds or as RFC 3339; a `+` of its zone may have come as a space."""
    text = request.query.get(name, "")
    if not text:
        raise refuse(422, f"{name} is missing: microseconds or RFC 3339")
    if re.fullmatch(r"\d{1,17}", text):
        return int(text)
    return from_rfc3339(text.replace(" ", "+"))


def _range(request: web.Request, size_bytes: int) -> tuple[int, int]:
    """Return the half-open byte range asked for."""
    try:
        wanted = request.http_range
    except ValueError:
        raise refuse(416, "the range cannot be read") from None
    start, end, _ = slice(wanted.start, wanted.stop).indices(size_bytes)
    if start >= end:
        raise refuse(416, f"the object has {size_bytes} bytes")
    return start, end


def _origin(request: web.Request) -> str:
    """Return where the look came from: through the gateway on this machine, its caller's address."""
    remote = request.remote or ""
    forwarded = request.headers.get("X-Forwarded-For", "")
    try:
        if forwarded and ipaddress.ip_address(remote).is_loopback:
            return str(ipaddress.ip_address(forwarded))
    except ValueError:
        log.debug("api.origin_unreadable")
    return remote
