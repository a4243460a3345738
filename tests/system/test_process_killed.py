"""One process is killed with kill -9 while the city is busy: four cameras record, somebody presses twice a second.

One box lives through all five incidents, as a real one would; each test stands by itself all the same.
"""

import os
import signal
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest
import pytest_asyncio

from services.onebox.demo import DemoWanted
from tests.system.city import (
    CLOCK,
    FOOTAGE,
    City,
    Console,
    FragmentKey,
    Item,
    Press,
    holes,
    seconds_since,
    span_s,
    wait_until,
)
from tests.system.conftest import Figures, run_city

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(300)]

SECOND_US = 1_000_000
CAMERAS = tuple(f"cam-{number}" for number in range(1, 5))
AROUND_US = 3 * SECOND_US
GAP_S_MAX = 15.0
BACK_S = 90.0
"""A broker needs 5 s on a quiet machine and 30 s on one that does six other things."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def city(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[City]:
    async with run_city(tmp_path_factory.mktemp("killed"), DemoWanted(cameras=len(CAMERAS))) as running:
        for camera_id in CAMERAS:
            await readable_to(running, camera_id, (running.addresses.recording_since_us or 0) + 2 * AROUND_US)
        yield running


@dataclass(frozen=True, slots=True, kw_only=True)
class Incident:
    """What happened: when, to whom, and what came of it."""

    victim: str
    killed_us: int
    acked_before: set[FragmentKey]
    restarted_s: float
    footage_back_s: float
    presses: list[Press]
    console: Console

    @property
    def longest_wait_s(self) -> float:
        """How long the unluckiest press took from the bell to the screen."""
        waits = [self.console.shown_us[answer.id] - p.at_us for p in self.presses if (answer := p.answer) is not None]
        return round(max(waits) / 1e6, 2)


async def test_ingest_is_killed_and_each_camera_has_one_short_gap_with_its_cause(city: City, figures: Figures) -> None:
    """Ingest dies: cameras and bells have nobody to talk to.

    Bells try again until their press is kept, so the operator sees every press, some of them late.
    The auditor finds at most 15 s per camera without footage, as a gap with a cause, and no hole
    in what was acknowledged before.
    """
    incident = await kill(city, "ingest")
    await all_is_accounted_for(city, incident)
    gaps_s = {}
    for camera_id in CAMERAS:
        items = await explained(city, camera_id, incident)
        gaps = [item for item in items if item["state"] == "gap"]
        gaps_s[camera_id] = span_s(gaps, "gap")
        assert 0 < gaps_s[camera_id] <= GAP_S_MAX, f"{camera_id}: {gaps}"
        assert {item["cause"] for item in gaps} <= {"ingest_restart"}, gaps
        after_us = gaps[-1]["to_us"] + SECOND_US
        await readable_to(city, camera_id, after_us + 2 * AROUND_US)
        assert await city.equal_units(camera_id, after_us, after_us + AROUND_US) > 0
    say(figures, incident, gap_s=gaps_s)


@pytest.mark.parametrize("victim", ["alerting", "gateway", "archive", "kafka"])
async def test_another_is_killed_and_no_camera_loses_a_picture(city: City, figures: Figures, victim: str) -> None:
    """Alerting, gateway, archive or Kafka dies; ingest does not notice or waits.

    The operator's console comes back with its cursor and shows every press that a bell got
    acknowledged. The auditor finds footage without any gap across the incident, picture for picture
    what the cameras sent.
    """
    incident = await kill(city, victim)
    await all_is_accounted_for(city, incident)
    units = {}
    for camera_id in CAMERAS:
        items = await explained(city, camera_id, incident)
        assert {item["state"] for item in items} <= FOOTAGE, f"{camera_id}: {items}"
        from_us = incident.killed_us - AROUND_US
        units[camera_id] = await city.equal_units(camera_id, from_us, incident.killed_us + AROUND_US)
    say(figures, incident, gap_s=0, units_across_equal=sum(units.values()))


async def kill(city: City, victim: str) -> Incident:
    """Kill a process under load and wait until all is as before: process, presses, footage."""
    before = city.endpoints().processes
    async with city.console() as console:
        async with city.pressing() as presses:
            await wait_until(lambda: shown(presses, console) >= 4, 20, "presses reach the console before")
            acked_before = await city.fragments()
            killed_us = CLOCK.now_us()
            os.kill(before[victim], signal.SIGKILL)
            await wait_until(
                lambda: city.endpoints().processes[victim] != before[victim], BACK_S, f"{victim} is started again"
            )
            restarted_s = seconds_since(killed_us)
            for camera_id in CAMERAS:
                await readable_to(city, camera_id, killed_us + 2 * SECOND_US)
            footage_back_s = seconds_since(killed_us)
            for camera_id in CAMERAS:
                await readable_to(city, camera_id, killed_us + 2 * AROUND_US)
            made = len(presses)
            await wait_until(lambda: shown(presses[made:], console) >= 4, BACK_S, "presses reach the console after")
        await wait_until(lambda: shown(presses, console) == len(presses), BACK_S, "each press reaches the console")
    after = city.endpoints().processes
    assert {name for name in before if before[name] != after[name]} == {victim}
    return Incident(
        victim=victim,
        killed_us=killed_us,
        acked_before=acked_before,
        restarted_s=restarted_s,
        footage_back_s=footage_back_s,
        presses=presses,
        console=console,
    )


async def all_is_accounted_for(city: City, incident: Incident) -> None:
    """Every acknowledged press is one occurrence, no acknowledged fragment is missing, the operator goes on."""
    acknowledged = [press.answer.id for press in incident.presses if press.answer is not None and press.answer.accepted]
    assert len(acknowledged) == len(incident.presses), "a bell gave up"
    counted = await city.occurrences()
    assert {press_id: len(counted.get(press_id, ())) for press_id in acknowledged} == dict.fromkeys(acknowledged, 1)
    acked = round(await city.metric("ingest", "safealley_ingest_publisher_fragments_total", result="acked"))
    fragments = await city.fragments()
    assert incident.acked_before <= fragments, "fragments that Kafka had are gone"
    assert not holes(fragments)
    assert acked <= len(of_newest_epochs(fragments)), "ingest was told of more fragments than Kafka has"
    assert await city.answer_all() >= 1


def of_newest_epochs(fragments: set[FragmentKey]) -> set[FragmentKey]:
    """Return what the ingest process of now has written."""
    newest = {camera_id: epoch for camera_id, _, epoch, _ in sorted(fragments)}
    return {one for one in fragments if one[2] == newest[one[0]]}


async def explained(city: City, camera_id: str, incident: Incident) -> list[Item]:
    """Return the tiles around the incident, after looking at all since recording began: none is `unknown`."""
    since_us = city.addresses.recording_since_us
    assert since_us is not None
    to_us = incident.killed_us + 2 * AROUND_US
    items = await city.timeline(camera_id, since_us, to_us)
    assert {item["state"] for item in items} <= FOOTAGE | {"gap"}, f"{camera_id}: {items}"
    assert all(item["cause"] for item in items if item["state"] == "gap")
    return [item for item in items if item["to_us"] > incident.killed_us - AROUND_US]


async def readable_to(city: City, camera_id: str, at_us: int) -> None:
    async def is_readable() -> bool:
        return await newest_us(city, camera_id) >= at_us

    await wait_until(is_readable, BACK_S, f"{camera_id}: footage of {at_us} can be read")


async def newest_us(city: City, camera_id: str) -> int:
    """Return the end of the newest footage."""
    now_us = CLOCK.now_us()
    items = await city.timeline(camera_id, now_us - 30 * SECOND_US, now_us)
    return max((item["to_us"] for item in items if item["state"] in FOOTAGE), default=0)


def shown(presses: list[Press], console: Console) -> int:
    """Return how many presses have been answered and are on the screen."""
    return sum(press.answer is not None and press.answer.id in console.shown_us for press in presses)


def say(figures: Figures, incident: Incident, **more: object) -> None:
    figures(
        f"{incident.victim} killed",
        process_back_s=incident.restarted_s,
        footage_back_s=incident.footage_back_s,
        presses=len(incident.presses),
        longest_press_to_screen_s=incident.longest_wait_s,
        console_connects=incident.console.connects,
        **more,
    )
