"""The page is served from its bundle, or says that there is none."""

import gzip
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from services.gateway.bundle import add_page

SCRIPT = b"console.start()" * 50


@pytest.fixture
def built(tmp_path: Path) -> Path:
    (tmp_path / "index.html").write_text("<!doctype html><title>page</title>")
    (tmp_path / "console-AB12.js").write_bytes(SCRIPT)
    (tmp_path / "console-AB12.js.gz").write_bytes(gzip.compress(SCRIPT))
    (tmp_path / "build.json").write_text('{"source_sha256": "abc"}')
    return tmp_path


@pytest.fixture
async def client(built: Path) -> AsyncIterator[TestClient[web.Request, web.Application]]:
    app = web.Application()
    add_page(app, built)
    async with TestClient(TestServer(app), auto_decompress=False) as client:
        yield client


async def test_the_page_itself_is_never_cached(client: TestClient[web.Request, web.Application]) -> None:
    answer = await client.get("/")
    assert answer.status == 200
    assert answer.headers["Cache-Control"] == "no-cache"
    assert "page" in await answer.text()


async def test_a_hashed_file_is_kept_for_ever_and_comes_compressed(
    client: TestClient[web.Request, web.Application],
) -> None:
    answer = await client.get("/assets/console-AB12.js", headers={"Accept-Encoding": "gzip"})
    assert "immutable" in answer.headers["Cache-Control"]
    assert answer.headers["Content-Encoding"] == "gzip"
    assert gzip.decompress(await answer.read()) == SCRIPT


async def test_a_client_that_takes_no_gzip_gets_the_plain_file(
    client: TestClient[web.Request, web.Application],
) -> None:
    answer = await client.get("/assets/console-AB12.js", headers={"Accept-Encoding": "identity"})
    assert "Content-Encoding" not in answer.headers
    assert await answer.read() == SCRIPT


@pytest.mark.parametrize("name", ["build.json", "index.html", "..%2Fsecret.js", "console-AB12.js.gz"])
async def test_only_the_files_of_the_page_are_served(
    client: TestClient[web.Request, web.Application], name: str
) -> None:
    assert (await client.get(f"/assets/{name}")).status == 404


async def test_without_a_bundle_a_stub_says_how_to_build_it(tmp_path: Path) -> None:
    app = web.Application()
    assert add_page(app, tmp_path) is None
    async with TestClient(TestServer(app)) as client:
        assert "npm run build" in await (await client.get("/")).text()
