"""Serves the page: hashed names for ever, `.gz` beside each file, `index.html` never cached.

Without a built bundle a stub page says so and a warning is logged at start: never a silent failure.
What the page may load is said by runtime's headers.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec
import structlog
from aiohttp import web

from services.runtime.http_server import public

PACKAGED: Final = Path(__file__).parent / "static"
"""The bundle inside the wheel and the image."""
BUILT: Final = Path(__file__).parents[2] / "web" / "dist"
"""The bundle of a checkout."""
FOREVER: Final = "public, max-age=31536000, immutable"
TYPES: Final = {".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}
STUB: Final = """<!doctype html>
<html lang="ko"><head><meta charset="utf-8"><title>Safe Alleys</title></head>
<body><h1>콘솔이 빌드되지 않았습니다 · The console is not built</h1>
<p>게이트웨이는 동작하지만 화면 파일이 없습니다. The gateway runs, but its page is missing.</p>
<p><code>cd web &amp;&amp; npm ci --ignore-scripts &amp;&amp; npm run build</code></p></body></html>
"""

log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class Asset:
    """A file of the bundle, in memory: there are a handful, and the smaller form is ready."""

    plain: bytes
    gzipped: bytes | None
    content_type: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    """The built page."""

    index: bytes
    assets: dict[str, Asset]
    source_sha256: str


def find_bundle(folder: Path | None = None) -> Bundle | None:
    """Return the bundle of the folder, else the packaged one, else the checkout's; None without any."""
    folders = (PACKAGED, BUILT) if folder is None else (folder,)
    found = next((one for one in folders if (one / "index.html").is_file()), None)
    return None if found is None else _read(found)


def add_page(app: web.Application, folder: Path | None = None) -> Bundle | None:
    """Serve the page at `/` and its files under `/assets/`; return what is served, None for the stub."""
    bundle = find_bundle(folder)
    if bundle is None:
        log.warning("bundle.missing", cure="build it: cd web && npm ci --ignore-scripts && npm run build")

    @public
    async def index(_request: web.Request) -> web.Response:
        body = STUB.encode() if bundle is None else bundle.index
        return web.Response(body=body, content_type="text/html", charset="utf-8", headers={"Cache-Control": "no-cache"})

    @public
    async def asset(request: web.Request) -> web.Response:
        found = None if bundle is None else bundle.assets.get(request.match_info["name"])
        if found is None:
            raise web.HTTPNotFound
        return _answer(found, gzip="gzip" in request.headers.get("Accept-Encoding", ""))

    app.router.add_get("/", index)
    app.router.add_get("/assets/{name}", asset)
    return bundle


def _answer(found: Asset, *, gzip: bool) -> web.Response:
    headers = {"Cache-Control": FOREVER, "Vary": "Accept-Encoding"}
    body = found.plain
    if gzip and found.gzipped is not None:
        headers["Content-Encoding"] = "gzip"
        body = found.gzipped
    return web.Response(body=body, content_type=found.content_type, charset="utf-8", headers=headers)


def _read(folder: Path) -> Bundle:
    names = [path for path in sorted(folder.iterdir()) if path.suffix in TYPES]
    facts: dict[str, Any] = msgspec.json.decode((folder / "build.json").read_bytes())
    return Bundle(
        index=(folder / "index.html").read_bytes(),
        assets={path.name: _asset(path) for path in names},
        source_sha256=str(facts.get("source_sha256", "")),
    )


def _asset(path: Path) -> Asset:
    gzipped = path.with_name(f"{path.name}.gz")
    return Asset(
        plain=path.read_bytes(),
        gzipped=gzipped.read_bytes() if gzipped.is_file() else None,
        content_type=TYPES[path.suffix],
    )
