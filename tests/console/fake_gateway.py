"""A gateway in one process without Kafka, ingest or archive, for the tests of the page.

It speaks contracts/console.py and nothing else, so that the same tests pass against the real one.
What a test does to it (raise an alert, freeze a camera, go down) are methods that any thread may call.
"""

import asyncio
import functools
import threading
import uuid
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec
from aiohttp import WSMsgType, web

from services.contracts.alarm import AlarmClass, Condition, DeviceAtReceipt
from services.contracts.alert import (
    Alert,
    AnsweredCommand,
    CommandResult,
    Disposition,
    Isa,
    Occurrence,
    People,
    Priority,
)
from services.contracts.console import (
    CLOSE_SESSION_ENDED,
    LIVE_FRAGMENT,
    LIVE_HEADER,
    LIVE_INIT,
    LIVE_JPEG,
    LIVE_VERSION,
    AckBody,
    CityView,
    ConsoleSays,
    Cursor,
    DemoSignIn,
    DeviceView,
    DisposeBody,
    EventFrame,
    EventItem,
    Heartbeat,
    Hello,
    LiveClientSays,
    LiveDrop,
    LiveErr,
    LiveGap,
    LiveInit,
    Problem,
    Resync,
    SessionView,
    Snapshot,
    SnapshotEnd,
    Sub,
    Unsub,
)  # fmt: skip
from services.contracts.gap import GapCause
from services.contracts.site import Name, Site
from services.contracts.timeline import Timeline, TimelineItem
from services.gateway import bundle
from services.runtime.clock import SystemClock
from tests.console import fake_media

T = TypeVar("T")
ROLES: Final = ("operator", "supervisor", "records_officer", "police_liaison", "auditor", "admin")
HEARTBEAT_S: Final = 1.0
ENTRY_S: Final = 2
SEGMENT_ENTRIES: Final = 30
US: Final = 1_000_000
EPOCH: Final = 1_764_000_000_000_000
CSP: Final = "default-src 'self'; media-src 'self' blob:; worker-src 'self' blob:; object-src 'none'; base-uri 'none'"
HEVC: Final = "hev1.1.6.L93.B0"
SITES: Final = (
    Site(site_id="alley-07", name=Name(ko="성북로 안심골목 7호", en="Seongbuk-ro Safe Alley 7"), jurisdiction="11290",
         police_station="11-seongbuk", lon=127.0016, lat=37.5893, address="서울특별시 성북구 성북로 31길 12"),
    Site(site_id="alley-12", name=Name(ko="정릉천 산책로 안심골목 12호", en="Jeongneungcheon Safe Alley 12"),
         jurisdiction="11290", police_station="11-seongbuk", lon=127.0131, lat=37.6032,
         address="서울특별시 성북구 정릉로 77"),
)  # fmt: skip
DEVICES: Final = (
    DeviceView(device_id="bell-07", kind="bell", site_id="alley-07", lon=127.0016, lat=37.5893),
    DeviceView(device_id="cam-07a", kind="camera", site_id="alley-07", lon=127.00172, lat=37.58936, streams=("main",),
               state="recording", codec="avc1.42C016"),
    DeviceView(device_id="cam-07b", kind="camera", site_id="alley-07", lon=127.00205, lat=37.58952, streams=("main",),
               state="recording", codec=HEVC),
    DeviceView(device_id="bell-12", kind="bell", site_id="alley-12", lon=127.0131, lat=37.6032),
    DeviceView(device_id="cam-12a", kind="camera", site_id="alley-12", lon=127.0133, lat=37.6033, streams=("main",),
               state="recording", codec=HEVC),
    DeviceView(device_id="cam-12s", kind="camera", site_id="alley-12", lon=127.0136, lat=37.6036,
               streams=("main", "sub"), state="recording", codec=HEVC),
)  # fmt: skip
_CONSOLE_SAYS: Final = msgspec.json.Decoder(ConsoleSays)
_ACK: Final = msgspec.json.Decoder(AckBody)
_DISPOSE: Final = msgspec.json.Decoder(DisposeBody)
_LIVE_SAYS: Final = msgspec.json.Decoder(LiveClientSays)


@dataclass(slots=True, kw_only=True)
class Person:
    """Who a cookie stands for."""

    account: str
    role: str


@dataclass(slots=True, kw_only=True)
class Hole:
    """A stretch of the archive without footage, in seconds before the start of the fake."""

    from_s: float
    to_s: float
    cause: GapCause
    detail: str | None = None


@dataclass(slots=True, kw_only=True)
class Seen:
    """What the page said."""

    hellos: list[Hello] = field(default_factory=list)
    receipts: list[tuple[str, str]] = field(default_factory=list)
    subs: list[Sub] = field(default_factory=list)
    purposes: list[str] = field(default_factory=list)
    command_keys: set[str] = field(default_factory=set)


class Console:
    """One alert stream."""

    def __init__(self, socket: web.WebSocketResponse) -> None:
        self.socket = socket
        self.seq = 0

    async def say(self, frame: Callable[[int], msgspec.Struct]) -> None:
        self.seq += 1
        if not self.socket.closed:
            await self.socket.send_str(msgspec.json.encode(frame(self.seq)).decode())


class FakeGateway:
    """Start it with `start()`; everything public may be called from the test's thread."""

    def __init__(self, bundle_dir: Path) -> None:
        self.seen = Seen()
        self.holes = [
            Hole(from_s=1320, to_s=1304, cause="network_loss"),
            Hole(from_s=3600, to_s=2400, cause="not_scheduled"),
        ]
        self.started_us = _now_us() // (ENTRY_S * US) * (ENTRY_S * US)
        self.origin = ""
        self._bundle_dir = bundle_dir
        self._people: dict[str, Person] = {}
        self._log: list[EventItem] = []
        self._alerts: dict[str, EventItem] = {}
        self._answers: dict[str, tuple[bytes, int, bytes]] = {}
        self._consoles: set[Console] = set()
        self._lives: set[web.WebSocketResponse] = set()
        self._channels: dict[tuple[web.WebSocketResponse, int], tuple[Sub, asyncio.Task[None]]] = {}
        self._frozen: set[str] = set()
        self._down = False
        self._silent = False
        self._slow = False
        self._undecided: list[tuple[Person, str, str, bytes, str]] = []
        self._live_refusals: dict[str, LiveErr] = {}
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="fake-gateway")
        self._runner: web.AppRunner | None = None

    # What a test does.

    def start(self) -> None:
        self._thread.start()
        self._run(self._open())

    def stop(self) -> None:
        self._run(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    def press(
        self, device_id: str = "bell-07", *, priority: Priority = "emergency", alarm_class: AlarmClass = "bell",
        ago_s: float = 0,
    ) -> str:  # fmt: skip
        """Raise an alert; return its id."""
        return self._run(self._press(device_id, priority, alarm_class, ago_s))

    def go_back(self, alert_id: str) -> None:
        """Let the device of an unanswered alert return to normal, as a released button does."""
        alert = self.alert(alert_id)
        isa = msgspec.structs.replace(alert.isa, state="RTN_UNACK", active=False)
        self._run(self._publish(msgspec.structs.replace(alert, version=alert.version + 1, isa=isa), "cleared"))

    def press_again(self, alert_id: str) -> None:
        """Press the bell of an unanswered alert once more, after it had gone back."""
        alert, at_us = self.alert(alert_id), _now_us()
        isa = msgspec.structs.replace(alert.isa, state="UNACK", active=True)
        n = alert.occurrence.n + 1
        occurrence = msgspec.structs.replace(alert.occurrence, n=n, first_us=at_us, last_us=at_us)
        changed = msgspec.structs.replace(alert, version=alert.version + 1, isa=isa, occurrence=occurrence)
        self._run(self._publish(changed, "updated"))

    def go_down(self) -> None:
        """Close every socket and refuse everything, as a restart of the gateway does."""
        self._down = True
        self._run(self._drop(1012))

    def come_back(self) -> None:
        self._down = False

    def end_sessions(self) -> None:
        """Forget who is signed in, and close the sockets as the contract says."""
        self._people.clear()
        self._run(self._drop(CLOSE_SESSION_ENDED))

    def fall_silent(self) -> None:
        """Keep the sockets and say nothing any more: a half-open link."""
        self._silent = True

    def decide_later(self) -> None:
        """Answer every command with 202 until `decide_now`, as when the owner of an alert is being replaced."""
        self._slow = True

    def decide_now(self, result: CommandResult = "applied") -> None:
        """Decide what was left undecided, in the way given."""
        self._slow = False
        self._run(self._decide_undecided(result))

    def forget_and_resync(self, alert_id: str) -> None:
        """Let an alert go without a word, then clear the queue of every console and send the list anew."""
        self._alerts.pop(alert_id)
        self._run(self._resync())

    def lose_a_frame(self) -> None:
        """Leave a hole in `seq`."""
        for console in self._consoles:
            console.seq += 1

    def refuse_live(self, camera: str, error: LiveErr) -> None:
        """Answer every subscription to a camera with an error."""
        self._live_refusals[camera] = error

    def drop_frames(self, camera: str) -> None:
        """Say that fragments were left out, as to a window that is too slow."""
        self._run(self._tell(camera, lambda ch: LiveDrop(ch=ch, frames=12)))

    def freeze(self, camera: str) -> None:
        """The camera's fragments stop without a word."""
        self._frozen.add(camera)

    def thaw(self, camera: str) -> None:
        self._frozen.discard(camera)

    def tell_gap(self, camera: str, cause: GapCause) -> None:
        """Say that the camera has no picture, and why."""
        self.freeze(camera)
        self._run(self._tell(camera, lambda ch: LiveGap(ch=ch, from_us=_now_us(), to_us=None, cause=cause)))

    def wait_for(self, condition: Callable[[], bool], deadline_s: float = 10) -> None:
        """Return once the page has said what is awaited."""

        async def until() -> None:
            async with asyncio.timeout(deadline_s):
                while not condition():  # noqa: ASYNC110 - the condition is the test's own
                    await asyncio.sleep(0.02)

        self._run(until())

    def alert(self, alert_id: str) -> Alert:
        return self._alerts[alert_id].alert

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(30)

    # The application.

    async def _open(self) -> None:
        app = web.Application(middlewares=[self._refuse_when_down])
        app.on_response_prepare.append(_add_policy)
        bundle.add_page(app, self._bundle_dir)
        archive = "/api/v1/archive/cameras/{camera}"
        app.add_routes([
            web.get("/api/v1/session", self._session), web.post("/api/v1/session", self._sign_in),
            web.delete("/api/v1/session", self._sign_out),
            web.get("/api/v1/city", self._city),
            web.post("/api/v1/alerts/{id}/{verb}", self._command),
            web.get("/api/v1/alerts/{id}/commands/{key}", self._command_status),
            web.get("/api/v1/alert-stream", self._alert_stream), web.get("/api/v1/live", self._live),
            web.get(f"{archive}/timeline", self._timeline), web.get(f"{archive}/playlist.m3u8", self._playlist),
            web.get(f"{archive}/init.mp4", self._init), web.get(f"{archive}/{{segment}}.m4s", self._segment),
        ])  # fmt: skip
        self._runner = web.AppRunner(app, shutdown_timeout=1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.origin = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        self._beat = asyncio.create_task(self._heartbeats())

    async def _close(self) -> None:
        self._beat.cancel()
        await self._drop(1012)
        await asyncio.gather(self._beat, return_exceptions=True)
        if self._runner:
            await self._runner.cleanup()

    async def _drop(self, code: int) -> None:
        for _, task in tuple(self._channels.values()):
            task.cancel()
        sockets = [console.socket for console in self._consoles] + list(self._lives)
        await asyncio.gather(*(socket.close(code=code) for socket in sockets))

    @web.middleware
    async def _refuse_when_down(self, request: web.Request, handler: Any) -> web.StreamResponse:
        if self._down:
            return _problem(503, "unavailable", "the gateway restarts: try again")
        answer: web.StreamResponse = await handler(request)
        return answer

    def _person(self, request: web.Request) -> Person:
        person = self._people.get(request.cookies.get("safealley_session", ""))
        if person is None:
            raise web.HTTPUnauthorized
        return person

    # Session and city.

    async def _session(self, request: web.Request) -> web.Response:
        person = self._people.get(request.cookies.get("safealley_session", ""))
        return _json(_session_view(person))

    async def _sign_in(self, request: web.Request) -> web.Response:
        wanted = msgspec.json.decode(await request.read(), type=DemoSignIn)
        token = uuid.uuid4().hex
        self._people[token] = Person(account=f"demo-{wanted.role}-{len(self._people) + 1}", role=wanted.role)
        answer = _json(_session_view(self._people[token]))
        answer.set_cookie("safealley_session", token, httponly=True, samesite="Strict")
        return answer

    async def _sign_out(self, request: web.Request) -> web.Response:
        self._people.pop(request.cookies.get("safealley_session", ""), None)
        answer = web.Response(status=204)
        answer.del_cookie("safealley_session")
        return answer

    async def _city(self, request: web.Request) -> web.Response:
        self._person(request)
        return _json(CityView(sites=SITES, devices=DEVICES))

    # Alerts.

    async def _press(self, device_id: str, priority: Priority, alarm_class: AlarmClass, ago_s: float) -> str:
        device = next(one for one in DEVICES if one.device_id == device_id)
        at_us = _now_us() - int(ago_s * US)
        alert = Alert(
            alert_id=str(uuid.uuid4()), version=1, decision_version=1, alarm_class=alarm_class, site_id=device.site_id,
            occurrence=Occurrence(n=1, first_us=at_us, last_us=at_us, device_time_us=None, clock_offset_ms=None,
                                  offline_period="none"),
            condition=Condition(topic="bell/pressed", active=True), root=device.site_id, jurisdiction="11290",
            device=DeviceAtReceipt(device_id=device_id, site_id=device.site_id, jurisdiction="11290", lon=device.lon,
                                   lat=device.lat),
            momentary=True, received_us=at_us, published_us=at_us, created_us=at_us, closed_us=None, alarm_ids=(),
            isa=Isa(state="UNACK", since_us=at_us, active=True, acked=False, disposed=False, latched=True),
            priority=priority, code112=1 if priority == "emergency" else 3, status="Actual", dedup_key=device_id,
        )  # fmt: skip
        await self._publish(alert, "created")
        return alert.alert_id

    async def _publish(self, alert: Alert, change: str) -> None:
        ask = change == "created" and alert.priority in {"emergency", "high"}
        item = EventItem(tx=f"t-{len(self._log)}", alert_id=alert.alert_id, epoch=EPOCH, version=alert.version,
                         change=change, ask=ask, alert=alert)  # fmt: skip
        self._log.append(item)
        self._alerts[alert.alert_id] = item
        cursor = self._cursor()
        for console in tuple(self._consoles):
            await console.say(lambda seq: EventFrame(seq=seq, cursor=cursor, items=(item,)))

    def _cursor(self) -> Cursor:
        return Cursor(cluster="fake", at={"0": len(self._log)})

    async def _alert_stream(self, request: web.Request) -> web.WebSocketResponse:
        self._person(request)
        socket = web.WebSocketResponse(heartbeat=15, compress=False)
        await socket.prepare(request)
        console = Console(socket)
        try:
            async for message in socket:
                if message.type != WSMsgType.TEXT:
                    break
                await self._heard(console, _CONSOLE_SAYS.decode(message.data))
        finally:
            self._consoles.discard(console)
        return socket

    async def _heard(self, console: Console, said: ConsoleSays) -> None:
        if not isinstance(said, Hello):
            self.seen.receipts.extend((item.alert_id, item.kind) for item in said.items)
            return
        self.seen.hellos.append(said)
        cursor = self._cursor()
        known = said.cursor.at.get("0", 0) if said.cursor and said.cursor.cluster == "fake" else None
        self._consoles.add(console)
        if known is None or known > len(self._log):
            items = tuple(self._alerts.values())
            await console.say(lambda seq: Snapshot(seq=seq, items=items))
            await console.say(lambda seq: SnapshotEnd(seq=seq, cursor=cursor))
        elif known < len(self._log):
            missed = tuple(self._log[known:])
            await console.say(lambda seq: EventFrame(seq=seq, cursor=cursor, items=missed))
        await self._beat_once(console)

    async def _resync(self) -> None:
        items, cursor = tuple(self._alerts.values()), self._cursor()
        for console in tuple(self._consoles):
            await console.say(lambda seq: Resync(seq=seq, reason="overflow"))
            await console.say(lambda seq: Snapshot(seq=seq, items=items))
            await console.say(lambda seq: SnapshotEnd(seq=seq, cursor=cursor))

    async def _heartbeats(self) -> None:
        while True:
            await asyncio.sleep(HEARTBEAT_S)
            for console in tuple(self._consoles):
                await self._beat_once(console)

    async def _beat_once(self, console: Console) -> None:
        if self._silent:
            return
        cursor = self._cursor()
        await console.say(lambda seq: Heartbeat(seq=seq, server_time_us=_now_us(), cursor=cursor, queue=0))

    # Commands.

    async def _command(self, request: web.Request) -> web.Response:
        person = self._person(request)
        body = await request.read()
        key = request.headers.get("Idempotency-Key", "")
        self.seen.command_keys.add(key)
        known = self._answers.get(key)
        if known is not None:
            same = known[0] == body
            return (
                _raw(known[1], known[2]) if same else _problem(422, "unprocessable", "the key belongs to another body")
            )
        if self._slow:
            alert_id, verb = request.match_info["id"], request.match_info["verb"]
            self._undecided.append((person, alert_id, verb, body, key))
            return _raw(202, msgspec.json.encode(self.alert(alert_id)))
        answer = await self._decide(person, request.match_info["id"], request.match_info["verb"], body, key)
        self._answers[key] = (body, answer.status, bytes(answer.body))  # type: ignore[arg-type]
        return answer

    async def _command_status(self, request: web.Request) -> web.Response:
        alert, key = self.alert(request.match_info["id"]), request.match_info["key"]
        answered = next((one for one in alert.commands if one.idempotency_key == key), None)
        if answered is None:
            return _raw(202, msgspec.json.encode(alert))
        return _json(alert) if answered.result == "applied" else _refused(alert, answered.result)

    async def _decide_undecided(self, result: CommandResult) -> None:
        for person, alert_id, verb, body, key in self._undecided:
            if result == "applied" and (await self._decide(person, alert_id, verb, body, key)).status == 200:
                continue
            alert = self.alert(alert_id)
            answered = _answered(key, person, verb, "illegal_arc" if result == "applied" else result)
            # A refusal leaves the version (alerts.md 9): to a console it is nothing new.
            await self._publish(msgspec.structs.replace(alert, commands=(*alert.commands, answered)), "refused")
        self._undecided.clear()

    async def _decide(self, person: Person, alert_id: str, verb: str, body: bytes, key: str) -> web.Response:
        item = self._alerts.get(alert_id)
        if item is None or not key:
            return _problem(404 if key else 422, "not_found", "no such alert, or no Idempotency-Key")
        alert = item.alert
        if person.role not in {"operator", "supervisor"}:
            return _problem(403, "forbidden", f"the role {person.role} may not do this")
        unacked = alert.isa.state in {"UNACK", "RTN_UNACK"}
        wanted: AckBody | DisposeBody = (_ACK if verb == "ack" else _DISPOSE).decode(body)
        if unacked != (verb == "ack") or alert.isa.disposed or wanted.decision_version != alert.decision_version:
            return _refused(alert)
        changed = _acked(alert, person) if isinstance(wanted, AckBody) else _disposed(alert, person, wanted)
        answered = _answered(key, person, verb, "applied")
        changed = msgspec.structs.replace(changed, commands=(*alert.commands, answered))
        await self._publish(changed, "acked" if verb == "ack" else "closed")
        return _json(changed)

    # Live pictures.

    async def _live(self, request: web.Request) -> web.WebSocketResponse:
        person = self._person(request)
        socket = web.WebSocketResponse(heartbeat=15, compress=False)
        await socket.prepare(request)
        self._lives.add(socket)
        try:
            async for message in socket:
                if message.type != WSMsgType.TEXT:
                    break
                await self._live_heard(socket, person, _LIVE_SAYS.decode(message.data))
        finally:
            self._lives.discard(socket)
            for key in [key for key in self._channels if key[0] is socket]:
                self._channels.pop(key)[1].cancel()
        return socket

    async def _live_heard(self, socket: web.WebSocketResponse, person: Person, said: LiveClientSays) -> None:
        if isinstance(said, Unsub | Sub):
            running = self._channels.pop((socket, said.ch), None)
            if running:
                running[1].cancel()
        if not isinstance(said, Sub):
            return
        self.seen.subs.append(said)
        if person.role not in {"operator", "supervisor"}:
            await _tell(socket, LiveErr(ch=said.ch, code="forbidden"))
            return
        if said.camera in self._live_refusals:
            await _tell(socket, msgspec.structs.replace(self._live_refusals[said.camera], ch=said.ch))
            return
        send = self._send_stills if said.want == "still" else self._send_video
        self._channels[(socket, said.ch)] = (said, asyncio.create_task(send(socket, said)))

    async def _send_video(self, socket: web.WebSocketResponse, sub: Sub) -> None:
        device = next(one for one in DEVICES if one.device_id == sub.camera)
        clip = fake_media.clip(fragment_frames=8, fragments=24)
        hevc = device.codec == HEVC and sub.stream == "main"
        await _tell(socket, LiveInit(ch=sub.ch, codec=HEVC if hevc else clip.codec))
        await _send(socket, sub.ch, LIVE_INIT, _now_us(), 0, clip.init)
        length_us = int(clip.fragment_s * US)
        index = (_now_us() - self.started_us) // length_us - 1
        while not socket.closed:
            ready_us = self.started_us + (index + 1) * length_us
            await asyncio.sleep(max(0, ready_us - _now_us()) / US)
            if sub.camera not in self._frozen:
                await _send(socket, sub.ch, LIVE_FRAGMENT, ready_us - length_us, index, clip.fragment(index))
            index += 1

    async def _send_stills(self, socket: web.WebSocketResponse, sub: Sub) -> None:
        seq = 0
        while not socket.closed:
            seq += 1
            if sub.camera not in self._frozen:
                await _send(socket, sub.ch, LIVE_JPEG, _now_us() - US, seq, fake_media.still())
            await asyncio.sleep(1)

    async def _tell(self, camera: str, said: Callable[[int], msgspec.Struct]) -> None:
        for (socket, ch), (sub, _) in tuple(self._channels.items()):
            if sub.camera == camera:
                await _tell(socket, said(ch))

    # Archive.

    def _allow_recorded(self, request: web.Request) -> str:
        if self._person(request).role not in {"supervisor", "auditor"}:
            raise web.HTTPForbidden
        purpose = request.query.get("purpose", "")
        if not purpose:
            raise web.HTTPUnprocessableEntity
        self.seen.purposes.append(purpose)
        return request.match_info["camera"]

    def _hole_at(self, at_us: int) -> Hole | None:
        ago_s = (self.started_us - at_us) / US
        return next((hole for hole in self.holes if hole.to_s < ago_s <= hole.from_s), None)

    async def _timeline(self, request: web.Request) -> web.Response:
        camera = self._allow_recorded(request)
        from_us, to_us = int(request.query["from"]), int(request.query["to"])
        edges = {from_us, to_us, to_us - 3 * US, to_us - 60 * US}
        for hole in self.holes:
            edges |= {self.started_us - int(hole.from_s * US), self.started_us - int(hole.to_s * US)}
        whole = sorted(min(max(edge, from_us), to_us) for edge in edges)
        items = tuple(self._item(a, b, to_us) for a, b in pairwise(whole) if a < b)
        footage = sum(item.to_us - item.from_us for item in items if item.state in {"recorded", "open"})
        return _json(Timeline(camera_id=camera, stream="main", from_us=from_us, to_us=to_us,
                              coverage_ratio=footage / (to_us - from_us), items=items))  # fmt: skip

    def _item(self, from_us: int, to_us: int, end_us: int) -> TimelineItem:
        hole = self._hole_at(from_us)
        if hole is not None:
            return TimelineItem(state="gap", from_us=from_us, to_us=to_us, cause=hole.cause, side="device", gap_id="g",
                                detail=hole.detail)  # fmt: skip
        if from_us >= end_us - 3 * US:
            return TimelineItem(state="pending", from_us=from_us, to_us=to_us)
        state = "open" if from_us >= end_us - 60 * US else "recorded"
        return TimelineItem(state=state, from_us=from_us, to_us=to_us, epoch=EPOCH, run=1)  # type: ignore[arg-type]

    async def _playlist(self, request: web.Request) -> web.Response:
        self._allow_recorded(request)
        entry_us = ENTRY_S * US
        first = int(request.query["from"]) // entry_us
        last = min(int(request.query["to"]), _now_us() - 3 * US) // entry_us
        lines = ["#EXTM3U", "#EXT-X-VERSION:8", f"#EXT-X-TARGETDURATION:{ENTRY_S}", "#EXT-X-PLAYLIST-TYPE:VOD",
                 "#EXT-X-INDEPENDENT-SEGMENTS", f"#EXT-X-MEDIA-SEQUENCE:{0}", '#EXT-X-MAP:URI="init.mp4"']  # fmt: skip
        for index in range(first, last):
            lines += self._entry(index, index * entry_us)
        return web.Response(
            text="\n".join([*lines, "#EXT-X-ENDLIST", ""]), content_type="application/vnd.apple.mpegurl"
        )

    def _entry(self, index: int, at_us: int) -> list[str]:
        lines = [f"#EXT-X-PROGRAM-DATE-TIME:{_rfc3339(at_us)}", f"#EXTINF:{ENTRY_S}.000,"]
        if self._hole_at(at_us) is not None:
            return ["#EXT-X-GAP", *lines, "gap.m4s"]
        segment, place = divmod(index, SEGMENT_ENTRIES)
        sizes = [len(fragment) for fragment in _archive_segment(segment)]
        return [*lines, f"#EXT-X-BYTERANGE:{sizes[place]}@{sum(sizes[:place])}", f"{segment}.m4s"]

    async def _init(self, _request: web.Request) -> web.Response:
        return web.Response(body=_archive_clip().init, content_type="video/mp4")

    async def _segment(self, request: web.Request) -> web.Response:
        whole = b"".join(_archive_segment(int(request.match_info["segment"])))
        wanted = request.http_range
        body = whole[wanted]
        first = wanted.start or 0
        headers = {"Content-Range": f"bytes {first}-{first + len(body) - 1}/{len(whole)}"}
        return web.Response(body=body, status=206, content_type="video/mp4", headers=headers)


def _archive_clip() -> fake_media.Clip:
    return fake_media.clip(fragment_frames=ENTRY_S * fake_media.FPS, fragments=6)


@functools.lru_cache(maxsize=256)
def _archive_segment(segment: int) -> tuple[bytes, ...]:
    clip = _archive_clip()
    return tuple(clip.fragment(segment * SEGMENT_ENTRIES + place) for place in range(SEGMENT_ENTRIES))


def _acked(alert: Alert, person: Person) -> Alert:
    now_us = _now_us()
    isa = msgspec.structs.replace(alert.isa, state="ACKED", acked=True, active=False, since_us=now_us)
    people = People(assignee=person.account, acked_by=person.account, acked_us=now_us)
    return msgspec.structs.replace(alert, version=alert.version + 1, decision_version=alert.decision_version + 1,
                                   isa=isa, people=people)  # fmt: skip


def _disposed(alert: Alert, person: Person, body: DisposeBody) -> Alert:
    now_us = _now_us()
    isa = msgspec.structs.replace(alert.isa, state="NORMAL", disposed=True, since_us=now_us)
    disposition = Disposition(code=body.code, by=person.account, at_us=now_us)
    return msgspec.structs.replace(alert, version=alert.version + 1, decision_version=alert.decision_version + 1,
                                   isa=isa, disposition=disposition, closed_us=now_us)  # fmt: skip


def _answered(key: str, person: Person, verb: str, result: CommandResult) -> AnsweredCommand:
    return AnsweredCommand(idempotency_key=key, body_sha256="", command_id=key, actor=person.account, verb=verb,
                           result=result, at_us=_now_us())  # fmt: skip


def _refused(alert: Alert, result: CommandResult = "illegal_arc") -> web.Response:
    done = alert.disposition
    winner, at_us = (done.by, done.at_us) if done else (alert.people.acked_by, alert.people.acked_us)
    problem = Problem(error=result, detail="somebody was first", alert=alert, winner=winner, at_us=at_us)
    return _raw(409, msgspec.json.encode(problem))


def _session_view(person: Person | None) -> SessionView:
    return SessionView(
        account=person.account if person else None, role=person.role if person else None,
        jurisdictions=("11290",) if person else (), expires_us=None, demo_roles=ROLES,
    )  # fmt: skip


async def _tell(socket: web.WebSocketResponse, said: msgspec.Struct) -> None:
    await socket.send_str(msgspec.json.encode(said).decode())


async def _send(socket: web.WebSocketResponse, ch: int, kind: int, capture_us: int, seq: int, payload: bytes) -> None:
    await socket.send_bytes(LIVE_HEADER.pack(LIVE_VERSION, kind, ch, capture_us, seq) + payload)


async def _add_policy(_request: web.Request, response: web.StreamResponse) -> None:
    response.headers.setdefault("Content-Security-Policy", CSP)


def _json(body: msgspec.Struct) -> web.Response:
    return _raw(200, msgspec.json.encode(body))


def _raw(status: int, body: bytes) -> web.Response:
    return web.Response(status=status, body=body, content_type="application/json")


def _problem(status: int, error: str, detail: str) -> web.Response:
    return _raw(status, msgspec.json.encode(Problem(error=error, detail=detail)))


def _rfc3339(at_us: int) -> str:
    return datetime.fromtimestamp(at_us / US, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _now_us() -> int:
    return SystemClock().now_us()
