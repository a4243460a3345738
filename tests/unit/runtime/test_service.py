"""A process starts, says how it is, stops when asked, and ends even when something hangs."""

import asyncio
import gc
import json
import os
import resource
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable

import aiohttp
import pytest

from services.runtime.clock import FakeClock, SystemClock
from services.runtime.errors import RetryLater, SettingsError
from services.runtime.service import LoopThread, ServiceContext, _Deadline, _ops_app, freeze_garbage, run_service
from services.runtime.settings import OpsSettings

ANY_PORT = OpsSettings(port=0)


def run(main: Callable[[ServiceContext], Awaitable[None]], *, shutdown_s: float = 30.0) -> int:
    return run_service("gateway", main, ops=ANY_PORT, clock=SystemClock(), shutdown_s=shutdown_s)


def lines(text: str) -> list[dict[str, object]]:
    return [json.loads(line) for line in text.splitlines()]


async def nothing(_context: ServiceContext) -> None:
    pass


def test_a_main_that_returns_ends_with_0() -> None:
    assert run(nothing) == 0


def test_a_service_may_open_as_many_files_as_the_machine_lets_it() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard - 1, hard))
    try:
        run(nothing)
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (hard, hard)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])
def test_a_signal_asks_main_to_stop(number: signal.Signals) -> None:
    async def main(context: ServiceContext) -> None:
        os.kill(os.getpid(), number)
        await context.stopping.wait()
        assert context.readiness() == (False, "stopping")

    assert run(main) == 0


def test_wrong_settings_end_with_2_and_without_a_traceback(capfd: pytest.CaptureFixture[str]) -> None:
    async def main(_context: ServiceContext) -> None:
        raise SettingsError("city.yaml:3: kind: must be one of bell, light")

    assert run(main) == 2
    last = lines(capfd.readouterr().err)[-2]
    assert last["event"] == "service.refused_settings"
    assert "exception" not in last


def test_wrong_settings_inside_a_task_group_end_with_2() -> None:
    async def main(_context: ServiceContext) -> None:
        async def wrong() -> None:
            raise SettingsError("no")

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(wrong())

    assert run(main) == 2


def test_our_own_mistake_ends_with_1_and_is_told_with_its_traceback(capfd: pytest.CaptureFixture[str]) -> None:
    async def main(_context: ServiceContext) -> None:
        raise ZeroDivisionError("rtsp://u:hunter2@h/a")

    assert run(main) == 1
    written = capfd.readouterr().err
    assert "ZeroDivisionError" in str(lines(written)[-2]["exception"])
    assert "hunter2" not in written


def test_the_outside_world_failing_ends_with_1_and_one_sentence(capfd: pytest.CaptureFixture[str]) -> None:
    async def main(_context: ServiceContext) -> None:
        raise RetryLater("no broker answered")

    assert run(main) == 1
    assert "exception" not in lines(capfd.readouterr().err)[-2]


def test_a_busy_ops_port_is_named_with_its_cure(capfd: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert run_service("gateway", nothing, ops=OpsSettings(port=port), clock=SystemClock()) == 2
    told = [line.get("detail") for line in lines(capfd.readouterr().err)]
    assert f"port {port} is in use by another program: stop it or set ops.port" in told


def test_a_second_signal_ends_the_process_at_once() -> None:
    ended: list[int] = []

    async def main(context: ServiceContext) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        await context.stopping.wait()
        gone = asyncio.Event()
        exits.append(gone.set)
        os.kill(os.getpid(), signal.SIGTERM)
        await gone.wait()

    exits: list[Callable[[], None]] = []

    def exit_now(status: int) -> None:
        ended.append(status)
        exits[0]()

    run_service("gateway", main, ops=ANY_PORT, clock=SystemClock(), exit_now=exit_now)
    assert ended == [1]


def test_a_main_that_hangs_is_ended_hard_after_the_deadline() -> None:
    program = (
        "import os, signal\n"
        "from services.runtime.clock import SystemClock\n"
        "from services.runtime.service import run_service\n"
        "from services.runtime.settings import OpsSettings\n"
        "async def main(context):\n"
        "    os.kill(os.getpid(), signal.SIGTERM)\n"
        "    await context.stopping.wait()\n"
        "    while True: pass\n"
        "run_service('x', main, ops=OpsSettings(port=0), clock=SystemClock(), shutdown_s=0.05)\n"
        "raise SystemExit(0)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 1
    assert lines(done.stderr)[-1]["event"] == "service.ended_hard"


def test_a_deadline_that_was_met_ends_nothing() -> None:
    ended: list[int] = []
    with _Deadline(1000.0, ended.append) as deadline:
        deadline.start()
        deadline.start()
    assert ended == []


def test_what_main_leaves_running_ends_with_it() -> None:
    cancelled: list[bool] = []

    async def forever() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.append(True)

    async def main(_context: ServiceContext) -> None:
        kept.append(asyncio.get_running_loop().create_task(forever()))
        await asyncio.sleep(0)

    kept: list[asyncio.Task[None]] = []
    assert run(main) == 0
    assert cancelled == [True]


# --- health -----------------------------------------------------------------------------------


def context(clock: FakeClock) -> ServiceContext:
    return ServiceContext("gateway", clock=clock)


async def test_a_loop_that_stands_still_is_named() -> None:
    clock = FakeClock()
    here = context(clock)
    here.beat("poll", stale_s=5)
    here.beat("other", stale_s=50)
    await clock.advance(5)
    assert here.stale_loops() == {}
    await clock.advance(0.001)
    assert list(here.stale_loops()) == ["poll"]


async def test_a_loop_that_ended_on_purpose_is_not_missed() -> None:
    clock = FakeClock()
    here = context(clock)
    here.beat("poll", stale_s=5)
    here.forget("poll")
    await clock.advance(60)
    assert here.stale_loops() == {}


async def test_a_service_is_not_ready_until_it_says_so() -> None:
    here = context(FakeClock())
    assert here.readiness() == (False, "starting")
    here.ready(True)
    assert here.readiness() == (True, "")


async def get(port: int, path: str) -> tuple[int, str]:
    async with aiohttp.ClientSession() as http, http.get(f"http://127.0.0.1:{port}{path}") as answer:
        return answer.status, await answer.text()


def ops_answers(prepare: Callable[[ServiceContext], None], *paths: str) -> list[tuple[int, str]]:
    """Return what the ops port answers while a service runs."""
    answers: list[tuple[int, str]] = []

    async def main(_context: ServiceContext) -> None:
        prepare(_context)
        from services.runtime.http_server import serve

        async with serve(_ops_app(_context), ANY_PORT) as port:
            answers.extend([await get(port, path) for path in paths])

    assert run(main) == 0
    return answers


def test_the_ops_port_answers_probes_and_scrapes() -> None:
    health, ready, scrape = ops_answers(lambda here: here.ready(True), "/healthz", "/readyz", "/metrics")
    assert (health[0], ready[0]) == (200, 200)
    assert 'safealley_build_info{service="gateway"' in scrape[1]
    assert "safealley_event_loop_lag_seconds_bucket" in scrape[1]


def test_a_service_that_is_not_ready_answers_503_with_its_reason() -> None:
    (answer,) = ops_answers(lambda here: here.ready(False, "restoring state"), "/readyz")
    assert answer[0] == 503
    assert json.loads(answer[1]) == {"ready": False, "reason": "restoring state"}


def test_statusz_shows_what_was_registered_and_hides_user_info() -> None:
    def prepare(here: ServiceContext) -> None:
        here.status("cameras", lambda: {"owned": 3, "last": "rtsp://u:hunter2@h/a"})

    (answer,) = ops_answers(prepare, "/statusz")
    assert json.loads(answer[1])["cameras"] == {"owned": 3, "last": "rtsp://***@h/a"}


def test_one_broken_status_does_not_hide_the_others() -> None:
    def broken() -> int:
        raise KeyError("x")

    def prepare(here: ServiceContext) -> None:
        here.status("broken", broken)
        here.status("whole", lambda: 1)

    (answer,) = ops_answers(prepare, "/statusz")
    assert answer[0] == 200
    shown = json.loads(answer[1])
    assert (shown["broken"], shown["whole"]) == ({"error": "KeyError"}, 1)


def test_freezing_moves_what_is_alive_out_of_the_collectors_way() -> None:
    freeze_garbage()
    try:
        assert gc.get_freeze_count() > 0
    finally:
        gc.unfreeze()


# --- a thread with its own loop ---------------------------------------------------------------


async def until(stop: asyncio.Event) -> None:
    await stop.wait()


async def test_a_loop_thread_stops_when_the_service_stops() -> None:
    names: list[str] = []

    async def main(stop: asyncio.Event) -> None:
        names.append(threading.current_thread().name)
        await stop.wait()

    stopping = asyncio.Event()
    stopping.set()
    await LoopThread("alarms", main, stop_s=5).run(stopping)
    assert names in ([], ["alarms"])


async def test_an_error_in_the_thread_reaches_whoever_runs_it() -> None:
    async def main(_stop: asyncio.Event) -> None:
        raise RetryLater("no broker")

    with pytest.raises(RetryLater, match="no broker"):
        await LoopThread("alarms", main, stop_s=5).run(asyncio.Event())


async def test_a_thread_that_returns_ends_its_run() -> None:
    async def main(_stop: asyncio.Event) -> None:
        return

    await LoopThread("alarms", main, stop_s=5).run(asyncio.Event())


async def test_a_thread_that_does_not_stop_is_named() -> None:
    release = threading.Event()

    async def main(_stop: asyncio.Event) -> None:
        started.set()
        release.wait()  # blocks its own loop

    started = threading.Event()
    stopping = asyncio.Event()
    running = asyncio.create_task(LoopThread("alarms", main, stop_s=0.01).run(stopping))
    await asyncio.to_thread(started.wait)
    stopping.set()
    try:
        with pytest.raises(TimeoutError, match="the thread alarms did not stop"):
            await running
    finally:
        release.set()


async def test_cancelling_the_run_stops_the_thread() -> None:
    ended = threading.Event()
    started = threading.Event()

    async def main(stop: asyncio.Event) -> None:
        started.set()
        await stop.wait()
        ended.set()

    running = asyncio.create_task(LoopThread("alarms", main, stop_s=5).run(asyncio.Event()))
    await asyncio.to_thread(started.wait)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert ended.is_set()
