"""`endpoints.json` while a box runs: there while everything is, and written again where that failed."""

import asyncio
from pathlib import Path

import msgspec

from services.onebox.endpoints import AGAIN_S, Endpoints, Published, read
from services.runtime.clock import FakeClock, settle
from services.runtime.identity import DemoIssuer, Identity
from services.runtime.settings import IdentitySettings

HOUR_S = 3600
NOW = Endpoints(
    gateway="http://g", device_door="http://d", archive="http://a", kafka="k:1", tokens={}, bells=[], cameras=[]
)


async def test_a_write_that_fails_is_said_once_and_tried_again_until_it_succeeds(tmp_path: Path) -> None:
    said: list[str] = []
    clock = FakeClock()
    file = tmp_path / "not there yet" / "endpoints.json"
    published = Published(file, lambda: NOW, clock=clock, say=said.append)
    published.open()
    assert said[0].startswith(f"{file} was not written, tried again every {AGAIN_S:.0f} s: [Errno 2]")
    keeping = asyncio.create_task(published.keep())
    await settle()
    await clock.advance(AGAIN_S)
    file.parent.mkdir()
    await clock.advance(AGAIN_S)
    assert (read(file), len(said)) == (NOW, 1)
    keeping.cancel()


async def test_whoever_reads_the_file_has_tokens_for_hours_however_long_the_box_runs(tmp_path: Path) -> None:
    clock = FakeClock()
    issuer = DemoIssuer(tmp_path, clock=clock)
    identity = Identity.from_settings(IdentitySettings(jwks_file=issuer.jwks_file), clock=clock)
    file = tmp_path / "endpoints.json"
    published = Published(file, lambda: msgspec.structs.replace(NOW, tokens=issuer.tokens()), clock=clock, say=print)
    published.open()
    keeping = asyncio.create_task(published.keep())
    await settle()
    tokens = [read(file).tokens["operator"]]
    for _ in range(13):
        await clock.advance(HOUR_S)
        tokens.append(read(file).tokens["operator"])
        assert (identity.verify(tokens[-1]).expires_us or 0) - clock.now_us() > 7 * HOUR_S * 1_000_000
    assert len(set(tokens)) == 4
    identity.verify(tokens[5])  # an older one is good until it expires
    keeping.cancel()


def test_nobody_finds_the_file_before_all_is_ready_or_once_it_stops(tmp_path: Path) -> None:
    published = Published(tmp_path / "endpoints.json", lambda: NOW, clock=FakeClock(), say=print)
    published.write()
    assert list(tmp_path.iterdir()) == []
    published.open()
    published.close()
    published.write()
    assert list(tmp_path.iterdir()) == []
