"""One task per owned camera. Only the difference of two registries is acted on: no change touches another camera."""

import asyncio
from collections.abc import Callable
from typing import Final

import structlog

from services.contracts.device import CameraStream, Device
from services.contracts.gap import GapCause
from services.ingest import metrics
from services.ingest.ending import end
from services.ingest.gap_ledger import GapLedger
from services.ingest.ownership import Assigner, CameraClaim, FootageWatch, Placement
from services.ingest.recorder import RESTART, LiveView, Parts, Recorder, same_session
from services.ingest.registry import Registry
from services.runtime.clock import Clock
from services.runtime.errors import RetryLater

log = structlog.get_logger()

_TICK_S: Final = 1.0
_LOST_LOOK_S: Final = 60.0
Reason = tuple[GapCause, str]
DISABLED: Final[Reason] = ("operator_stop", "disabled")
REMOVED: Final[Reason] = ("operator_stop", "removed")
NOT_RECORDED: Final[Reason] = ("operator_stop", "stream_not_recorded")
NO_ROOM: Final[Reason] = ("shed_by_policy", "no_room")
TAKEN_OVER: Final = (None, "")


class Camera:
    """An owned camera: its recorders, made anew when what they stand on changes."""

    def __init__(
        self,
        device: Device,
        *,
        parts: Parts,
        claims: Callable[[str], CameraClaim],
        live: Callable[[str, CameraStream], LiveView],
    ) -> None:
        self.device = device
        self._parts = parts
        self._claims = claims
        self._claim = claims(device.device_id)
        self._live = live
        self._wanted: Device | None = device
        self._recorders: list[Recorder] = []
        self._alarmed: bool | None = None
        """Is the offline alarm active? None: an earlier process or owner may have raised it."""

    async def run(self) -> None:
        """Record until retired, or until somebody else claims the camera."""
        while (device := self._wanted) is not None and not self.taken_over:
            # Each life has its own epoch: seq and run count from 0 in it.
            self._claim = self._claims(device.device_id)
            self._recorders = [
                Recorder(
                    device, stream, parts=self._parts, claim=self._claim, live=self._live(device.device_id, stream)
                )
                for stream in recorded_streams(device)
            ]
            async with asyncio.TaskGroup() as tasks:
                for recorder in self._recorders:
                    tasks.create_task(recorder.run(), name=f"recorder {device.device_id}")
        if self.taken_over:
            log.warning("supervisor.camera_taken_over", camera_id=self.device.device_id)

    def become(self, device: Device) -> None:
        """Take a new revision: in place where the session need not know, else by a new session."""
        before, self.device, self._wanted = self.device, device, device
        if same_session(before, device):
            for recorder in self._recorders:
                recorder.device = device
            return
        kept = {stream.name for stream in recorded_streams(device)}
        for recorder in self._recorders:
            recorder.stop(*(RESTART if recorder.stream.name in kept else NOT_RECORDED))

    def retire(self, why: Reason) -> None:
        """Stop for good, and miss it no more."""
        if not self.taken_over:
            self._alarm(active=False, since_us=self._parts.clock.now_us(), detail="")
        self._end(why)

    def stop(self) -> None:
        """Stop because the process does."""
        self._end(RESTART)

    def tick(self, passed_s: float) -> None:
        if self.taken_over:
            for recorder in self._recorders:
                recorder.stop(*TAKEN_OVER)
            return
        for recorder in self._recorders:
            recorder.tick(passed_s)
        self._tell_alarm()

    def status(self) -> list[dict[str, object]]:
        if self.taken_over:
            return [{"id": self.device.device_id, "state": "taken_over"}]
        return [recorder.status() for recorder in self._recorders]

    @property
    def taken_over(self) -> bool:
        """Tell whether somebody claimed the camera after us: we do not record it any more."""
        return self._claim.superseded()

    @property
    def attempted(self) -> bool:
        return bool(self._recorders) and all(recorder.attempted for recorder in self._recorders)

    def _tell_alarm(self) -> None:
        """Raise when one of its streams is away too long; clear when all are recorded, once at least."""
        now_us = self._parts.clock.now_us()
        away = [(since_us, one) for one in self._recorders if (since_us := one.offline_from_us) is not None]
        if away:
            since_us, recorder = min(away, key=lambda pair: pair[0])
            if now_us - since_us >= self._parts.offline_alarm_s * 1e6:
                self._alarm(active=True, since_us=since_us, detail=recorder.detail)
        elif self._recorders and all(recorder.is_recording for recorder in self._recorders):
            self._alarm(active=False, since_us=now_us, detail="")

    def _alarm(self, *, active: bool, since_us: int, detail: str) -> None:
        if self._alarmed is not active and self._parts.offline_alarm(self.device, active, since_us, detail):
            self._alarmed = active

    def _end(self, why: Reason) -> None:
        self._wanted = None
        for recorder in self._recorders:
            recorder.stop(*(TAKEN_OVER if self.taken_over else why))


class Supervisor:
    """`apply` says what is wanted; `run` keeps it so until `stop` has let every camera end."""

    def __init__(
        self,
        assigner: Assigner,
        *,
        parts: Parts,
        claims: Callable[[str], CameraClaim],
        live: Callable[[str, CameraStream], LiveView],
        footage: FootageWatch,
        unplaced_alarm: Callable[[int], bool],
        clock: Clock,
    ) -> None:
        self._assigner = assigner
        self._parts = parts
        self._claims = claims
        self._live = live
        self._footage = footage
        self._unplaced_alarm = unplaced_alarm
        self._clock = clock
        self._cameras: dict[str, Camera] = {}
        self._ending: dict[str, asyncio.Task[None]] = {}
        self._unrecorded: dict[str, Reason] = {}
        self._unplaced_told: bool | None = None
        self._tasks: asyncio.TaskGroup | None = None
        self._registry = Registry()
        self._stopping = False

    def apply(self, registry: Registry) -> None:
        """Start, change and stop cameras so that what runs is what the registry wants."""
        self._registry = registry
        if self._tasks is None or self._stopping:
            return
        placement = self._assigner.place(registry.cameras())
        wanted = {device.device_id: device for device in placement.ours}
        self._leave(registry, _unrecorded(registry, placement))
        for camera_id, device in wanted.items():
            held = self._cameras.get(camera_id)
            if held is None:
                self._start(self._tasks, device)
            elif held.device != device:
                held.become(device)
        metrics.OWNED_CAMERAS.set(len(self._cameras))
        metrics.UNPLACED_CAMERAS.set(len(placement.unplaced))
        if placement.unplaced:
            log.error("supervisor.cameras_unplaced", count=len(placement.unplaced))

    def _leave(self, registry: Registry, unrecorded: dict[str, Reason]) -> None:
        """Stop what is not recorded any more, and say why of all that is registered and not recorded."""
        for camera_id, why in unrecorded.items():
            if camera_id not in self._cameras and self._unrecorded.get(camera_id) != why:
                self._say_unrecorded(registry.devices[camera_id], why)
        for camera_id in [held for held in self._cameras if held in unrecorded or held not in registry.devices]:
            self._cameras.pop(camera_id).retire(unrecorded.get(camera_id, REMOVED))
        self._unrecorded = unrecorded

    def _say_unrecorded(self, device: Device, why: Reason) -> None:
        now_us = self._clock.now_us()
        for stream in recorded_streams(device):
            ledger = GapLedger(device.device_id, stream.name, writer=self._parts.writer, begun_us=now_us)
            for gap in ledger.stopped(now_us, *why):
                self._parts.streams.write(gap)

    async def run(self, stopping: asyncio.Event) -> None:
        """Record until asked to stop, then let every camera end its run and flush."""
        async with asyncio.TaskGroup() as self._tasks:
            ticking = self._tasks.create_task(self._tick(), name="supervisor tick")
            taking_back = self._tasks.create_task(self._take_back(self._tasks), name="supervisor take back")
            self.apply(self._registry)
            await stopping.wait()
            self._stopping = True
            for camera in self._cameras.values():
                camera.stop()
            if self._ending:
                await asyncio.wait(self._ending.values())
            ticking.cancel()
            await end((taking_back,))
        self._tasks = None

    def status(self) -> list[dict[str, object]]:
        return [line for camera in self._cameras.values() for line in camera.status()]

    def all_attempted(self) -> bool:
        """Tell whether every owned camera was tried once."""
        return all(camera.attempted for camera in self._cameras.values())

    def _start(self, tasks: asyncio.TaskGroup, device: Device) -> None:
        camera_id = device.device_id
        camera = Camera(device, parts=self._parts, claims=self._claims, live=self._live)
        self._cameras[camera_id] = camera
        before = self._ending.get(camera_id)
        task = tasks.create_task(self._live_on(camera, before), name=f"camera {camera_id}")
        self._ending[camera_id] = task
        task.add_done_callback(lambda done: self._ended(camera_id, done))

    async def _live_on(self, camera: Camera, before: "asyncio.Task[None] | None") -> None:
        """Wait until an earlier life of this camera has ended: one session per camera."""
        if before is not None:
            await asyncio.wait({before})
        await camera.run()

    def _ended(self, camera_id: str, task: "asyncio.Task[None]") -> None:
        if self._ending.get(camera_id) is task:
            del self._ending[camera_id]
            if camera_id not in self._cameras:
                metrics.forget_camera(camera_id)

    async def _take_back(self, tasks: asyncio.TaskGroup) -> None:
        """Record again what was taken over and is recorded by nobody now.

        Footage decides, not time: of two processes that both want a camera the later one keeps it.
        """
        while True:
            await self._clock.sleep(_LOST_LOOK_S)
            lost = {camera_id for camera_id, camera in self._cameras.items() if camera.taken_over}
            metrics.LOST_CAMERAS.set(len(lost))
            if not lost:
                continue
            log.error("supervisor.cameras_recorded_by_another", count=len(lost))
            try:
                unrecorded = await self._footage.unrecorded(lost)
            except RetryLater as error:
                log.warning("supervisor.take_back_waits", reason=str(error))
                continue
            for camera_id in unrecorded:
                camera = self._cameras.get(camera_id)
                if camera is not None and camera.taken_over and not self._stopping:
                    log.warning("supervisor.camera_taken_back", camera_id=camera_id)
                    self._start(tasks, camera.device)

    async def _tick(self) -> None:
        before_ns = self._clock.monotonic_ns()
        while True:
            await self._clock.sleep(_TICK_S)
            now_ns = self._clock.monotonic_ns()
            for camera in self._cameras.values():
                camera.tick((now_ns - before_ns) / 1e9)
            self._tell_unplaced()
            before_ns = now_ns

    def _tell_unplaced(self) -> None:
        """Raise or clear the alarm; the first word of a process may clear what an earlier one raised."""
        count = sum(why == NO_ROOM for why in self._unrecorded.values())
        if self._registry.devices and self._unplaced_told is not (count > 0) and self._unplaced_alarm(count):
            self._unplaced_told = count > 0


def _unrecorded(registry: Registry, placement: Placement) -> dict[str, Reason]:
    """Return the registered cameras that are not recorded, and why."""
    ours = {device.device_id for device in placement.ours}
    full = {device.device_id for device in placement.unplaced}
    return {
        camera_id: NO_ROOM if camera_id in full else DISABLED
        for camera_id, device in registry.devices.items()
        if device.kind == "camera" and camera_id not in ours
    }


def recorded_streams(device: Device) -> list[CameraStream]:
    """Return the streams that the registry wants recorded."""
    wanted = ("main", "sub") if device.record == "both" else (device.record,)
    return [stream for stream in device.streams if stream.name in wanted]
