"""Canaries: passwords and tokens that stand nowhere but in the secrets directory, whatever happens."""

import asyncio
import base64
import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote, quote_plus

import pytest

from services.contracts.topics import TOPICS
from services.onebox.demo_city import CAMERA_REF
from services.onebox.layout import SERVICES
from tests.system.city import CLOCK, FOOTAGE, City, wait_until
from tests.system.conftest import CityOf, Figures

CAMERA_PASSWORD = "kanari-camera:%7E/p@ss+w0rd=5f1c&x"
BELL_TOKENS = {"bell-1": "kanari-bell-one.7f3a/Zm9v+bar==", "bell-2": "kanari-bell-two.91c0~%2Fqux"}
HELD = frozenset({"secrets", "endpoints.json"})
"""Where secrets belong: both readable by their owner alone."""
SECOND_US = 1_000_000

pytestmark = pytest.mark.timeout(300)


async def test_no_secret_is_in_any_log_topic_metric_object_or_command_line(
    tmp_path: Path, city_of: CityOf, figures: Figures
) -> None:
    """A day in short: a press, a clip, a wrong sign-in, ingest killed and back.

    The operator and the auditor see their press and their pictures; somebody who gets hold of logs,
    topics, metrics, footage or the process list finds no password and no token, in no spelling.
    """
    secrets = tmp_path / "data" / "secrets"
    secrets.mkdir(parents=True)
    keep(secrets / CAMERA_REF, {"username": "kanari", "password": CAMERA_PASSWORD})
    for name, token in BELL_TOKENS.items():
        keep(secrets / name, {"token": token})
    wanted = spellings()
    async with city_of(cameras=2) as city:
        assert {bell.token for bell in city.addresses.bells} == set(BELL_TOKENS.values())
        await live_a_little(city)
        found = await everywhere(city, wanted)
    looked_at = found.pop("")
    assert not found
    assert int(looked_at) > 0
    figures("secrets", spellings=len(wanted), bytes_searched=looked_at, hits=0)


def keep(file: Path, content: dict[str, str]) -> None:
    file.touch(mode=0o600)
    file.write_text(json.dumps(content))


def spellings() -> dict[bytes, str]:
    """Return every way in which a secret could be written, with its name."""
    found: dict[bytes, str] = {}
    for name, secret in {"camera": CAMERA_PASSWORD, **BELL_TOKENS}.items():
        found[secret.encode()] = f"{name} raw"
        found[json.dumps(secret)[1:-1].encode()] = f"{name} in JSON"
        found[quote(secret, safe="").encode()] = f"{name} percent-encoded"
        found[quote_plus(secret).encode()] = f"{name} form-encoded"
        for lead in range(3):  # base64 of anything that has it inside, such as user:password
            whole = base64.b64encode(b"x" * lead + secret.encode())
            found[whole[4 if lead else 0 : -4]] = f"{name} in base64"
    return found


async def live_a_little(city: City) -> None:
    """Press, refuse, take out a clip, lose ingest and get it back."""
    async with city.console() as console:
        pressed = await city.bell(0).press()
        await wait_until(lambda: pressed.id in console.shown_us, 20, "the press is shown")
        wrong = {"Authorization": f"Bearer {BELL_TOKENS['bell-1']}"}
        status, _ = await city.get(f"{city.addresses.gateway}/api/v1/alerts", wrong)
        assert status == 401
        from_us = await wait_until(lambda: footage_of_s(city, 4), 60, "footage")
        assert await city.equal_units("cam-1", from_us, from_us + 3 * SECOND_US) > 0
        before = city.endpoints().processes["ingest"]
        os.kill(before, signal.SIGKILL)
        await wait_until(lambda: city.endpoints().processes["ingest"] != before, 90, "ingest is started again")
        again = await city.bell(1).press()
        assert again.accepted
        await wait_until(lambda: again.id in console.shown_us, 60, "the press after is shown")


async def footage_of_s(city: City, seconds: int) -> int:
    """Return where the first footage begins, once there is enough of it."""
    now_us = CLOCK.now_us()
    items = [item for item in await city.timeline("cam-1", now_us - 60 * SECOND_US, now_us) if item["state"] in FOOTAGE]
    return items[0]["from_us"] if items and items[-1]["to_us"] - items[0]["from_us"] > seconds * SECOND_US else 0


async def everywhere(city: City, wanted: dict[bytes, str]) -> dict[str, str]:
    """Return what was found where; under no name, how many bytes were looked at."""
    hits: dict[str, str] = {}
    total = 0
    for place, content in [
        *await asyncio.to_thread(lambda: list(files(city.root))),
        *await asyncio.to_thread(lambda: list(command_lines())),
        *[(f"{name} {what}", (await city.ops(name, what)).encode()) for name in SERVICES for what in
          ("metrics", "statusz", "readyz", "healthz")],
        *[(f"topic {r.topic}", b"\0".join([(r.key or "").encode(), r.value or b"", *(v for _, v in r.headers)]))
          for r in await city.records(*(topic.name for topic in TOPICS), *(topic.dead_letters for topic in TOPICS))],
    ]:  # fmt: skip
        total += len(content)
        hits |= {f"{place}: {name}": "found" for spelling, name in wanted.items() if spelling in content}
    return hits | {"": str(total)}


def files(root: Path) -> Iterator[tuple[str, bytes]]:
    """Give every file of the box: logs, settings, Kafka's log, objects, catalog, scratch, spool."""
    for file in root.rglob("*"):
        if file.is_file() and file.relative_to(root).parts[0] not in HELD:
            try:
                yield str(file.relative_to(root)), file.read_bytes()
            except FileNotFoundError:
                continue  # a scratch file or a log segment that went away meanwhile


def command_lines() -> Iterator[tuple[str, bytes]]:
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            yield str(file), file.read_bytes()
        except (FileNotFoundError, ProcessLookupError):
            continue
