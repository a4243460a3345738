"""A box with the real broker and stub services: watched, restarted, stopped, killed."""

import asyncio
import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from subprocess import PIPE, STDOUT, Popen

import pytest

from services.onebox import box as box_module
from services.onebox import endpoints
from services.onebox.box import OneBox
from services.onebox.broker_topics import prepare_topics
from services.onebox.disk import GIB, Disk
from services.onebox.endpoints import Endpoints
from services.onebox.layout import Layout
from services.onebox.ports import reserve
from services.onebox.programs import Program
from services.runtime.clock import SystemClock
from services.runtime.errors import SettingsError
from services.runtime.kafka_port import Kafka
from tests.integration.onebox.run_box import stubs

HERE = Path(__file__).parent
ROOT = HERE.parents[2]
WAIT_S = 90.0

SLOW = """
import os, signal, sys, time
from http.server import BaseHTTPRequestHandler, HTTPServer
class Ready(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
def end(*_):
    open(sys.argv[2], "a").write(f"{sys.argv[3]} asked\\n")
    time.sleep(0.5)
    open(sys.argv[2], "a").write(f"{sys.argv[3]} ended\\n")
    sys.exit(0)
signal.signal(signal.SIGTERM, end)
while len(sys.argv) > 4 and not os.path.exists(sys.argv[4]):
    time.sleep(0.05)
time.sleep(1)
HTTPServer(("127.0.0.1", int(sys.argv[1])), Ready).serve_forever()
"""


class Up:
    """A box in a process of its own."""

    def __init__(self, data: Path) -> None:
        self.layout = Layout(data)
        command = [sys.executable, str(HERE / "run_box.py"), str(data)]
        environ = {**os.environ, "PYTHONPATH": str(ROOT)}
        self.process = Popen(command, stdout=PIPE, stderr=STDOUT, text=True, env=environ)

    async def until(self, holds: Callable[[Endpoints], bool]) -> Endpoints:
        """Wait until `endpoints.json` is there and says so."""
        async with asyncio.timeout(WAIT_S):
            while self.process.poll() is None:
                try:
                    found = endpoints.read(self.layout.endpoints)
                except SettingsError:
                    found = None
                if found is not None and holds(found):
                    return found
                await asyncio.sleep(0.1)
        raise AssertionError(f"up ended with status {self.process.returncode}: {self.output()}")

    def output(self) -> str:
        return self.process.communicate(timeout=WAIT_S)[0]


@pytest.fixture
def up(tmp_path: Path) -> Iterator[Up]:
    started = Up(tmp_path / "data")
    yield started
    if started.process.poll() is None:
        started.process.terminate()
        started.output()


def runs(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):  # it may end between opening and reading
        return False
    return state != "Z"


async def until_gone(pids: list[int]) -> None:
    async with asyncio.timeout(WAIT_S):
        while any(runs(pid) for pid in pids):  # noqa: ASYNC110 - the kernel tells nobody but the parent
            await asyncio.sleep(0.05)


@pytest.mark.parametrize("victim", ["ingest", "kafka"])
async def test_a_killed_process_is_started_again_and_its_new_id_written(up: Up, victim: str) -> None:
    before = await up.until(lambda _: True)
    os.kill(before.processes[victim], signal.SIGKILL)
    after = await up.until(lambda found: found.processes[victim] != before.processes[victim])
    assert after.kafka == before.kafka
    others = set(before.processes) - {victim}
    assert {name: after.processes[name] for name in others} == {name: before.processes[name] for name in others}


async def test_addresses_that_cannot_be_written_take_nothing_down_and_are_written_once_they_can(up: Up) -> None:
    before = await up.until(lambda _: True)
    in_the_way = up.layout.endpoints.with_name(".endpoints.json.new")
    in_the_way.mkdir()
    os.kill(before.processes["ingest"], signal.SIGKILL)
    await until_gone([before.processes["ingest"]])
    assert up.process.stdout is not None
    while "was not written" not in await asyncio.to_thread(up.process.stdout.readline):
        assert up.process.poll() is None
    in_the_way.rmdir()
    after = await up.until(lambda found: found.processes["ingest"] != before.processes["ingest"])
    assert after.processes["kafka"] == before.processes["kafka"]


async def test_ctrl_c_stops_everything_and_takes_the_addresses_away(up: Up) -> None:
    found = await up.until(lambda _: True)
    up.process.send_signal(signal.SIGINT)
    output = up.output()
    assert up.process.returncode == 0
    assert "Traceback" not in output
    assert not up.layout.endpoints.exists()
    assert not any(runs(pid) for pid in found.processes.values())


async def test_no_child_outlives_an_up_that_was_killed_and_the_next_one_starts(up: Up) -> None:
    found = await up.until(lambda _: True)
    up.process.kill()
    up.output()
    await until_gone(list(found.processes.values()))
    again = Up(up.layout.root)
    try:
        await again.until(lambda later: later.processes["kafka"] != found.processes["kafka"])
    finally:
        again.process.terminate()
        again.output()


async def test_a_second_up_on_the_directory_is_refused_and_the_first_goes_on(up: Up) -> None:
    found = await up.until(lambda _: True)
    second = Up(up.layout.root)
    output = second.output()
    assert second.process.returncode == 2
    assert f"process id {up.process.pid}" in output
    assert all(runs(pid) for pid in found.processes.values())
    assert up.layout.endpoints.exists()


async def test_a_box_comes_back_on_a_disk_that_other_files_have_filled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Less is free than a first start takes."""
    said: list[str] = []
    async with OneBox(tmp_path / "data", ports="free", services=stubs, clock=SystemClock(), say=said.append):
        pass
    monkeypatch.setattr(box_module, "measure", lambda _: Disk(size_bytes=40 * GIB, free_bytes=GIB // 2))
    async with OneBox(tmp_path / "data", ports="free", services=stubs, clock=SystemClock(), say=said.append) as again:
        assert again.processes.keys() == {"kafka", "ingest", "archive"}
    assert any(line.startswith("only 512 MiB of the disk are free") for line in said)


async def test_a_simulator_listens_before_the_city_is_registered_and_ends_after_the_services(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else ingest would find a camera that refuses it, or lose one that is fine."""
    diary = tmp_path / "diary"
    reserved = reserve({"camera": 0})
    port = reserved.ports["camera"]

    def slow(name: str, at: int) -> list[str]:
        return [sys.executable, "-c", SLOW, str(at), str(diary), name]

    async def prepare_and_let_go(kafka: Kafka, *, free_disk_bytes: int) -> None:
        """The city comes next: nothing but the wait for its port gives the camera time."""
        await prepare_topics(kafka, free_disk_bytes=free_disk_bytes)
        (tmp_path / "go").touch()

    async def register(_kafka: Kafka) -> None:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.close()
        diary.write_text("registered\n")

    monkeypatch.setattr(box_module, "prepare_topics", prepare_and_let_go)
    box = OneBox(
        tmp_path / "data",
        ports="free",
        services=lambda _, ports: [
            Program(name="ingest", command=slow("ingest", ports["ingest ops"]), ops_port=ports["ingest ops"])
        ],
        beside=[Program(name="camera", command=[*slow("camera", port), str(tmp_path / "go")], port=port)],
        register=register,
        reserved=reserved,
        clock=SystemClock(),
        say=print,
    )
    async with box:
        pass
    assert diary.read_text().splitlines() == [
        "registered", "ingest asked", "ingest ended", "camera asked", "camera ended",
    ]  # fmt: skip
