"""Kafka freezes, then is killed, while bells are pressed and cameras record.

What fails: nothing can be written to any topic. What the operator still sees: the list as it was, and
after Kafka is back each press, once. The bells are told "kept" all the while, from a file on the disk. What
the auditor still finds: footage that waited in memory, and a gap `kafka_unavailable` for what did not fit.
"""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import pytest

from benchmarks.probe import CLOCK, Probe, gap_seconds, wait_until
from services.onebox import box as box_module
from services.onebox.box import OneBox
from services.onebox.demo import DemoWanted, demo_box
from services.onebox.service_settings import settings_of_services

AWAY_S: Final = 10.0
SOON_S: Final = 90.0
CAMERA: Final = "cam-1"
SMALL_BUFFER_BYTES: Final = 2 * 1024 * 1024

pytestmark = pytest.mark.timeout(400)


@asynccontextmanager
async def running(data: Path) -> AsyncIterator[tuple[OneBox, Probe]]:
    box = demo_box(data, DemoWanted(cameras=2), kafka=None, ports="free", clock=CLOCK, say=lambda _line: None)
    async with box, Probe(data) as probe:
        probe.listen()
        await probe.footage_until(CAMERA, box.recording_since_us or 0, SOON_S, length_us=2_000_000)
        yield box, probe


@asynccontextmanager
async def frozen(pid: int) -> AsyncIterator[None]:
    """Stop a process as a stalled machine would; let it go on afterwards."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


async def expect_all_presses(probe: Probe) -> None:
    await wait_until(lambda: not probe.missing(), SOON_S, "each acknowledged press is shown")
    counted = await probe.alerts_of_presses()
    assert {press: counted[press] for press in probe.acked} == dict.fromkeys(probe.acked, 1)


async def sessions(probe: Probe) -> Mapping[str, Any]:
    """Return since when each camera's session is as it is, and its epoch."""
    cameras: Sequence[Mapping[str, Any]] = (await probe.ops("ingest"))["cameras"]
    return {one["id"]: (one["state"], one["since_us"], one["epoch"]) for one in cameras}


async def causes_since(probe: Probe, from_us: int) -> dict[str, float]:
    """Wait for footage of now, and return what is missing since then."""
    await probe.footage_until(CAMERA, CLOCK.now_us(), SOON_S, length_us=4_000_000)
    return gap_seconds(await probe.timeline(CAMERA, from_us, CLOCK.now_us() - 5_000_000))


async def test_while_kafka_is_frozen_presses_are_kept_and_cameras_record_into_memory(tmp_path: Path) -> None:
    async with running(tmp_path / "data") as (box, probe):
        before, from_us = await sessions(probe), CLOCK.now_us()
        async with frozen(box.processes["kafka"]), probe.pressing(0.5):
            await asyncio.sleep(AWAY_S)  # the length of the outage is the incident
            kept = len(probe.acked)
        assert kept >= AWAY_S, "the door says 202 from its spool while Kafka is away"
        await expect_all_presses(probe)
        assert await sessions(probe) == before, "no camera lost its session"
        assert await causes_since(probe, from_us) == {}


async def test_what_does_not_fit_into_memory_while_kafka_is_away_is_a_gap_that_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Frozen, then killed: it comes back by itself."""

    def with_small_buffer(*args: Any, **kwargs: Any) -> Mapping[str, dict[str, Any]]:
        settings = settings_of_services(*args, **kwargs)
        settings["ingest"]["video_buffer_bytes"] = SMALL_BUFFER_BYTES
        return settings

    monkeypatch.setattr(box_module, "settings_of_services", with_small_buffer)
    async with running(tmp_path / "data") as (box, probe):
        before, from_us, kafka = await sessions(probe), CLOCK.now_us(), box.processes["kafka"]
        async with probe.pressing(0.5):
            os.kill(kafka, signal.SIGSTOP)
            await asyncio.sleep(AWAY_S)  # the length of the outage is the incident
            os.kill(kafka, signal.SIGKILL)
            await wait_until(lambda: box.processes["kafka"] != kafka, SOON_S, "Kafka is started again")
        await expect_all_presses(probe)
        assert await sessions(probe) == before, "no camera lost its session"
        assert set(await causes_since(probe, from_us)) == {"kafka_unavailable"}


async def test_an_ingest_that_starts_while_kafka_is_away_keeps_presses(tmp_path: Path) -> None:
    """It knows its bells from the registry's snapshot on its disk."""
    async with running(tmp_path / "data") as (box, probe):
        ingest, from_us = box.processes["ingest"], CLOCK.now_us()
        async with frozen(box.processes["kafka"]):
            await probe.press()
            os.kill(ingest, signal.SIGKILL)
            await wait_until(lambda: box.processes["ingest"] != ingest, SOON_S, "ingest is started again")
            await probe.press()
            await probe.press()
        await expect_all_presses(probe)
        causes = await causes_since(probe, from_us)
        assert set(causes) <= {"ingest_restart", "kafka_unavailable"}
        assert causes.get("ingest_restart", 0) > 0, "a killed ingest cannot have recorded all the while"
