"""`safealley demo --check`: a press and a clip followed through every link of a real system, a figure each.

It speaks the doors that outsiders use and compares with what the simulators played; it fails when
one link does not hold. Order: the press first, while footage gathers.
"""

import asyncio
import shutil
import tempfile
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import aiohttp
import msgspec
from msgspec import Struct
from rich.console import Console
from rich.markup import escape
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from services.onebox import footage_links, press_links
from services.onebox.box import OneBox
from services.onebox.demo import DemoWanted, demo_box, hashes_file
from services.onebox.demo_city import CLIP_CAMERA
from services.onebox.layout import PortChoice
from services.onebox.links import Link, Probe
from services.onebox.up import status_of
from services.runtime.clock import Clock, SystemClock
from services.runtime.errors import RetryLater, SettingsError

STEP_S: Final = 45.0
HOLDS: Final = 0
BROKEN: Final = 1

Step = Callable[[Probe], Awaitable[Link]]
STEPS: Final[tuple[tuple[str, Step], ...]] = (
    ("a console listens", press_links.listens),
    ("press kept by the device door", press_links.press),
    ("press shown at a console", press_links.shown),
    ("acknowledged by its operator", press_links.acknowledged),
    ("disposed, back to normal", press_links.disposed),
    ("a second press is a new alert", press_links.pressed_again),
    ("camera recorded", footage_links.recorded),
    ("footage readable after", footage_links.readable),
    ("live picture", footage_links.live_picture),
    ("clip of 15.5 s off a key picture", footage_links.clip),
    ("clip equals its source, NAL for NAL", footage_links.equal),
    ("no sound in the clip", footage_links.silent),
    ("playlist", footage_links.playlist),
    ("no look without a purpose", footage_links.purpose_asked),
    ("each look is in the audit log", footage_links.audited),
)


class Report(Struct, frozen=True, kw_only=True):
    """What `--json` prints."""

    holds: bool
    camera_id: str
    ready_s: float
    took_s: float
    links: tuple[Link, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Shown:
    """Where the check says what it finds."""

    console: Console
    as_json: bool

    def say(self, line: str) -> None:
        if not self.as_json:
            self.console.print(line, markup=False)


def run_check(*, data: Path, as_json: bool, clip: Path | None, cameras: int, ports: PortChoice) -> int:
    """Run the check in a directory of its own and return the exit status: 0 only if every link holds."""
    console = Console(highlight=False, soft_wrap=True, stderr=as_json)
    shown = _Shown(console=console, as_json=as_json)
    try:
        data.mkdir(parents=True, exist_ok=True)
        own = Path(tempfile.mkdtemp(prefix="check-", dir=data))
        report = asyncio.run(_check(own, DemoWanted(cameras=cameras, clip=clip), ports, shown))
    except (SettingsError, RetryLater, OSError) as error:
        return status_of(error)
    if as_json:
        Console(soft_wrap=True).print(msgspec.json.encode(report).decode(), markup=False, highlight=False)
    else:
        _print(report, console)
    if report.holds:
        shutil.rmtree(own)
    else:
        console.print(f"logs are kept in {own / 'log'}", markup=False)
    return HOLDS if report.holds else BROKEN


async def _check(own: Path, wanted: DemoWanted, ports: PortChoice, shown: _Shown) -> Report:
    clock = SystemClock()
    started_us = clock.now_us()
    box = demo_box(own, wanted, kafka=None, ports=ports, clock=clock, say=shown.say)
    camera_id = CLIP_CAMERA if wanted.clip is not None else "cam-1"
    async with box:
        ready_s = (clock.now_us() - started_us) / 1e6
        links = await _follow(box, camera_id, clock, shown)
    return Report(
        holds=all(link.holds for link in links),
        camera_id=camera_id,
        ready_s=round(ready_s, 2),
        took_s=round((clock.now_us() - started_us) / 1e6, 2),
        links=tuple(links),
    )


async def _follow(box: OneBox, camera_id: str, clock: Clock, shown: _Shown) -> list[Link]:
    endpoints = box.endpoints()
    probe = Probe(
        endpoints=endpoints,
        camera_id=camera_id,
        hashes=hashes_file(box.layout.root, camera_id),
        kafka=box.kafka_port("check"),
        clock=clock,
        scratch=box.layout.root,
    )
    links: list[Link] = []
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=shown.console, transient=True, disable=shown.as_json) as progress:
        task = progress.add_task("", total=None)
        async with aiohttp.ClientSession() as probe.http, probe.until_end:
            for name, step in STEPS:
                progress.update(task, description=name)
                links.append(await take(name, step, probe))
    return links


async def take(name: str, step: Step, probe: Probe) -> Link:
    """Take one step; what it raises is what the link lacks."""
    try:
        async with asyncio.timeout(STEP_S):
            return msgspec.structs.replace(await step(probe), name=name)
    except TimeoutError:
        return Link(name=name, holds=False, detail=f"nothing came within {STEP_S:.0f} s")
    except Exception as error:  # noqa: BLE001 - whatever a door answers, the links after it are tried too
        return Link(name=name, holds=False, detail=f"{type(error).__name__}: {error}")


def _print(report: Report, console: Console) -> None:
    for link in report.links:
        mark = "[green]holds[/] " if link.holds else "[red]broken[/]"
        console.print(f"{mark} ", link.name, _figure(link), escape(link.detail))
    word = "every link holds" if report.holds else "something does not hold"
    console.print(f"{word}; ready after {report.ready_s} s, done after {report.took_s} s", markup=False)


def _figure(link: Link) -> Any:
    return "" if link.figure is None else f"{link.figure:g} {link.unit}"
