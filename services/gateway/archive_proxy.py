"""`/api/v1/archive/*` passed on to archive with the caller's own token: one origin for the page.

Nothing is decided and nothing is kept here; archive authorises, logs and answers each request.
"""

from typing import Final

import aiohttp
import structlog
from aiohttp import web
from yarl import URL

from services.runtime.http_server import refuse

TIMEOUT: Final = aiohttp.ClientTimeout(total=None, sock_connect=2.0, sock_read=30.0)
CHUNK_BYTES: Final = 256 * 1024
_PASSED_ON: Final = ("Range", "If-None-Match", "If-Range", "Accept", "traceparent")
_PASSED_BACK: Final = (
    "Content-Type", "Content-Length", "Content-Range", "Content-Disposition", "Accept-Ranges", "Cache-Control",
    "ETag", "Safealley-State", "Safealley-Requested", "Safealley-Contained", "Retry-After",
)  # fmt: skip

log = structlog.get_logger()


class ArchiveProxy:
    """Passes GET requests on; `http` is the gateway's shared client session."""

    def __init__(self, *, archive_url: str, http: aiohttp.ClientSession) -> None:
        self._archive_url = archive_url.rstrip("/")
        self._http = http

    async def serve(self, request: web.Request, token: str) -> web.StreamResponse:
        """Pass one request on and stream its answer."""
        headers = {name: request.headers[name] for name in _PASSED_ON if name in request.headers}
        headers["Authorization"] = f"Bearer {token}"
        headers["X-Forwarded-For"] = request.remote or ""
        url = f"{self._archive_url}{request.rel_url.raw_path_qs}"
        try:
            async with self._http.get(
                _encoded(url), headers=headers, timeout=TIMEOUT, allow_redirects=False, auto_decompress=False
            ) as answer:
                response: web.StreamResponse = await _pass_back(request, answer)
                return response
        except (aiohttp.ClientError, TimeoutError) as error:
            log.warning("archive_proxy.unavailable", reason=type(error).__name__)
            # In the middle of an answer http_server cuts the caller off instead of sending this.
            raise refuse(
                502, "archive does not answer: alerts and live pictures go on", error="archive_unavailable"
            ) from None


async def _pass_back(request: web.Request, answer: aiohttp.ClientResponse) -> web.StreamResponse:
    response = web.StreamResponse(status=answer.status)
    for name in _PASSED_BACK:
        if name in answer.headers:
            response.headers[name] = answer.headers[name]
    await response.prepare(request)
    async for chunk in answer.content.iter_chunked(CHUNK_BYTES):
        await response.write(chunk)
    await response.write_eof()
    return response


def _encoded(url: str) -> URL:
    return URL(url, encoded=True)
