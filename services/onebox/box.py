"""One box: Kafka and the four services as child processes, watched, restarted, stopped in order.

`up` shows it to a person; `demo` gives it a city to register and simulators to run beside.
Nothing here outlives us: see processes.py.
"""

import asyncio
import signal
from collections.abc import Awaitable, Callable, Collection, Coroutine, Mapping, Sequence
from pathlib import Path
from random import Random
from typing import IO, Final, Self, TypeVar

from services.onebox import endpoints as addresses
from services.onebox import health, lock
from services.onebox.broker_topics import prepare_topics
from services.onebox.disk import Disk, first_plan, keep_plan, measure, reserve_bytes, statement, warning
from services.onebox.endpoints import Endpoints, Source
from services.onebox.layout import KAFKA_PORTS, Layout, PortChoice, wanted_ports
from services.onebox.local_kafka import LocalKafka
from services.onebox.ports import LOOPBACK, Reservation, reserve
from services.onebox.processes import Child
from services.onebox.programs import MALLOC, Program, four_services
from services.onebox.registry_view import RegistryView, read_registry
from services.onebox.service_settings import make_folders, settings_of_services, write_settings
from services.onebox.settings import REPOSITORY, environment_of_services
from services.onebox.watch import Refused, Watched
from services.runtime.clock import Clock
from services.runtime.errors import SettingsError
from services.runtime.identity import DemoIssuer
from services.runtime.kafka import AioKafka
from services.runtime.kafka_port import Kafka
from services.runtime.retry import retried
from services.runtime.settings import SecretStore

READY_S: Final = 60.0
RECORDING_S: Final = 30.0
SERVICES_STOP_S: Final = 20.0
BESIDE_STOP_S: Final = 3.0
KAFKA_STOP_S: Final = 5.0
BUNDLE: Final = REPOSITORY / "web" / "dist"
KAFKA_TRIES_MAX: Final = 10
Say = Callable[[str], None]
T = TypeVar("T")


class OneBox:
    """Kafka, the four services and what a demo adds. `start`, `wait_ready`, then `run` until stopped, `stop`."""

    def __init__(
        self,
        data: Path,
        *,
        kafka: str | None = None,
        ports: PortChoice = "default",
        services: Callable[[Layout, Mapping[str, int]], Sequence[Program]] = four_services,
        beside: Sequence[Program] = (),
        register: Callable[[Kafka], Awaitable[None]] | None = None,
        sources: Mapping[str, Source] | None = None,
        reserved: Reservation | None = None,
        clock: Clock,
        say: Say,
    ) -> None:
        """Take the data directory and, for a demo, programs to run and a city to register before the services.

        `reserved` holds the ports of the programs beside; it is given back with our own.
        """
        self.layout = Layout(data.resolve())
        self.recording_since_us: int | None = None
        self._choice = ports
        self._given_kafka = kafka
        self._services = services
        self._beside = tuple(beside)
        self._programs: tuple[Program, ...] = ()
        self._register = register
        self._sources = dict(sources or {})
        self._clock = clock
        self._say = say
        self._registry = RegistryView(devices=(), sites=())
        self._lock: IO[str] | None = None
        self._held: Reservation | None = None
        self._reserved = reserved
        self._kafka: LocalKafka | None = None
        self._watched: dict[str, Watched] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._alive: asyncio.Task[None] | None = None
        self._published = addresses.Published(self.layout.endpoints, self.endpoints, clock=clock, say=say)

    @property
    def ports(self) -> Mapping[str, int]:
        if self._held is None:
            raise RuntimeError("the box has no ports before its start")
        return self._held.ports

    @property
    def bootstrap(self) -> str:
        if self._given_kafka is not None:
            return self._given_kafka
        if self._kafka is None:
            raise RuntimeError("the box has no Kafka before its start")
        return self._kafka.bootstrap

    @property
    def local_kafka(self) -> LocalKafka | None:
        return self._kafka

    @property
    def processes(self) -> Mapping[str, int]:
        """Return the process ids of now."""
        return {name: watched.child.pid for name, watched in self._watched.items() if watched.child is not None}

    async def start(self) -> None:
        """Start everything; a failure leaves nothing running once `stop` was called.

        Raises:
            SettingsError: another `up` has this directory, a port is taken, the disk is too small for a first start.
            RetryLater: Kafka could not be fetched or started.
        """
        self._lock = lock.take(self.layout.lock)
        self._published.close()
        disk = measure(self.layout.root)
        has_broker = self._given_kafka is None
        planned = first_plan(self.layout.disk_plan, disk) if has_broker else disk
        self._held = reserve(wanted_ports(self._choice))
        make_folders(self.layout)
        self._say(statement(disk, planned, with_kafka=has_broker))
        if (low := warning(disk)) is not None:
            self._say(low)
        self._say("Kafka starts")
        for program in self._beside:
            await self._start_program(program)  # their interpreters start while the JVM does
        await self._start_kafka()
        kafka = self.kafka_port("up")
        await self._persist(lambda: prepare_topics(kafka, free_disk_bytes=planned.free_bytes), "topics")
        if has_broker:
            keep_plan(self.layout.disk_plan, planned)
        await self._unless_one_fails(self._wait_beside())
        if self._register is not None:
            register = self._register
            await self._persist(lambda: register(kafka), "registry")
        self._registry = await self._persist(lambda: read_registry(kafka), "registry")
        self._write_settings(disk)
        self._say("the services start")
        self._programs = tuple(self._services(self.layout, self.ports))
        for program in self._programs:
            await self._start_program(program)

    async def wait_ready(self, timeout_s: float = READY_S) -> None:
        """Return when every service is ready, what is simulated records, and `endpoints.json` is written.

        Raises:
            RetryLater: some service is not, and why.
            SettingsError: a service refuses its settings.
        """
        await self._unless_one_fails(health.wait_ready(self._ops_ports(), clock=self._clock, timeout_s=timeout_s))
        for watched in self._watched.values():
            watched.settled = True
        self._say(f"the console serves: http://{LOOPBACK}:{self.ports['gateway']}/")
        await self._wait_recording()
        self._published.open()
        self._tasks.append(asyncio.create_task(self._published.keep(), name="endpoints"))
        alive = health.watch_alive(
            self._ops_ports(), pids=lambda: self.processes, clock=self._clock, stuck=self._kill_stuck
        )
        self._alive = asyncio.create_task(alive, name="alive")
        self._tasks.append(self._alive)

    async def run(self, stopping: asyncio.Event) -> None:
        """Watch until told to stop.

        Raises:
            SettingsError: a service refuses its settings.
        """
        told = asyncio.create_task(stopping.wait())
        await asyncio.wait([told, *self._tasks], return_when=asyncio.FIRST_COMPLETED)
        told.cancel()
        self._raise_failure()

    async def stop(self) -> None:
        """End everything within 30 s: the services, then what they serve and what they stand on.

        A camera that went first would be a device that failed.
        """
        if self._lock is not None:
            self._published.close()
        if self._alive is not None:
            self._alive.cancel()  # who is asked to stop soon says nothing more, and does not stand still
        beside = {program.name for program in self._beside}
        await self._stop_those(self._watched.keys() - beside - {"kafka"}, SERVICES_STOP_S)
        await self._stop_those(beside, BESIDE_STOP_S)
        await self._stop_those({"kafka"}, KAFKA_STOP_S)
        if self._kafka is not None:
            await self._kafka.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for held in (self._held, self._reserved):
            if held is not None:
                held.release()
        if self._lock is not None:
            self._lock.close()

    async def __aenter__(self) -> Self:
        try:
            await self.start()
            await self.wait_ready()
        except BaseException:
            await self.stop()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    def kafka_port(self, client_id: str) -> Kafka:
        """Return the port to the box's Kafka."""
        return AioKafka(self.bootstrap, clock=self._clock, client_id=client_id)

    def endpoints(self) -> Endpoints:
        """Return every address as of now."""
        issuer = DemoIssuer(self.layout.identity, clock=self._clock, jurisdictions=self._registry.jurisdictions)
        secrets = SecretStore(self.layout.secrets)
        return Endpoints(
            gateway=f"http://{LOOPBACK}:{self.ports['gateway']}",
            device_door=f"http://{LOOPBACK}:{self.ports['device door']}",
            archive=f"http://{LOOPBACK}:{self.ports['archive']}",
            kafka=self.bootstrap,
            tokens=issuer.tokens(),
            bells=addresses.bells(self._registry.devices, secrets),
            cameras=addresses.cameras(self._registry.devices, self._sources),
            processes=self.processes,
            recording_since_us=self.recording_since_us,
        )

    def kill(self) -> None:
        """Kill every child at once; for the second Ctrl-C."""
        for watched in self._watched.values():
            if watched.child is not None:
                watched.child.signal(signal.SIGKILL)

    async def _start_kafka(self) -> None:
        if self._given_kafka is not None:
            return
        wanted = KAFKA_PORTS if self._choice == "default" else (None, None)
        self._kafka = kafka = LocalKafka(
            self.layout.kafka, port=wanted[0], controller_port=wanted[1], now_us=self._clock.now_us, say=self._say
        )

        async def start() -> Child:
            await kafka.start()
            return kafka.child

        await self._watch("kafka", start)

    def _write_settings(self, disk: Disk) -> None:
        DemoIssuer(self.layout.identity, clock=self._clock)  # its keys must be there before a service reads them
        write_settings(
            self.layout,
            settings_of_services(
                self.layout,
                self.ports,
                bootstrap=self.bootstrap,
                reserve_bytes=reserve_bytes(disk.size_bytes),
                bundle=BUNDLE if BUNDLE.is_dir() else None,
                jurisdictions=self._registry.jurisdictions,
            ),
        )

    async def _persist(self, call: Callable[[], Awaitable[T]], what: str) -> T:
        """Try again for a while: a broker on a busy machine loses itself for a second or two."""
        return await retried(call, what=what, clock=self._clock, random=Random(), attempts_max=KAFKA_TRIES_MAX)  # noqa: S311 - jitter

    async def _start_program(self, program: Program) -> None:
        async def start() -> Child:
            # In the loop's thread: a child is killed when the thread that started it ends.
            return Child(
                program.name,
                program.command,
                log=self.layout.log(program.name),
                environ={**environment_of_services(), **MALLOC, **program.environ},
            )

        await self._watch(program.name, start)

    async def _watch(self, name: str, start: Callable[[], Awaitable[Child]]) -> None:
        watched = Watched(name, start, clock=self._clock, say=self._say, changed=self._published.write)
        await watched.start()
        self._watched[name] = watched
        self._tasks.append(asyncio.create_task(watched.keep(), name=name))

    async def _stop_those(self, names: Collection[str], grace_s: float) -> None:
        """End these beside each other; a start that failed may have come to none of them."""
        stopping = {name: watched for name, watched in self._watched.items() if name in names}
        ended = await asyncio.gather(*(watched.stop(grace_s) for watched in stopping.values()))
        for name, in_time in zip(stopping, ended, strict=True):
            if not in_time:
                self._say(f"{name} did not stop within {grace_s:.0f} s and was killed")

    async def _unless_one_fails(self, waiting: Coroutine[None, None, None]) -> None:
        """Wait for it; a process that failed meanwhile ends the wait with its error."""
        task = asyncio.create_task(waiting)
        try:
            await asyncio.wait([task, *self._tasks], return_when=asyncio.FIRST_COMPLETED)
            if not task.done():
                self._raise_failure()
            await task
        finally:
            task.cancel()

    async def _wait_beside(self) -> None:
        ports = {program.name: program.port for program in self._beside if program.port is not None}
        await health.wait_listening(ports, clock=self._clock, timeout_s=READY_S)

    async def _wait_recording(self) -> None:
        """Wait for what is simulated: a real camera may be away for days."""
        cameras = {device.device_id for device in self._registry.devices if device.kind == "camera" and device.enabled}
        simulated = {camera_id for camera_id in cameras if self._sources.get(camera_id, "camera") != "camera"}
        late: Collection[str] = ()
        if simulated:
            port = self._ops_ports()["ingest"]
            late = await health.wait_recording(port, simulated, clock=self._clock, timeout_s=RECORDING_S)
        if late:
            self._say(f"not recording after {RECORDING_S:.0f} s: {', '.join(sorted(late))}")
        elif cameras:
            self.recording_since_us = self._clock.now_us()

    def _ops_ports(self) -> dict[str, int]:
        return {program.name: program.ops_port for program in self._programs if program.ops_port is not None}

    def _kill_stuck(self, name: str, said: str) -> None:
        child = self._watched[name].child
        if child is not None and child.returncode is None:
            self._say(f"{name} stands still ({said}): killed, to be started again; its log: {self.layout.log(name)}")
            child.signal(signal.SIGKILL)

    def _raise_failure(self) -> None:
        for task in self._tasks:
            error = task.exception() if task.done() and not task.cancelled() else None
            if isinstance(error, Refused):
                raise SettingsError(str(error)) from error
            if error is not None:
                raise error
