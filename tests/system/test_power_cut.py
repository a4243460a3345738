"""The power of the one box fails, while it records and while bells are pressed.

What fails: everything stops at once, and what no process had synced is not on the disk. What the operator
still sees: after `up` was started again, each press that a bell was told is kept. What the auditor
still finds: all footage but the last seconds, the lost seconds as a gap with its cause, and new footage
that nothing takes for old.

Two ways to cut. As root, an ext4 file system is shut down under the running box without writing its
journal (`EXT4_IOC_SHUTDOWN`), which leaves the disk as a cut does, and is mounted again. Without root, all
processes are killed and the log of `video` loses its tail.
"""

import asyncio
import contextlib
import fcntl
import os
import shutil
import signal
import struct
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import pytest

from benchmarks.probe import CLOCK, Probe, Timeline, gap_seconds, tiles, wait_until
from services.contracts import codec
from services.contracts.alarm import AlarmRaised
from services.contracts.topics import ALARMS
from services.onebox.layout import Layout
from services.onebox.local_kafka import first_log_with_records
from services.runtime.kafka import AioKafka

ROOT: Final = Path(__file__).parents[2]
EXT4_IOC_SHUTDOWN: Final = 0x8004587D
NO_LOG_FLUSH: Final = 2
DISK_BYTES: Final = 4 * 1024**3
UP_S: Final = 150.0
"""Deadlines are for a machine that does ten other things; on a quiet one nothing here takes 15 s."""
SOON_S: Final = 90.0
CAMERA: Final = "cam-1"
LOST_US_MAX: Final = 2_000_000
FRAGMENT_US: Final = 1_000_000
"""What is being cut when the power fails was never in Kafka."""
CAUSES: Final = {"kafka_log_regressed", "ingest_restart", "device_offline"}
"""The last one: the simulated cameras come back at other ports, and ingest asks at those it remembers first."""

pytestmark = pytest.mark.timeout(500)


class Up:
    """`safealley demo` in a process of its own, so that it can be killed with all that it started."""

    def __init__(self, data: Path, said: Path) -> None:
        command = [sys.executable, "-m", "services.cli", "demo", "--data", str(data), "--ports", "free", "--cameras=2"]
        self.layout = Layout(data)
        self._said = said
        with said.open("ab") as output:
            self.process = subprocess.Popen(command, cwd=ROOT, stdout=output, stderr=subprocess.STDOUT)

    async def ready(self, probe: Probe) -> None:
        def holds() -> bool:
            if self.process.poll() is not None:
                raise AssertionError(f"up ended with status {self.process.returncode}: {self.said()}")
            return probe.is_up() and probe.endpoints.processes.get("kafka", 0) in children_of(self.process.pid)

        await wait_until(holds, UP_S, "the box is up")

    def said(self) -> str:
        return self._said.read_text(encoding="utf-8")

    async def cut(self) -> None:
        """Kill it and all its children, and wait until none of them is left."""
        pids = children_of(self.process.pid)
        self.process.kill()
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):  # it may have died of the disk
                os.kill(pid, signal.SIGKILL)
        self.process.wait()
        await wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids), 10, "all processes are gone")

    def stop(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def children_of(pid: int) -> list[int]:
    found = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii")
    return [int(child) for child in found.split()]


@asynccontextmanager
async def running(data: Path, said: Path) -> AsyncIterator[tuple[Up, Probe]]:
    """Start a box; stop what of it still runs in the end."""
    up = Up(data, said)
    try:
        async with Probe(data) as probe:
            await up.ready(probe)
            yield up, probe
    finally:
        up.stop()


class Disk:
    """An ext4 file system in a file, mounted; `cut` is a power cut for it."""

    def __init__(self, folder: Path) -> None:
        self._image = folder / "disk.img"
        self.path = folder / "disk"
        self.path.mkdir()
        with self._image.open("wb") as image:
            image.truncate(DISK_BYTES)
        run("mkfs.ext4", "-q", "-E", "lazy_itable_init=1,lazy_journal_init=1", str(self._image))
        self.mount()

    def mount(self) -> None:
        run("mount", "-o", "loop", str(self._image), str(self.path))

    def unmount(self) -> None:
        run("umount", str(self.path))

    def cut(self) -> None:
        """From now on nothing reaches the disk, not even the journal; every call fails."""
        opened = os.open(self.path, os.O_RDONLY)
        try:
            fcntl.ioctl(opened, EXT4_IOC_SHUTDOWN, struct.pack("I", NO_LOG_FLUSH))
        finally:
            os.close(opened)


def run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise OSError(f"{command[0]}: {done.stderr.strip()}")


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    if os.geteuid() != 0 or shutil.which("mkfs.ext4") is None:
        pytest.skip("a real power cut: needs root and mkfs.ext4, to mount a file system that can be cut off")
    try:
        made = Disk(tmp_path)
    except OSError as error:
        pytest.skip(f"a real power cut: no file system can be mounted here: {error}")
    yield made
    made.unmount()
    (tmp_path / "disk.img").unlink()


async def expect_all_presses(probe: Probe) -> None:
    """Each acknowledged press is at the console, and is one alert."""
    await wait_until(lambda: not probe.missing(), SOON_S, "each acknowledged press is shown")
    counted = await probe.alerts_of_presses()
    assert {press: counted[press] for press in probe.acked} == dict.fromkeys(probe.acked, 1)


async def expect_whole_timeline(probe: Probe, from_us: int, back_us: int) -> Timeline:
    """Wait for footage of the new life; every second since is footage or a gap with a cause."""
    await probe.footage_until(CAMERA, back_us, SOON_S, length_us=2_000_000)
    async with asyncio.timeout(SOON_S):
        while True:
            to_us = CLOCK.now_us() - 3_000_000
            items = await probe.timeline(CAMERA, from_us, to_us)
            assert tiles(items, from_us, to_us), items
            if not {"unknown", "pending"} & {item["state"] for item in items}:
                return items
            await asyncio.sleep(0.25)


def epochs(items: Timeline) -> list[int]:
    return [item["epoch"] for item in items if item["state"] in {"recorded", "open"}]


async def system_alarms(bootstrap: str) -> set[str]:
    """Return what the services said of themselves on `alarms`."""
    kafka = AioKafka(bootstrap, clock=CLOCK, client_id="test")
    found: set[str] = set()
    async with kafka.reader(await kafka.whole(ALARMS.name)) as reader:
        while not reader.caught_up():
            for record in await reader.poll(timeout_s=1.0):
                body: Any = codec.decode_event(record.headers, record.value).body
                if isinstance(body, AlarmRaised) and body.device.site_id == "system":
                    found.add(body.condition.topic)
    return found


async def test_a_power_cut_loses_no_press_and_two_seconds_of_video_and_the_box_comes_back(
    disk: Disk, tmp_path: Path
) -> None:
    data, said = disk.path / "data", tmp_path / "said"
    async with running(data, said) as (up, probe):
        since_us = probe.endpoints.recording_since_us or 0
        first = await probe.footage_until(CAMERA, since_us, SOON_S, length_us=5_000_000)
        from_us = next(item["from_us"] for item in first if item["state"] in {"recorded", "open"})
        pressing = asyncio.create_task(keep_pressing(probe))
        await wait_until(lambda: len(probe.acked) >= 40, SOON_S, "presses are acknowledged")
        disk.cut()
        cut_us = CLOCK.now_us()
        await up.cut()
        pressing.cancel()
        await asyncio.gather(pressing, return_exceptions=True)
        before = dict(probe.acked)
        old_epoch = max(epochs(first))
    disk.unmount()
    disk.mount()
    async with running(data, said) as (up, probe):
        probe.acked |= before
        probe.listen()
        back_us = CLOCK.now_us()
        await probe.press()
        await expect_all_presses(probe)
        items = await expect_whole_timeline(probe, from_us, back_us)
        kept_us = (
            max(item["to_us"] for item in items if item.get("epoch") == old_epoch) if old_epoch in epochs(items) else 0
        )
        lost_us = cut_us - kept_us
        assert lost_us <= LOST_US_MAX + FRAGMENT_US, f"{lost_us / 1e6:.3f} s of video are lost: {items}"
        assert set(gap_seconds(items)) <= CAUSES, items
        assert epochs(items)[-1] > old_epoch
        print(f"presses kept {len(before)}, video lost {lost_us / 1e6:.2f} s, gaps {gap_seconds(items)}")  # noqa: T201 - a figure


async def keep_pressing(probe: Probe) -> None:
    async with probe.pressing(0.1):
        await asyncio.Event().wait()


async def test_a_power_cut_in_the_middle_of_the_first_start_leaves_a_box_that_starts(
    disk: Disk, tmp_path: Path
) -> None:
    """The disk has whatever of the first format was synced."""
    data, said = disk.path / "data", tmp_path / "said"
    up = Up(data, said)
    formatted = up.layout.kafka / "data" / "meta.properties"
    try:
        await wait_until(formatted.exists, UP_S, "Kafka's directory is formatted")
        disk.cut()
        await up.cut()
    finally:
        up.stop()
    disk.unmount()
    disk.mount()
    async with running(data, said) as (up, probe):
        probe.listen()
        await probe.press()
        await expect_all_presses(probe)


async def test_a_first_format_that_never_reached_the_disk_is_moved_aside_and_said_in_one_line(tmp_path: Path) -> None:
    """An older `up`, or another tool, formatted and did not sync: files with names and no content.

    Nothing was acknowledged yet: what is acknowledged is synced, and its log is never moved aside
    (tests/integration/onebox/test_local_kafka.py).
    """
    data, said = tmp_path / "data", tmp_path / "said"
    up = Up(data, said)
    formatted = up.layout.kafka / "data"
    try:
        await wait_until((formatted / "meta.properties").exists, UP_S, "Kafka's directory is formatted")
        await up.cut()
    finally:
        up.stop()
    assert first_log_with_records(formatted) is None
    for file in formatted.rglob("*"):
        if file.is_file() and file.name != "meta.properties":
            file.write_bytes(b"")
    async with running(data, said) as (up, probe):
        probe.listen()
        await probe.press()
        await expect_all_presses(probe)
        lines = [line for line in up.said().splitlines() if "never reached the disk" in line]
        assert len(lines) == 1
        aside = lines[0].partition("kept as ")[2].partition(",")[0]
        assert Path(aside).is_dir()  # noqa: ASYNC240 - one look
        await probe.footage_until(CAMERA, probe.endpoints.recording_since_us or 0, SOON_S, length_us=2_000_000)


async def test_a_log_of_video_that_went_back_behind_what_was_archived_hides_no_new_footage(tmp_path: Path) -> None:
    """The offsets that archive committed lie beyond the end of the log, and new footage takes them again."""
    data, said = tmp_path / "data", tmp_path / "said"
    async with running(data, said) as (up, probe):
        since_us = probe.endpoints.recording_since_us or 0
        first = await probe.footage_until(CAMERA, since_us, SOON_S, length_us=5_000_000)
        from_us = next(item["from_us"] for item in first if item["state"] in {"recorded", "open"})
        old_epoch = max(epochs(first))
        # Ingest ends its run, so that archive stores it and commits beyond it; a new one goes on.
        os.kill(probe.endpoints.processes["ingest"], signal.SIGTERM)
        async with probe.pressing(0.5):
            again = await footage_of_a_newer_epoch(probe, from_us, old_epoch)
        await stored(probe, from_us, old_epoch)
        before = dict(probe.acked)
        await up.cut()
    lose_tail_of_video(up.layout)
    async with running(data, said) as (up, probe):
        probe.acked |= before
        probe.listen()
        back_us = CLOCK.now_us()
        await probe.press()
        await expect_all_presses(probe)
        items = await expect_whole_timeline(probe, from_us, back_us)
        assert set(gap_seconds(items)) <= CAUSES | {"operator_stop"}, items
        assert old_epoch in epochs(items), "what was archived stays"
        assert epochs(items)[-1] > max(again)
        assert "kr.safealley/system/log_went_back" in await system_alarms(probe.endpoints.kafka)


async def footage_of_a_newer_epoch(probe: Probe, from_us: int, old_epoch: int) -> list[int]:
    async with asyncio.timeout(SOON_S):
        while True:
            found = epochs(await probe.timeline(CAMERA, from_us, CLOCK.now_us()))
            if max(found, default=0) > old_epoch:
                return found
            await asyncio.sleep(0.25)


async def stored(probe: Probe, from_us: int, epoch: int) -> None:
    """Wait until archive has stored an epoch and committed: its low mark has passed it."""
    async with asyncio.timeout(SOON_S):
        while True:
            items = await probe.timeline(CAMERA, from_us, CLOCK.now_us())
            low = [one["low"] for one in (await probe.ops("archive"))["video"]["partitions"].values()]
            if any(low) and all(item["state"] == "recorded" for item in items if item.get("epoch") == epoch):
                return
            await asyncio.sleep(0.25)


def lose_tail_of_video(layout: Layout) -> None:
    """Cut the logs of `video` in the middle of their first records; what is derived from them goes too."""
    for log in (layout.kafka / "data").glob("video-*/*.log"):
        size = log.stat().st_size
        if size:
            os.truncate(log, size // 7)
        for derived in log.parent.glob("*index"):
            derived.unlink()
