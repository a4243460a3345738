"""Archive's API under the gateway's origin: passed on as it is, and never mixed with an answer of ours."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import aiohttp
import pytest
from aiohttp import web

from services.gateway import archive_proxy
from tests.integration.gateway.rig import ORIGIN, Rig, port_of

CLIP = "/api/v1/archive/cameras/cam-1/clip.mp4?from=1&to=2&purpose=case%2F7"
FOOTAGE = bytes(range(256)) * 4096


@dataclass
class Archive:
    """Answers ranges of one clip, or breaks off in the middle."""

    seen: list[web.Request] = field(default_factory=list)
    breaks_off: bool = False
    stands_still: bool = False

    async def clip(self, request: web.Request) -> web.StreamResponse:
        self.seen.append(request)
        start, stop = request.http_range.start or 0, request.http_range.stop or len(FOOTAGE)
        part = FOOTAGE[start:stop]
        ranged = "Range" in request.headers
        response = web.StreamResponse(status=206 if ranged else 200)
        response.headers["Content-Type"] = "video/mp4"
        response.headers["Accept-Ranges"] = "bytes"
        response.headers["Safealley-State"] = "complete"
        response.headers["X-Inner"] = "not for outside"
        response.content_length = len(part)
        if ranged:
            response.headers["Content-Range"] = f"bytes {start}-{stop - 1}/{len(FOOTAGE)}"
        await response.prepare(request)
        if self.stands_still:
            await response.write(part[: len(part) // 2])
            await asyncio.Event().wait()
        if self.breaks_off:
            await response.write(part[: len(part) // 2])
            assert request.transport is not None
            request.transport.close()
            return response
        await response.write(part)
        return response

    async def refused(self, _request: web.Request) -> web.Response:
        return web.json_response({"error": "unprocessable", "detail": "purpose is missing"}, status=422)


@pytest.fixture
async def archive() -> Archive:
    return Archive()


@pytest.fixture
async def gateway(rig: Rig, archive: Archive) -> AsyncIterator[Rig]:
    routes = [web.get("/api/v1/archive/cameras/cam-1/clip.mp4", archive.clip),
              web.get("/api/v1/archive/cameras/cam-1/timeline", archive.refused)]  # fmt: skip
    async with port_of(routes) as port:
        rig.archive_url = f"http://127.0.0.1:{port}"
        async with rig.running():
            yield rig


async def test_a_clip_comes_through_byte_for_byte_with_the_callers_own_token(gateway: Rig, archive: Archive) -> None:
    token = gateway.bearer("auditor")
    status, body, headers = await gateway.ask("GET", CLIP, role=None, headers=token)
    assert (status, body, headers["Safealley-State"]) == (200, FOOTAGE, "complete")
    assert archive.seen[0].headers["Authorization"] == token["Authorization"]
    assert archive.seen[0].raw_path == CLIP
    assert "X-Inner" not in headers


async def test_a_range_is_passed_on_and_so_is_its_answer(gateway: Rig) -> None:
    status, body, headers = await gateway.ask("GET", CLIP, headers={"Range": "bytes=1000-1999"})
    assert (status, body, headers["Content-Length"]) == (206, FOOTAGE[1000:2000], "1000")
    assert headers["Content-Range"] == f"bytes 1000-1999/{len(FOOTAGE)}"


async def test_a_cookie_becomes_a_token_for_archive(gateway: Rig, archive: Archive) -> None:
    token = gateway.issuer.issue("auditor")
    await gateway.ask("GET", CLIP, role=None, headers={"Cookie": f"safealley_session={token}", "Origin": ORIGIN})
    assert archive.seen[0].headers["Authorization"] == f"Bearer {token}"
    assert "Cookie" not in archive.seen[0].headers


async def test_archives_own_refusal_comes_through(gateway: Rig) -> None:
    status, body, _ = await gateway.ask("GET", "/api/v1/archive/cameras/cam-1/timeline?from=1&to=2")
    assert (status, body["detail"]) == (422, "purpose is missing")


async def test_nobody_gets_to_archive_without_signing_in(gateway: Rig, archive: Archive) -> None:
    assert (await gateway.ask("GET", CLIP, role=None))[0] == 401
    assert archive.seen == []


async def test_archive_away_is_502_and_alerts_go_on(rig: Rig) -> None:
    async with rig.running():
        status, body, _ = await rig.ask("GET", CLIP)
        assert (status, body["error"]) == (502, "archive_unavailable")
        assert (await rig.ask("GET", "/api/v1/alerts"))[0] == 200


@pytest.mark.parametrize("fault", ["breaks_off", "stands_still"])
async def test_footage_that_breaks_off_is_cut_short_and_nothing_of_ours_stands_in_it(
    gateway: Rig, archive: Archive, fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Archive dies or stops in the middle of a clip: whoever fetches it sees a broken transfer, not a whole file."""
    monkeypatch.setattr(archive_proxy, "TIMEOUT", aiohttp.ClientTimeout(sock_read=0.3))
    setattr(archive, fault, True)
    got = bytearray()

    async def fetch() -> None:
        async with gateway.http.get(f"{gateway.url}{CLIP}", headers=gateway.bearer("auditor")) as answer:
            async for chunk in answer.content.iter_any():
                got.extend(chunk)

    with pytest.raises(aiohttp.ClientError):
        await fetch()
    assert FOOTAGE.startswith(got)
    assert (await gateway.ask("GET", "/api/v1/alerts"))[0] == 200
