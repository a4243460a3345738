"""One camera stream: session after session until it is stopped, with its states and gaps.

It is the session's sink and the lane's listener: facts come in by calls that return at once, and go
out to `video` (lane), `streams` (states and gaps) and the live port.
"""

import asyncio
import contextlib
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol
from urllib.parse import urlsplit

import msgspec
import structlog

from services.contracts.device import CameraStream, Device
from services.contracts.gap import Gap, GapCause, GapClosed
from services.contracts.stream import SessionState, StreamState
from services.contracts.units import UtcMicroseconds
from services.ingest import metrics
from services.ingest.backoff import Backoff
from services.ingest.gap_ledger import GapLedger, Lost
from services.ingest.media_types import (
    CameraTarget,
    ClosedFragment,
    Credentials,
    EndDetail,
    Finding,
    FragmentSink,
    Hole,
    LiveFragment,
    PacketLoss,
    RetryHint,
    RunEnd,
    SessionEnd,
    SessionPhase,
)
from services.ingest.ownership import CameraClaim
from services.ingest.publisher import VideoPublisher
from services.ingest.ramp import Ramp, Slot
from services.ingest.streams_log import StreamsLog
from services.runtime.clock import Clock
from services.runtime.errors import RetryLater, SettingsError, StoppedEarly
from services.runtime.settings import SecretStore
from services.runtime.waits import unless_stopped

log = structlog.get_logger()

STATE_NUMBERS: Final[dict[SessionState, int]] = {
    "connecting": 0, "recording": 1, "stalled": 2, "offline": 3, "disabled": 4,
}  # fmt: skip
RESTART: Final[tuple[GapCause, str]] = ("ingest_restart", "restart")
_FLUSH_S: Final = 6.0


class Session(Protocol):
    """What `rtsp/client.py` offers of one session."""

    async def run(self) -> SessionEnd:
        """Hold the session until it ends."""

    def request_stop(self) -> None:
        """End it politely."""

    def watch(self, watched: bool) -> None:
        """Cut live fragments, or no more."""

    def newest_gop(self) -> list[LiveFragment]:
        """Return what a new viewer needs first."""


class LiveView(Protocol):
    """What the live port is told of one stream."""

    def opened(self, session: Session) -> None:
        """A session runs; ask it for pictures."""

    def recording(self) -> None:
        """There are pictures now: whoever waits for them may watch."""

    def live(self, fragment: LiveFragment) -> None:
        """The newest units, while somebody watches."""

    def closed(self, from_us: UtcMicroseconds, cause: str) -> None:
        """There is no session; no picture since then, and why."""


OfflineAlarm = Callable[[Device, bool, UtcMicroseconds, str], bool]
"""Told the device, active or cleared, since when and why; False: not taken, so say it again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What all recorders share."""

    publisher: VideoPublisher
    streams: StreamsLog
    ramp: Ramp
    secrets: SecretStore
    sessions: Callable[[CameraTarget, FragmentSink], Session]
    offline_alarm: OfflineAlarm
    writer: str
    offline_alarm_s: float
    clock: Clock


class Recorder:
    """`run` until `stop`; `tick` once a second."""

    def __init__(
        self, device: Device, stream: CameraStream, *, parts: Parts, claim: CameraClaim, live: LiveView
    ) -> None:
        self.device = device
        self._stream = stream
        self._series = metrics.CameraSeries(device.device_id)
        self._parts = parts
        self._claim = claim
        self._live = live
        self._clock = parts.clock
        now_us = self._clock.now_us()
        self._ledger = GapLedger(device.device_id, stream.name, writer=parts.writer, begun_us=now_us)
        self._lane = parts.publisher.lane(
            device.device_id, stream.name, retention_class=device.retention_class, listener=self
        )
        self._backoff = Backoff(random.uniform)
        self._stop = asyncio.Event()
        self._stopped_for: tuple[GapCause | None, str] = RESTART
        self._seen_key = asyncio.Event()
        self._session: Session | None = None
        self._slot: Slot | None = None
        self._sessions = 0
        self._begun_s = 0.0
        self._media_from_s: float | None = None
        self._state: SessionState | None = None
        self._state_detail = ""
        self._since_us = now_us
        self._codec: str | None = None
        self.offline_from_us: UtcMicroseconds | None = None

    # --- its life

    async def run(self) -> None:
        """Record until stopped; what was cut is acknowledged or is a gap when this returns."""
        async with asyncio.TaskGroup() as tasks:
            sending = tasks.create_task(self._lane.run(), name=f"lane {self.device.device_id}")
            claiming = tasks.create_task(self._claim_when_seen(), name=f"claim {self.device.device_id}")
            try:
                await self._record_until_stopped()
            finally:
                await self._flush(sending)
                self._close()
                sending.cancel()
                claiming.cancel()

    def stop(self, cause: GapCause | None, detail: str) -> None:
        """Stop; `cause`: of the time from now on. None: somebody else records."""
        self._stopped_for = cause, detail
        self._stop.set()
        if self._session is not None:
            self._session.request_stop()

    def tick(self, passed_s: float) -> None:
        """Count a second that was to be recorded."""
        self._series.expected_seconds.inc(passed_s)

    def status(self) -> dict[str, object]:
        return {
            "id": self.device.device_id,
            "stream": self._stream.name,
            "state": self._state,
            "detail": self._state_detail,
            "since_us": self._since_us,
            "epoch": self._lane.epoch,
        }

    @property
    def stream(self) -> CameraStream:
        return self._stream

    @property
    def is_recording(self) -> bool:
        return self._state == "recording"

    @property
    def detail(self) -> str:
        return self._state_detail

    @property
    def attempted(self) -> bool:
        """Tell whether its first session was tried; readiness waits for that, not for a camera."""
        return self._sessions > 0

    async def _record_until_stopped(self) -> None:
        with contextlib.suppress(StoppedEarly):
            while not self._stop.is_set():
                delay_s = await self._one_session()
                await unless_stopped(self._stop, self._clock.sleep(delay_s))

    async def _one_session(self) -> float:
        """Hold one session; return how long to wait before the next.

        Raises:
            StoppedEarly: stopped while it waited for its turn. A host that does not answer has long queues.
        """
        host = urlsplit(self._stream.url).hostname or ""
        self._slot = await unless_stopped(self._stop, self._parts.ramp.slot(host))
        self._begun_s, self._media_from_s = self._clock.monotonic_ns() / 1e9, None
        self._sessions += 1
        try:
            end = await self._session_end()
        finally:
            self._release_slot()
            self._session = None
        self._ended(end)
        now_s = self._clock.monotonic_ns() / 1e9
        return self._backoff.ended(now_s=now_s, media_from_s=self._media_from_s, hint=end.retry)

    async def _session_end(self) -> SessionEnd:
        try:
            target = self._target()
        except (RetryLater, SettingsError) as error:
            log.warning("recorder.no_secret", camera_id=self.device.device_id, reason=str(error))
            return _made_up_end("device_offline", EndDetail.AUTH_FAILED)
        session = self._session = self._parts.sessions(target, self)
        if self._stop.is_set():
            session.request_stop()
        self._live.opened(session)
        try:
            return await session.run()
        except Exception:
            # One camera's stream must not end the others: our mistake is logged, counted and backed off from.
            log.exception("recorder.session_failed", camera_id=self.device.device_id)
            metrics.CONNECTS.labels("our_mistake").inc()
            return _made_up_end("stream_error", EndDetail.BAD_BITSTREAM)

    def _target(self) -> CameraTarget:
        credentials = None
        if self.device.secret_ref is not None:
            secret = self._parts.secrets.read(self.device.secret_ref)
            if "username" in secret:
                credentials = Credentials(username=secret["username"], password=secret.get("password", ""))
        return CameraTarget(
            camera_id=self.device.device_id,
            url=self._stream.url,
            stream=self._stream.name,
            credentials=credentials,
            basic_without_tls=self.device.basic_without_tls,
            tls_sha256=self._stream.tls_fingerprint,
            tls_verify=self._stream.tls_fingerprint is None,
        )

    def _ended(self, end: SessionEnd) -> None:
        now_us = self._clock.now_us()
        metrics.RECONNECTS.labels(end.cause or "requested").inc()
        self._lane.cut()
        log.info(
            "recorder.session_ended",
            camera_id=self.device.device_id,
            cause=end.cause,
            detail=end.detail.value,
            rtsp_status=end.rtsp_status,
        )
        if end.cause is None or self._stop.is_set():
            return
        self._write(self._ledger.session_ended(end, now_us))
        if self.offline_from_us is None:
            self.offline_from_us = now_us
        self._enter("offline", end.detail.value)
        self._live.closed(end.last_end_us or now_us, end.cause)

    async def _claim_when_seen(self) -> None:
        """Claim once a key picture was seen: a camera that shows nothing is not taken from its owner."""
        await self._seen_key.wait()
        self._lane.claimed(await self._claim.epoch())
        self._say_state()

    async def _flush(self, sending: "asyncio.Task[None]") -> None:
        """Let the lane send what waits, for a while."""
        flushing = asyncio.ensure_future(self._lane.flushed())
        try:
            await asyncio.wait({flushing, sending}, timeout=_FLUSH_S, return_when=asyncio.FIRST_COMPLETED)
        finally:
            flushing.cancel()

    def _close(self) -> None:
        """Name what could not be sent, and why nothing comes after it."""
        for lost in self._lane.abandon():
            self.lost(lost)
        now_us = self._clock.now_us()
        cause, detail = self._stopped_for
        self._write(self._ledger.stopped(now_us, cause, detail))
        self._live.closed(now_us, cause or "ingest_restart")
        if cause in {"operator_stop", "shed_by_policy"}:
            self._enter("disabled", cause)

    # --- what its session says (FragmentSink)

    def phase(self, phase: SessionPhase, detail: str) -> None:
        if phase is SessionPhase.RECORDING:
            self._recording()
        elif phase is SessionPhase.STALLED:
            self._enter("stalled", detail)
        elif self._state is None:
            # While it is offline it stays so until there are pictures: trying again is no news.
            self._enter("connecting", detail)

    def fragment(self, fragment: ClosedFragment) -> None:
        now_us = self._clock.now_us()
        self._codec = fragment.init.codec
        if fragment.keyframe:
            self._seen_key.set()
        self._series.last_frame.set(fragment.end_us / 1e6)
        if fragment.camera_offset_ms is not None:
            self._series.clock_offset.set(fragment.camera_offset_ms / 1e3)
        self._write(self._ledger.footage(fragment.start_us, fragment.end_us, now_us))
        self._lane.put(fragment, self._sessions)

    def live(self, fragment: LiveFragment) -> None:
        self._live.live(fragment)

    def run_ended(self, end: RunEnd) -> None:
        del end  # the lane knows what was sent of it
        self._lane.cut()

    def loss(self, loss: PacketLoss) -> None:
        metrics.ACCESS_UNITS_LOST.labels(self.device.device_id).inc(loss.units)

    def hole(self, hole: Hole) -> None:
        self._write(self._ledger.hole(hole, self._clock.now_us()))

    def finding(self, finding: Finding) -> None:
        log.warning("recorder.finding", camera_id=self.device.device_id, kind=finding.kind, **finding.facts)

    # --- what its lane says (LaneListener)

    def acked(self, start_us: UtcMicroseconds, end_us: UtcMicroseconds) -> None:
        self._series.recorded_seconds.inc(max(0, end_us - start_us) / 1e6)
        self._write(self._ledger.lost_over(self._clock.now_us()))

    def lost(self, lost: Lost) -> None:
        self._write(self._ledger.lost(lost, self._clock.now_us()))

    # --- helpers

    def _recording(self) -> None:
        self._release_slot()
        metrics.CONNECTS.labels("recording").inc()
        if self._media_from_s is None:
            self._media_from_s = self._clock.monotonic_ns() / 1e9
            metrics.HANDSHAKE_SECONDS.observe(self._media_from_s - self._begun_s)
        self.offline_from_us = None
        self._enter("recording", "")
        self._live.recording()

    def _enter(self, state: SessionState, detail: str) -> None:
        if (state, detail) == (self._state, self._state_detail):
            return
        if state != self._state:
            self._since_us = self._clock.now_us()
        self._state, self._state_detail = state, detail
        metrics.SESSION_STATE.labels(self.device.device_id).set(STATE_NUMBERS[state])
        self._say_state()

    def _say_state(self) -> None:
        if self._state is None:
            return
        self._parts.streams.write(
            StreamState(
                camera_id=self.device.device_id,
                stream=self._stream.name,
                state=self._state,
                since_us=self._since_us,
                detail=self._state_detail,
                codec=self._codec,
                epoch=self._lane.epoch,
            )
        )

    def _write(self, gaps: list[Gap]) -> None:
        for gap in gaps:
            self._parts.streams.write(gap)
            if isinstance(gap, GapClosed) and gap.to_us is not None:
                seconds = (gap.to_us - gap.from_us) / 1e6
                metrics.GAP_SECONDS.labels(gap.camera_id, gap.side).inc(seconds)
                metrics.GAP_CAUSE_SECONDS.labels(gap.cause).inc(seconds)

    def _release_slot(self) -> None:
        slot, self._slot = self._slot, None
        if slot is not None:
            slot.release()


def same_session(one: Device, other: Device) -> bool:
    """Tell whether a change of the registry leaves a running session as it is."""
    unrelated = {"revision": 0, "lon": 0.0, "lat": 0.0, "pole_id": "", "hjdong_code": "", "upstream": (), "sees": (),
                 "site_id": "", "jurisdiction": "", "install_purpose": "", "ptz": False}  # fmt: skip
    return msgspec.structs.replace(one, **unrelated) == msgspec.structs.replace(other, **unrelated)


def _made_up_end(cause: GapCause, detail: EndDetail) -> SessionEnd:
    return SessionEnd(
        cause=cause,
        detail=detail,
        retry=RetryHint.NORMAL,
        rtsp_status=None,
        error_number=None,
        first_seq=None,
        last_seq=None,
        last_unit_us=None,
        last_end_us=None,
        evidence={},
    )
