"""One session per owned camera; a change touches its own camera; states, gaps and alarms at each edge."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from services.contracts import codec
from services.contracts.claim import Claim
from services.contracts.device import Device
from services.contracts.fragment import Fragment, VideoEnd, read_video_headers
from services.contracts.gap import Gap, GapClosed
from services.contracts.stream import StreamState
from services.contracts.topics import CLAIMS, STREAMS, VIDEO
from services.ingest.live import LiveCamera
from services.ingest.media_types import (
    CameraTarget,
    ClosedFragment,
    EndDetail,
    FragmentSink,
    InitSegment,
    LiveFragment,
    RetryHint,
    SessionEnd,
    SessionPhase,
)
from services.ingest.ownership import CameraClaim, FootageWatch, StaticAssigner
from services.ingest.publisher import VideoPublisher
from services.ingest.ramp import Ramp
from services.ingest.recorder import Parts
from services.ingest.registry import Registry
from services.ingest.streams_log import StreamsLog
from services.ingest.supervisor import Supervisor
from services.runtime.claims import ClaimsLog
from services.runtime.clock import FakeClock, settle
from services.runtime.kafka_port import Outgoing, ProducerProfile, TopicSpec
from services.runtime.memory_kafka import MemoryKafka
from services.runtime.metrics import REGISTRY
from services.runtime.settings import SecretStore

INIT = InitSegment(data=b"ftypmoov", sha256="aa", codec="avc1.64001f", width=640, height=360)


class FakeSession:
    """A camera session that a test drives."""

    def __init__(self, target: CameraTarget, sink: FragmentSink, clock: FakeClock) -> None:
        self.target = target
        self.sink = sink
        self.clock = clock
        self.watched = False
        self._ended: asyncio.Future[SessionEnd] = asyncio.get_running_loop().create_future()

    async def run(self) -> SessionEnd:
        self.sink.phase(SessionPhase.CONNECTING, "")
        return await self._ended

    def request_stop(self) -> None:
        self.end(None, EndDetail.REQUESTED)

    def watch(self, watched: bool) -> None:
        self.watched = watched

    def newest_gop(self) -> list[LiveFragment]:
        return []

    def record(self, seconds: int = 1, *, keyframe: bool = True) -> None:
        self.sink.phase(SessionPhase.RECORDING, "")
        now_us = self.clock.now_us()
        for second in range(seconds):
            start_us = now_us + second * 1_000_000
            self.sink.fragment(
                ClosedFragment(
                    data=memoryview(bytearray(b"moofmdat")), sha256="bb", init=INIT, run=0, start_us=start_us,
                    wall_us=1_000_000, media_start_90k=0, media_90k=90_000, rtp_start_90k=0, recv_first_us=start_us,
                    recv_last_us=start_us, camera_offset_ms=None, rate_wrong=False, keyframe=keyframe,
                    broken_refs=False, signed_sei="absent", units=25,
                )
            )  # fmt: skip

    def end(self, cause: Any, detail: EndDetail, retry: RetryHint = RetryHint.NORMAL) -> None:
        if not self._ended.done():
            self._ended.set_result(
                SessionEnd(
                    cause=cause, detail=detail, retry=retry, rtsp_status=200, error_number=None, first_seq=None,
                    last_seq=None, last_unit_us=None, last_end_us=None, evidence={},
                )
            )  # fmt: skip

    def crash(self) -> None:
        self._ended.set_exception(ValueError("our own mistake"))


class Bench:
    """A running supervisor on memory_kafka."""

    def __init__(self, kafka: MemoryKafka, clock: FakeClock, secrets_dir: Path) -> None:
        self.kafka = kafka
        self.clock = clock
        self.sessions: list[FakeSession] = []
        self.alarms: list[tuple[str, bool, str]] = []
        self.unplaced: list[int] = []
        self.door_open = True
        self.stopping = asyncio.Event()
        self.claims = ClaimsLog(kafka, clock)
        self.publisher = VideoPublisher(kafka, capacity_bytes=1_000_000, clock=clock, host_clock=lambda: "synced")
        self.streams = StreamsLog(kafka, clock=clock)
        self.supervisor = Supervisor(
            StaticAssigner(max_streams=3, max_mbps=100),
            parts=Parts(
                publisher=self.publisher,
                streams=self.streams,
                ramp=Ramp(connects_per_s=1_000, handshakes_per_host=2, clock=clock),
                secrets=SecretStore(secrets_dir),
                sessions=self._session,
                offline_alarm=self._offline_alarm,
                writer="ingest-0",
                offline_alarm_s=2.0,
                clock=clock,
            ),
            claims=lambda camera_id: CameraClaim(
                camera_id, self.claims, owner="ingest-0", live_url="ws://127.0.0.1:1/", clock=clock
            ),
            live=lambda camera_id, stream: LiveCamera(key=(camera_id, stream.name)),
            footage=FootageWatch(kafka, clock=clock),
            unplaced_alarm=self._unplaced_alarm,
            clock=clock,
        )

    def _session(self, target: CameraTarget, sink: FragmentSink) -> FakeSession:
        session = FakeSession(target, sink, self.clock)
        self.sessions.append(session)
        return session

    def _offline_alarm(self, device: Device, active: bool, _since_us: int, detail: str) -> bool:
        self.alarms.append((device.device_id, active, detail))
        return True

    def _unplaced_alarm(self, count: int) -> bool:
        if self.door_open:
            self.unplaced.append(count)
        return self.door_open

    async def apply(self, registry: Registry) -> None:
        self.supervisor.apply(registry)
        await settle()

    def videos(self) -> list[Fragment | VideoEnd]:
        return [read_video_headers(record.headers) for record in self.kafka.records(VIDEO.name)]

    def bodies(self) -> list[Any]:
        return [codec.decode_event(one.headers, one.value).body for one in self.kafka.records(STREAMS.name)]

    def claimed(self) -> list[Claim]:
        return [codec.decode(one.value or b"", Claim) for one in self.kafka.records(CLAIMS.name)]

    def states(self) -> list[str]:
        return [one.state for one in self.bodies() if isinstance(one, StreamState)]

    def still_open(self) -> list[tuple[str, str, str]]:
        """Return camera, cause and detail of the gaps that nobody closed."""
        closed = {gap.gap_id for gap in self.gaps() if gap.to_us is not None}
        return [(gap.camera_id, gap.cause, gap.detail) for gap in self.gaps() if gap.gap_id not in closed]

    def gaps(self) -> list[Gap]:
        return [one for one in self.bodies() if isinstance(one, Gap)]


@asynccontextmanager
async def bench(clock: FakeClock, secrets_dir: Path) -> AsyncIterator[Bench]:
    kafka = MemoryKafka(clock=clock)
    await kafka.create_topics(
        [TopicSpec(name=topic.name, partitions=1, settings={}) for topic in (VIDEO, STREAMS, CLAIMS)]
    )
    made = Bench(kafka, clock, secrets_dir)
    async with made.claims.open():
        others = [asyncio.create_task(made.publisher.run()), asyncio.create_task(made.streams.run())]
        running = asyncio.create_task(made.supervisor.run(made.stopping))
        await clock.advance(0.1)
        yield made
        made.stopping.set()
        await _through(clock, running)
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)


@asynccontextmanager
async def watching(clock: FakeClock, secrets_dir: Path, *devices: Device) -> AsyncIterator[Bench]:
    """These are registered, and their first sessions are begun."""
    async with bench(clock, secrets_dir) as made:
        await made.apply(city(*devices))
        await clock.advance(0.5)
        yield made


async def _through(clock: FakeClock, task: "asyncio.Task[None]") -> None:
    for _ in range(100):
        if task.done():
            break
        await clock.advance(0.1)
    await task


def city(*cameras: Device) -> Registry:
    return Registry(devices={camera.device_id: camera for camera in cameras})


def named(camera: Device, name: str, **changes: Any) -> Device:
    return msgspec.structs.replace(camera, device_id=name, **changes)


async def test_a_camera_is_claimed_at_its_first_key_picture_and_not_before(
    clock: FakeClock, secrets_dir: Path, registered_camera: Device
) -> None:
    async with watching(clock, secrets_dir, registered_camera) as made:
        made.sessions[0].record(keyframe=False)
        await clock.advance(1)
        assert made.kafka.records(CLAIMS.name) == []
        made.sessions[0].record()
        await clock.advance(1)

        (claim,) = made.kafka.records(CLAIMS.name)
        assert claim.key == registered_camera.device_id
        assert [(one.run, one.seq) for one in made.videos()] == [(0, 0), (0, 1)]


async def test_a_session_tells_once_how_long_its_first_picture_took(
    clock: FakeClock, secrets_dir: Path, registered_camera: Device
) -> None:
    def told(what: str) -> float:
        return REGISTRY.get_sample_value(f"safealley_ingest_session_handshake_seconds_{what}") or 0.0

    count, seconds = told("count"), told("sum")
    async with watching(clock, secrets_dir, registered_camera) as made:
        made.sessions[0].record()
        made.sessions[0].sink.phase(SessionPhase.STALLED, "")
        made.sessions[0].record()

    assert told("count") - count == 1
    assert told("sum") - seconds == pytest.approx(0.5)


async def test_a_camera_that_goes_away_is_told_at_once_and_alarmed_after_the_limit(
    clock: FakeClock, secrets_dir: Path, registered_camera: Device
) -> None:
    async with watching(clock, secrets_dir, registered_camera) as made:
        made.sessions[0].record()
        await clock.advance(1)
        made.sessions[0].end("device_offline", EndDetail.STALL)
        await settle()
        assert made.states()[-1] == "offline"
        assert [gap.to_us for gap in made.gaps()] == [None]
        cleared = (registered_camera.device_id, False, "")
        assert made.alarms == [cleared]
        await clock.advance(4)
        assert made.alarms[1:] == [(registered_camera.device_id, True, "stall")]

        made.sessions[-1].record()
        await clock.advance(1)
        assert made.alarms[2:] == [cleared]
        assert isinstance(made.gaps()[-1], GapClosed)
        assert made.states()[-1] == "recording"


async def test_an_alarm_of_an_earlier_process_is_cleared_with_the_first_pictures(
    clock: FakeClock, secrets_dir: Path, registered_camera: Device
) -> None:
    async with bench(clock, secrets_dir) as made:
        await made.apply(city(registered_camera))
        await clock.advance(1.5)
        assert made.alarms == []
        made.sessions[0].record()
        await clock.advance(3)
        assert made.alarms == [(registered_camera.device_id, False, "")]


async def test_an_alarm_is_cleared_when_the_camera_is_found_at_its_new_address(
    clock: FakeClock, secrets_dir: Path, registered_camera: Device
) -> None:
    async with watching(clock, secrets_dir, registered_camera) as made:
        made.sessions[0].end("device_offline", EndDetail.REFUSED)
        await clock.advance(4)
        assert made.alarms == [(registered_camera.device_id, True, "refused")]
        stream = msgspec.structs.replace(registered_camera.streams[0], url="rtsp://10.0.0.9:554/second")
        await made.apply(city(msgspec.structs.replace(registered_camera, revision=2, streams=(stream,))))
        await clock.advance(2)
        assert len(made.alarms) == 1
        made.sessions[-1].record()
        await clock.advance(1)
        assert made.alarms[1:] == [(registered_camera.device_id, False, "")]


async def test_an_alarm_is_cleared_when_the_camera_is_not_wanted_any_more_but_not_when_the_process_ends(
    clock: FakeClock, secrets_dir: Path, registered_camera: Device
) -> None:
    one, other = named(registered_camera, "one"), named(registered_camera, "other")
    async with watching(clock, secrets_dir, one, other) as made:
        for session in made.sessions:
            session.end("device_offline", EndDetail.REFUSED)
        await clock.advance(4)
        await made.apply(city(named(one, "one", revision=2, enabled=False), other))
        await clock.advance(1)
    assert made.alarms == [("one", True, "refused"), ("other", True, "refused"), ("one", False, "")]


async def test_one_stream_of_a_camera_does_not_clear_what_the_other_raised(
    clock: FakeClock, secrets_dir: Path, registered_camera: Device
) -> None:
    sub = msgspec.structs.replace(registered_camera.streams[0], name="sub")
    both = msgspec.structs.replace(registered_camera, record="both", streams=(*registered_camera.streams, sub))
    async with watching(clock, secrets_dir, both) as made:
        made.sessions[0].end("device_offline", EndDetail.REFUSED)
        await clock.advance(4)
        made.sessions[1].record()
        await clock.advance(2)
        assert made.alarms == [(registered_camera.device_id, True, "refused")]
        made.sessions[-1].record()
        await clock.advance(1)
        assert made.alarms[1:] == [(registered_camera.device_id, False, "")]


async def test_seq_goes_on_over_sessions_and_each_run_has_its_end(
    clock: FakeClock, secrets_dir: Path, registered_camera: Device
) -> None:
    async with watching(clock, secrets_dir, registered_camera) as made:
        made.sessions[0].record(2)
        made.sessions[0].end("network_loss", EndDetail.RESET)
        await clock.advance(3)
        made.sessions[1].record()
        await clock.advance(1)

        kinds = [(type(one).__name__, one.run, one.seq) for one in made.videos()]
        assert kinds == [("Fragment", 0, 0), ("Fragment", 0, 1), ("VideoEnd", 0, 1), ("Fragment", 1, 2)]


async def test_a_change_of_one_camera_touches_no_other(
    clock: FakeClock, secrets_dir: Path, registered_camera: Device
) -> None:
    one, other = named(registered_camera, "one"), named(registered_camera, "other")
    async with watching(clock, secrets_dir, one, other) as made:
        assert [session.target.camera_id for session in made.sessions] == ["one", "other"]
        stream = msgspec.structs.replace(one.streams[0], url="rtsp://10.0.0.9:554/second")
        await made.apply(city(named(one, "one", revision=2, streams=(stream,)), other))
        await clock.advance(3)

        assert [session.target.camera_id for session in made.sessions] == ["one", "other", "one"]
        assert made.sessions[2].target.url == "rtsp://10.0.0.9:554/second"


async def test_a_camera_that_moves_on_the_map_keeps_its_session(
    clock: FakeClock, secrets_dir: Path, registered_camera: Device
) -> None:
    async with watching(clock, secrets_dir, registered_camera) as made:
        await made.apply(city(msgspec.structs.replace(registered_camera, revision=2, lon=127.5)))
        await clock.advance(3)

        assert len(made.sessions) == 1


async def test_a_camera_that_is_switched_off_ends_its_run_and_says_so(
    clock: FakeClock, secrets_dir: Path, registered_camera: Device
) -> None:
    async with watching(clock, secrets_dir, registered_camera) as made:
        made.sessions[0].record()
        await clock.advance(0.5)
        await made.apply(city(msgspec.structs.replace(registered_camera, revision=2, enabled=False)))
        await clock.advance(2)

        assert isinstance(made.videos()[-1], VideoEnd)
        assert made.states()[-1] == "disabled"
        assert made.supervisor.status() == []
        assert made.still_open() == [(registered_camera.device_id, "operator_stop", "disabled")]


async def test_a_camera_that_is_off_from_the_start_says_so_once(
    clock: FakeClock, secrets_dir: Path, registered_camera: Device
) -> None:
    off = msgspec.structs.replace(registered_camera, enabled=False)
    async with bench(clock, secrets_dir) as made:
        await made.apply(city(off))
        await made.apply(city(msgspec.structs.replace(off, revision=2)))
        await clock.advance(1)

        assert made.still_open() == [(registered_camera.device_id, "operator_stop", "disabled")]


async def test_a_camera_that_leaves_the_registry_was_removed_by_an_operator(
    clock: FakeClock, secrets_dir: Path, registered_camera: Device
) -> None:
    async with watching(clock, secrets_dir, registered_camera) as made:
        made.sessions[0].record()
        await clock.advance(0.5)
        await made.apply(city())
        await clock.advance(2)

        assert made.still_open() == [(registered_camera.device_id, "operator_stop", "removed")]


async def test_a_stream_that_is_not_recorded_any_more_is_no_restart(
    clock: FakeClock, secrets_dir: Path, registered_camera: Device
) -> None:
    sub = msgspec.structs.replace(registered_camera.streams[0], name="sub")
    both = msgspec.structs.replace(registered_camera, record="both", streams=(*registered_camera.streams, sub))
    async with watching(clock, secrets_dir, both) as made:
        for session in made.sessions:
            session.record()
        await made.apply(city(msgspec.structs.replace(both, revision=2, record="main")))
        await clock.advance(2)

        causes = {gap.stream: (gap.cause, gap.detail) for gap in made.gaps()}
        assert causes == {"main": ("ingest_restart", "restart"), "sub": ("operator_stop", "stream_not_recorded")}


async def test_the_time_after_an_orderly_end_has_a_cause_whether_the_camera_was_there_or_not(
    clock: FakeClock, secrets_dir: Path, registered_camera: Device
) -> None:
    here, away = named(registered_camera, "here"), named(registered_camera, "away")
    async with watching(clock, secrets_dir, here, away) as made:
        for session in made.sessions:
            if session.target.camera_id == "here":
                session.record()
            else:
                session.end("device_offline", EndDetail.REFUSED)
        await clock.advance(0.5)

    assert sorted(made.still_open()) == [("away", "ingest_restart", "restart"), ("here", "ingest_restart", "restart")]
    closed, opened = [gap for gap in made.gaps() if gap.camera_id == "away"][1:]
    assert (closed.cause, closed.to_us) == ("device_offline", opened.from_us)


async def test_a_camera_without_a_place_is_a_gap_of_ours(
    clock: FakeClock, secrets_dir: Path, registered_camera: Device
) -> None:
    cameras = [named(registered_camera, f"cam-{n}") for n in range(4)]
    async with bench(clock, secrets_dir) as made:
        await made.apply(city(*cameras))
        await clock.advance(1)
        assert made.still_open() == [("cam-3", "shed_by_policy", "no_room")]
        await made.apply(city(*cameras[1:]))
        await clock.advance(1)
        assert made.still_open() == [("cam-3", "shed_by_policy", "no_room"), ("cam-0", "operator_stop", "removed")]


async def test_cameras_without_a_place_are_alarmed_until_there_is_room(
    clock: FakeClock, secrets_dir: Path, registered_camera: Device
) -> None:
    cameras = [named(registered_camera, f"cam-{n}") for n in range(5)]
    async with bench(clock, secrets_dir) as made:
        made.door_open = False
        await clock.advance(2)
        await made.apply(city(*cameras))
        await clock.advance(2)
        made.door_open = True
        await clock.advance(3)
        assert made.unplaced == [2]
        await made.apply(city(*cameras[2:]))
        await clock.advance(3)
        assert made.unplaced == [2, 0]


async def test_a_second_claim_ends_our_recording(
    clock: FakeClock, secrets_dir: Path, registered_camera: Device
) -> None:
    async with bench(clock, secrets_dir) as made:
        await made.apply(city(registered_camera))
        await _recorded_and_taken_over(made, registered_camera)

        assert len(made.sessions) == 1
        assert isinstance(made.videos()[-1], VideoEnd)
        assert [line["state"] for line in made.supervisor.status()] == ["taken_over"]


async def test_a_camera_taken_over_is_recorded_again_when_nobody_records_it_any_more(
    clock: FakeClock, secrets_dir: Path, registered_camera: Device
) -> None:
    async with bench(clock, secrets_dir) as made:
        await made.apply(city(registered_camera))
        await _recorded_and_taken_over(made, registered_camera)
        await clock.advance(80)
        assert len(made.sessions) == 2
        made.sessions[1].record()
        await clock.advance(2)

        newest = made.videos()[-1]
        assert isinstance(newest, Fragment)
        assert newest.epoch == max(claim.epoch for claim in made.claimed())
        assert len(made.claimed()) == 3


async def test_a_camera_taken_over_is_left_to_whoever_records_it(
    clock: FakeClock, secrets_dir: Path, registered_camera: Device
) -> None:
    async with bench(clock, secrets_dir) as made:
        await made.apply(city(registered_camera))
        await _recorded_and_taken_over(made, registered_camera)
        async with made.kafka.producer(ProducerProfile.VIDEO) as other:
            for _ in range(200):
                await other.send(fragment_of(registered_camera.device_id, clock.now_us()))
                await clock.advance(1)

        assert len(made.sessions) == 1


async def _recorded_and_taken_over(made: Bench, camera: Device) -> None:
    await made.clock.advance(0.5)
    made.sessions[0].record()
    await made.clock.advance(1)
    other = ClaimsLog(made.kafka, made.clock)
    async with other.open():
        await made.clock.advance(0.5)
        claiming = asyncio.create_task(other.claim(camera.device_id, owner="ingest-1", live_url=None))
        await made.clock.advance(5)
        await claiming


def fragment_of(camera_id: str, at_us: int) -> Outgoing:
    """A fragment as another process sends it, as far as its key tells."""
    return Outgoing(topic=VIDEO.name, key=camera_id, value=b"moofmdat", headers=(), timestamp_ms=at_us // 1000)


async def test_our_own_mistake_in_one_session_ends_neither_it_nor_the_others(
    clock: FakeClock, secrets_dir: Path, registered_camera: Device
) -> None:
    async with watching(clock, secrets_dir, named(registered_camera, "one"), named(registered_camera, "other")) as made:
        made.sessions[0].crash()
        await clock.advance(3)

        assert [session.target.camera_id for session in made.sessions] == ["one", "other", "one"]


async def test_without_its_secret_a_camera_waits_and_connects_once_it_is_there(
    clock: FakeClock, secrets_dir: Path, registered_camera: Device
) -> None:
    async with bench(clock, secrets_dir) as made:
        await made.apply(city(msgspec.structs.replace(registered_camera, secret_ref="cam-secret")))
        await clock.advance(1)
        assert made.sessions == []
        write_secret(secrets_dir)
        await clock.advance(3)

        credentials = made.sessions[0].target.credentials
        assert credentials is not None
        assert (credentials.username, credentials.password) == ("u", "canary")
        assert "canary" not in repr(made.sessions[0].target)


async def test_a_host_gets_two_handshakes_at_a_time_and_what_is_too_much_is_left(
    clock: FakeClock, secrets_dir: Path, registered_camera: Device
) -> None:
    async with bench(clock, secrets_dir) as made:
        await made.apply(city(*(named(registered_camera, f"cam-{n}") for n in range(5))))
        await clock.advance(1)
        assert len(made.sessions) == 2
        made.sessions[0].record()
        await clock.advance(1)

        assert sorted(one.target.camera_id for one in made.sessions) == ["cam-0", "cam-1", "cam-2"]


async def test_who_waits_for_a_turn_at_a_host_that_answers_nobody_ends_at_once(
    clock: FakeClock, secrets_dir: Path, registered_camera: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with bench(clock, secrets_dir) as made:
        await made.apply(city(*(named(registered_camera, f"cam-{n}") for n in range(3))))
        await clock.advance(1)
        assert len(made.sessions) == 2
        for session in made.sessions:
            monkeypatch.setattr(session, "request_stop", lambda: None)
        made.stopping.set()
        await clock.advance(0.1)

        assert made.still_open() == [("cam-2", "ingest_restart", "restart")]
        for session in made.sessions:
            session.end("device_offline", EndDetail.TIMEOUT)


async def test_kafka_away_from_the_start_loses_nothing_that_fits(
    clock: FakeClock, secrets_dir: Path, registered_camera: Device
) -> None:
    async with bench(clock, secrets_dir) as made:
        made.kafka.away = True
        await made.apply(city(registered_camera))
        await clock.advance(0.5)
        made.sessions[0].record(3)
        await clock.advance(30)
        assert made.videos() == []
        made.kafka.away = False
        await clock.advance(30)

        assert [one.seq for one in made.videos()] == [0, 1, 2]
        assert made.states()[0] == "connecting"


def write_secret(secrets_dir: Path) -> None:
    (secrets_dir / "cam-secret").write_text('{"username": "u", "password": "canary"}')


@pytest.mark.parametrize(("max_streams", "ours"), [(0, 0), (1, 1), (5, 3)])
def test_the_static_assigner_takes_all_until_it_is_full(registered_camera: Device, max_streams: int, ours: int) -> None:
    cameras = [named(registered_camera, f"cam-{n}") for n in range(3)]

    placement = StaticAssigner(max_streams=max_streams, max_mbps=100).place(reversed(cameras))

    assert [one.device_id for one in placement.ours] == [f"cam-{n}" for n in range(ours)]
    assert len(placement.unplaced) == 3 - ours
