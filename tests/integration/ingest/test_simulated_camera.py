"""One session against the simulated camera over loopback: dialogue, faults, ends."""

import asyncio
import hashlib
import io
import itertools
import socket
from typing import Any

import av
import pytest

from services.ingest.media_types import CameraTarget, Credentials, EndDetail, RetryHint, SessionEnd, SessionPhase
from services.ingest.rtsp.client import CameraSession, SessionSettings, SharedBuffer
from services.runtime.clock import SystemClock
from services.simulators.camera import Credentials as Asked

KNOWN = Credentials(username="ann", password="p@ss%w")
QUICK = SessionSettings(stall_s=0.6, tick_s=0.1, first_packet_s=0.6)


def session(street: Any, sink: Any, credentials: Credentials | None = KNOWN, **target: Any) -> CameraSession:
    wanted = CameraTarget(camera_id="cam-1", url=street.url, credentials=credentials, **target)
    return CameraSession(wanted, sink, SystemClock(), shared=SharedBuffer(), settings=QUICK)


async def ended(task: "asyncio.Task[SessionEnd]") -> SessionEnd:
    async with asyncio.timeout(10):
        return await task


async def test_every_unit_comes_out_as_the_camera_sent_it(street: Any, waiting_sink: Any) -> None:
    running = session(street, waiting_sink)
    task = asyncio.create_task(running.run())
    await waiting_sink.until(lambda: waiting_sink.units >= 60)
    running.request_stop()
    end = await ended(task)
    assert (end.cause, end.detail) == (None, EndDetail.REQUESTED)
    whole = waiting_sink.fragments[0][0].init.data + b"".join(raw for _, raw in waiting_sink.fragments)
    with av.open(io.BytesIO(whole), "r") as container:
        got = [hashlib.sha256(bytes(packet)).hexdigest() for packet in container.demux(video=0) if packet.size]
    wanted = [unit.sha256 for unit in street.camera.clip.units]
    assert got == [wanted[n % len(wanted)] for n in range(len(got))]
    assert waiting_sink.phases == [
        SessionPhase.CONNECTING,
        SessionPhase.HANDSHAKE,
        SessionPhase.AWAIT_MEDIA,
        SessionPhase.RECORDING,
        SessionPhase.DRAINING,
        SessionPhase.ENDED,
    ]


@pytest.mark.parametrize("scheme", ["digest-md5", "digest-sha256", "basic"])
async def test_each_way_to_sign_in(street: Any, waiting_sink: Any, scheme: Any) -> None:
    street.server.credentials = Asked(username="ann", password="p@ss%w", scheme=scheme)
    running = session(street, waiting_sink, basic_without_tls=True)
    task = asyncio.create_task(running.run())
    await waiting_sink.until(lambda: SessionPhase.RECORDING in waiting_sink.phases)
    running.request_stop()
    assert (await ended(task)).detail is EndDetail.REQUESTED


@pytest.mark.parametrize("given", [None, Credentials(username="ann", password="wrong")])
async def test_wrong_credentials_are_tried_once(street: Any, waiting_sink: Any, given: Credentials | None) -> None:
    end = await ended(asyncio.create_task(session(street, waiting_sink, given).run()))
    assert (end.cause, end.detail, end.retry) == ("device_offline", EndDetail.AUTH_FAILED, RetryHint.AUTH)
    assert end.rtsp_status == 401
    assert street.server.tcp_requests <= 3


async def test_basic_is_not_answered_in_the_clear(street: Any, waiting_sink: Any) -> None:
    street.server.credentials = Asked(username="ann", password="p@ss%w", scheme="basic")
    end = await ended(asyncio.create_task(session(street, waiting_sink).run()))
    assert end.detail is EndDetail.AUTH_FAILED


async def test_a_reset_hands_over_what_is_whole(street: Any, waiting_sink: Any) -> None:
    task = asyncio.create_task(session(street, waiting_sink).run())
    await waiting_sink.until(lambda: bool(waiting_sink.fragments))
    street.camera.fault("drop")
    end = await ended(task)
    assert (end.cause, end.detail) == ("network_loss", EndDetail.RESET)
    assert end.last_end_us == waiting_sink.fragments[-1][0].end_us


async def test_a_camera_that_stops_sending_is_a_stall(street: Any, waiting_sink: Any) -> None:
    task = asyncio.create_task(session(street, waiting_sink).run())
    await waiting_sink.until(lambda: bool(waiting_sink.fragments))
    street.camera.fault("stall")
    end = await ended(task)
    assert (end.cause, end.detail) == ("device_offline", EndDetail.STALL)
    assert SessionPhase.STALLED in waiting_sink.phases


async def test_n12_a_camera_that_plays_and_sends_nothing_is_silent(street: Any, waiting_sink: Any) -> None:
    street.camera.fault("stall")
    end = await ended(asyncio.create_task(session(street, waiting_sink).run()))
    assert (end.cause, end.detail, end.last_end_us) == ("device_offline", EndDetail.SILENT, None)


async def test_a_session_that_still_connects_ends_when_it_is_not_wanted_any_more(waiting_sink: Any) -> None:
    with socket.socket() as deaf, socket.socket() as first:
        # Its queue of one is full, so the kernel answers nobody else: a host that was switched off looks the same.
        deaf.bind(("127.0.0.1", 0))
        deaf.listen(0)
        first.connect(deaf.getsockname())
        target = CameraTarget(camera_id="cam-1", url=f"rtsp://127.0.0.1:{deaf.getsockname()[1]}/", credentials=None)
        settings = SessionSettings(connect_s=3600)
        running = CameraSession(target, waiting_sink, SystemClock(), shared=SharedBuffer(), settings=settings)
        task = asyncio.create_task(running.run())
        await waiting_sink.until(lambda: SessionPhase.CONNECTING in waiting_sink.phases)
        running.request_stop()
        end = await ended(task)
    assert (end.cause, end.detail) == (None, EndDetail.REQUESTED)


async def test_another_ssrc_is_a_run_of_the_same_session(street: Any, waiting_sink: Any) -> None:
    running = session(street, waiting_sink)
    task = asyncio.create_task(running.run())
    await waiting_sink.until(lambda: bool(waiting_sink.fragments))
    street.camera.fault("ssrc")
    await waiting_sink.until(lambda: waiting_sink.fragments[-1][0].run == 1)
    running.request_stop()
    await ended(task)
    spans = [(f.start_us, f.end_us) for f, _ in waiting_sink.fragments]
    assert all(before[1] <= after[0] for before, after in itertools.pairwise(spans))


async def test_a_refused_port_is_an_end_and_not_an_error(street: Any, waiting_sink: Any) -> None:
    await street.server.stop()
    end = await ended(asyncio.create_task(session(street, waiting_sink).run()))
    assert (end.cause, end.detail) == ("device_offline", EndDetail.REFUSED)


async def test_an_address_that_is_not_allowed_is_never_connected_to(street: Any, waiting_sink: Any) -> None:
    target = CameraTarget(camera_id="cam-1", url=street.url)
    running = CameraSession(
        target, waiting_sink, SystemClock(), shared=SharedBuffer(), settings=QUICK, allowed=lambda _address: False
    )
    end = await ended(asyncio.create_task(running.run()))
    assert end.detail is EndDetail.REFUSED
    assert street.server.tcp_requests == 0


async def test_n02_a_camera_without_a_free_slot_says_so(street: Any, waiting_sink: Any) -> None:
    street.camera.clients_max = 0
    end = await ended(asyncio.create_task(session(street, waiting_sink).run()))
    assert (end.rtsp_status, end.retry) == (453, RetryHint.SLOTS_FULL)


async def test_the_password_is_in_no_word_of_the_session(
    street: Any, waiting_sink: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    running = session(street, waiting_sink)
    task = asyncio.create_task(running.run())
    await waiting_sink.until(lambda: SessionPhase.RECORDING in waiting_sink.phases)
    street.camera.fault("drop")
    said = f"{await ended(task)!r}{running._target!r}{waiting_sink.events!r}{capsys.readouterr()}"
    assert "p@ss" not in said
