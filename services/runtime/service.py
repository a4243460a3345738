"""How a process starts, gets ready, runs, drains and stops: signals, one TaskGroup, one deadline.

    def main() -> int:
        settings = load_settings(file)
        return run_service("ingest", partial(app.run, settings), ops=settings.ops, clock=SystemClock())

Exit status: 0 stopped as asked, 1 failed (start it again), 2 wrong settings (starting again is no cure).
"""

import asyncio
import contextlib
import gc
import os
import resource
import signal
import threading
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from typing import Any, Final, Self, TypeVar

import msgspec
import structlog
import uvloop
from aiohttp import web

from services.runtime import log as logs
from services.runtime import metrics
from services.runtime.clock import Clock
from services.runtime.errors import RetryLater, SettingsError, StoppedEarly
from services.runtime.http_server import json_response, make_app, quiet, serve
from services.runtime.settings import OpsSettings

log = structlog.get_logger()

R = TypeVar("R")
Status = Callable[[], Any]
Exit = Callable[[int], object]

CLEAN: Final = 0
FAILED: Final = 1
WRONG_SETTINGS: Final = 2

SHUTDOWN_S: Final = 30.0
STALE_S: Final = 15.0
LAG_EVERY_S: Final = 0.25


class ServiceContext:
    """What a service's main is given: when to stop, and where to say how it is."""

    def __init__(self, name: str, *, clock: Clock, shutdown_s: float = SHUTDOWN_S) -> None:
        self.name = name
        self.clock = clock
        self.shutdown_s = shutdown_s
        self.stopping = asyncio.Event()
        self._ready = False
        self._reason = "starting"
        self._beats: dict[str, tuple[int, float]] = {}
        self._statuses: dict[str, Status] = {}

    def ready(self, ready: bool, reason: str = "") -> None:
        """Say whether this service can serve now; the reason is shown by /readyz."""
        if ready != self._ready:
            log.info("service.readiness_changed", ready=ready, reason=reason)
        self._ready, self._reason = ready, reason

    def beat(self, loop_name: str, *, stale_s: float = STALE_S) -> None:
        """Say that a loop goes round; /healthz fails when it was not said for `stale_s`. From any thread."""
        self._beats[loop_name] = (self.clock.monotonic_ns(), stale_s)

    def forget(self, loop_name: str) -> None:
        """Say that a loop has ended on purpose."""
        self._beats.pop(loop_name, None)

    def status(self, name: str, read: Status) -> None:
        """Show what `read` returns under this name in /statusz. No secrets, no URLs."""
        self._statuses[name] = read

    def stale_loops(self) -> dict[str, float]:
        """Return the loops that stand still, with the seconds since their last beat."""
        ages = {name: (self._age_s(beaten_ns), stale_s) for name, (beaten_ns, stale_s) in self._beats.copy().items()}
        return {name: age_s for name, (age_s, stale_s) in ages.items() if age_s > stale_s}

    def readiness(self) -> tuple[bool, str]:
        """Return whether the service can serve, and why not. One that is stopping cannot."""
        return (False, "stopping") if self.stopping.is_set() else (self._ready, self._reason)

    def report(self) -> dict[str, Any]:
        """Return what /statusz shows."""
        is_ready, reason = self.readiness()
        beats = self._beats.copy()
        return {
            "service": self.name,
            "version": metrics.version(),
            "ready": is_ready,
            "reason": reason,
            "loops_s": {name: round(self._age_s(beaten_ns), 3) for name, (beaten_ns, _) in beats.items()},
            **{name: _read_status(name, read) for name, read in self._statuses.items()},
        }

    def _age_s(self, beaten_ns: int) -> float:
        return (self.clock.monotonic_ns() - beaten_ns) / 1e9


def run_service(
    name: str,
    main: Callable[[ServiceContext], Awaitable[None]],
    *,
    ops: OpsSettings,
    clock: Clock,
    shutdown_s: float = SHUTDOWN_S,
    exit_now: Exit = os._exit,
) -> int:
    """Run a service until it returns or is told to stop; return the status to exit with.

    SIGTERM and SIGINT set `context.stopping`. When main has not returned `shutdown_s` later, or a
    second signal comes, the process ends at once with status 1.
    """
    logs.configure(name)
    metrics.BUILD_INFO.labels(service=name, version=metrics.version()).set(1)
    log.info("service.started", open_files_max=_raise_open_files())
    # The deadline outlives the loop: closing it waits for threads, and they may be what hangs.
    with _Deadline(shutdown_s, exit_now) as deadline:
        status = _verdict(_run(name, main, ops=ops, clock=clock, deadline=deadline))
    log.info("service.stopped", exit_status=status)
    return status


def freeze_garbage() -> None:
    """Call once everything long-lived is there: the collector need not walk it again (hotpath.md)."""
    gc.collect()
    gc.freeze()


def _raise_open_files() -> int:
    """Open as many files as the machine lets us: the usual 1,024 were chosen for select(), which nothing here uses."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    return most


def _verdict(work: Coroutine[Any, Any, None]) -> int:
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(work)
    except Exception as error:  # noqa: BLE001 - the process ends here either way; what is left is to say why
        return _say_why(_sole(error))
    return CLEAN


def _say_why(error: BaseException) -> int:
    if isinstance(error, StoppedEarly):
        log.info("service.stopped_early", detail=str(error))
        return CLEAN
    if isinstance(error, SettingsError):
        log.error("service.refused_settings", detail=str(error))
        return WRONG_SETTINGS
    if isinstance(error, RetryLater):
        log.error("service.failed", detail=str(error), kind=type(error).__name__)
        return FAILED
    log.error("service.failed", detail=str(error), kind=type(error).__name__, exc_info=error)
    return FAILED


def _sole(error: BaseException) -> BaseException:
    """Return what a TaskGroup wrapped: wrong settings if there are any, else its only error, else all."""
    if not isinstance(error, BaseExceptionGroup):
        return error
    inner = [_sole(one) for one in error.exceptions]
    wrong = [one for one in inner if isinstance(one, SettingsError)]
    return wrong[0] if wrong else inner[0] if len(inner) == 1 else error


class _Deadline:
    """Ends the process when stopping takes too long. A thread's timer: the loop may be what hangs."""

    def __init__(self, shutdown_s: float, exit_now: Exit) -> None:
        self.shutdown_s = shutdown_s
        self._exit_now = exit_now
        self._timer = threading.Timer(shutdown_s, self.end_hard, ("deadline",))
        self._timer.daemon = True

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()

    def start(self) -> None:
        if not self._timer.is_alive() and not self._timer.finished.is_set():
            self._timer.start()

    def end_hard(self, reason: str) -> None:
        log.critical("service.ended_hard", reason=reason, shutdown_s=self.shutdown_s)
        self._exit_now(FAILED)


async def _run(
    name: str,
    main: Callable[[ServiceContext], Awaitable[None]],
    *,
    ops: OpsSettings,
    clock: Clock,
    deadline: _Deadline,
) -> None:
    context = ServiceContext(name, clock=clock, shutdown_s=deadline.shutdown_s)
    async with serve(_ops_app(context), ops, setting="ops.port") as port, asyncio.TaskGroup() as tasks:
        meter = tasks.create_task(_measure_lag(context), name="lag meter")
        log.info("service.ops_opened", port=port)
        with _signals(context, deadline):
            try:
                await main(context)
            finally:
                context.stopping.set()
                deadline.start()
                meter.cancel()


@contextlib.contextmanager
def _signals(context: ServiceContext, deadline: _Deadline) -> Iterator[None]:
    """Turn the first signal into `stopping` and a second one into the end."""
    loop = asyncio.get_running_loop()

    def on_signal(number: signal.Signals) -> None:
        if context.stopping.is_set():
            deadline.end_hard("second signal")
            return
        log.info("service.asked_to_stop", signal=number.name, shutdown_s=context.shutdown_s)
        context.stopping.set()
        deadline.start()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal, number)
    try:
        yield
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)


async def _measure_lag(context: ServiceContext) -> None:
    """Beat for the event loop and tell how late its timers fire."""
    loop = asyncio.get_running_loop()
    lag = metrics.EVENT_LOOP_LAG_SECONDS.labels(service=context.name)
    while True:
        context.beat("event_loop")
        due_s = loop.time() + LAG_EVERY_S
        await asyncio.sleep(LAG_EVERY_S)
        lag.observe(max(0.0, loop.time() - due_s))


def _ops_app(context: ServiceContext) -> web.Application:
    app = make_app(identity=None, clock=context.clock)

    @quiet
    async def healthz(_request: web.Request) -> web.Response:
        stale = context.stale_loops()
        return json_response({"alive": not stale, "stale_s": stale}, status=503 if stale else 200)

    @quiet
    async def readyz(_request: web.Request) -> web.Response:
        is_ready, reason = context.readiness()
        return json_response({"ready": is_ready, "reason": reason}, status=200 if is_ready else 503)

    @quiet
    async def statusz(_request: web.Request) -> web.Response:
        body = logs.redact(msgspec.json.encode(context.report(), enc_hook=str))
        return web.Response(body=body, content_type="application/json")

    app.router.add_get("/healthz", healthz)
    app.router.add_get("/readyz", readyz)
    app.router.add_get("/statusz", statusz)
    app.router.add_get("/metrics", quiet(metrics.exposition()))
    return app


def _read_status(name: str, read: Status) -> Any:
    try:
        return read()
    except Exception as error:
        # One broken reading must not hide the others from whoever looks for a fault.
        log.exception("service.status_failed", status=name)
        return {"error": type(error).__name__}


class LoopThread:
    """A thread with an event loop of its own, for what must not wait behind video.

        alarms = LoopThread("alarms", run_alarms, stop_s=10)
        tasks.create_task(alarms.run(context.stopping))     # an error in the thread ends the TaskGroup

    `main` is given an Event of its own loop, set when it has to stop.
    """

    def __init__(self, name: str, main: Callable[[asyncio.Event], Awaitable[None]], *, stop_s: float) -> None:
        self._name = name
        self._main = main
        self._stop_s = stop_s
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._stop_asked = False

    async def run(self, stopping: asyncio.Event) -> None:
        """Run the thread until it returns, fails or `stopping` is set.

        Raises:
            TimeoutError: it did not stop within `stop_s`; only the end of the process stops it now.
            Exception: whatever ended the thread.
        """
        here = asyncio.get_running_loop()
        done: asyncio.Future[None] = here.create_future()
        thread = threading.Thread(target=self._live, args=(here, done), name=self._name, daemon=True)
        thread.start()
        stop = asyncio.ensure_future(stopping.wait())
        try:
            await asyncio.wait((done, stop), return_when=asyncio.FIRST_COMPLETED)
        finally:
            stop.cancel()
            await self._end(done)
            await asyncio.to_thread(thread.join, self._stop_s)

    async def _end(self, done: asyncio.Future[None]) -> None:
        self._stop_asked = True
        if not done.done() and self._loop is not None and self._stop is not None:
            with contextlib.suppress(RuntimeError):  # its loop closed this moment
                self._loop.call_soon_threadsafe(self._stop.set)
        try:
            async with asyncio.timeout(self._stop_s):
                await asyncio.shield(done)
        except TimeoutError:
            if done.done():
                raise
            raise TimeoutError(f"the thread {self._name} did not stop in {self._stop_s} s") from None

    def _live(self, there: asyncio.AbstractEventLoop, done: asyncio.Future[None]) -> None:
        failure: BaseException | None = None
        try:
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                runner.run(self._main_here())
        except BaseException as error:  # noqa: BLE001 - it is raised again by whoever runs the thread
            failure = error
        finally:
            self._loop = None
        with contextlib.suppress(RuntimeError):  # the owner's loop is gone: nobody is left to tell
            there.call_soon_threadsafe(_settle, done, failure)

    async def _main_here(self) -> None:
        self._stop = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        if self._stop_asked:  # before there was a loop to tell
            self._stop.set()
        await self._main(self._stop)


def _settle(done: asyncio.Future[None], failure: BaseException | None) -> None:
    if done.done():
        return
    if failure is None:
        done.set_result(None)
    else:
        done.set_exception(failure)
