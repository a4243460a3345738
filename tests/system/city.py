"""A running demo as an outsider sees it, with what a test asks of it again and again.

Presses, a console that comes back with its cursor, timelines, clips, whole topics. It knows the public
doors; the topics it reads through the same port as everybody.
"""

import asyncio
import inspect
import json
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeVar, overload

import aiohttp

from services.contracts import codec
from services.contracts.alert import Alert
from services.contracts.fragment import Fragment, read_video_headers
from services.contracts.topics import ALERTS, VIDEO
from services.onebox import endpoints as addresses
from services.onebox.box import OneBox
from services.onebox.demo import hashes_file
from services.onebox.endpoints import Endpoints
from services.onebox.footage_links import is_stretch
from services.runtime.clock import SystemClock
from services.runtime.errors import RetryLater
from services.runtime.identity import Role
from services.runtime.kafka_port import Record
from services.simulators import clip_source
from services.simulators.bell import Bell
from services.simulators.door_client import Answer, DoorClient

CLOCK: Final = SystemClock()
PURPOSE: Final = "system-test"
POLL_S: Final = 0.05
ANSWER_S: Final = 10.0
RECONNECT_S: Final = 0.2
PRESS_EVERY_S: Final = 0.5
NOT_YET: Final = (aiohttp.ClientError, OSError, TimeoutError, RetryLater)
FOOTAGE: Final = frozenset({"recorded", "open"})

T = TypeVar("T")
Item = dict[str, Any]
FragmentKey = tuple[str, str, int, int]


@overload
async def wait_until(predicate: Callable[[], Awaitable[T]], deadline_s: float, what: str) -> T: ...
@overload
async def wait_until(predicate: Callable[[], T], deadline_s: float, what: str) -> T: ...
async def wait_until(predicate: Callable[[], Any], deadline_s: float, what: str) -> Any:
    """Ask every 50 ms until the answer is true, and return it; a door that does not answer has not answered yet.

    Raises:
        AssertionError: it was not true in time; says what, and what was answered last.
    """
    last: object = None
    try:
        async with asyncio.timeout(deadline_s):
            while True:
                try:
                    answer = predicate()
                    last = found = await answer if inspect.isawaitable(answer) else answer
                    if found:
                        return found
                except NOT_YET as error:
                    last = error
                await asyncio.sleep(POLL_S)
    except TimeoutError:
        raise AssertionError(f"not within {deadline_s:g} s: {what}; last: {last!r:.2000}") from None


def seconds_since(begin_us: int) -> float:
    return round((CLOCK.now_us() - begin_us) / 1e6, 2)


@dataclass(slots=True, kw_only=True)
class Press:
    """A press on its way: `answer` once the door has said something for good."""

    bell_id: str
    at_us: int
    answer: Answer | None = None


@dataclass(slots=True)
class Console:
    """An operator's window. It comes back by itself, with the cursor it had."""

    shown_us: dict[str, int] = field(default_factory=dict)
    """When each press was first seen, by the id of its event."""
    alerts: dict[str, Item] = field(default_factory=dict)
    connects: int = 0
    whole: bool = False
    """Whether this connection has given all it had to catch up with."""
    _cursor: Item | None = None

    def take(self, frame: Item) -> None:
        """Apply a frame as console.md 5.2 has it: an item counts only when it is newer."""
        for item in frame.get("items", ()):
            known = self.alerts.get(item["alert_id"])
            if known is None or (known["epoch"], known["version"]) < (item["epoch"], item["version"]):
                self.alerts[item["alert_id"]] = item
            for counted in item["alert"]["alarm_ids"]:
                self.shown_us.setdefault(counted["id"], CLOCK.now_us())
        self._cursor = frame.get("cursor", self._cursor)
        self.whole = self.whole or frame["op"] in ("snapshot_end", "event", "heartbeat")

    async def listen(self, city: "City") -> None:
        """Stay connected until cancelled."""
        while True:
            with suppress(*NOT_YET):
                await self._listen_once(city)
            self.whole = False
            await asyncio.sleep(RECONNECT_S)

    async def _listen_once(self, city: "City") -> None:
        url = f"{city.addresses.gateway}/api/v1/alert-stream"
        async with city.http.ws_connect(url, headers=city.bearer("operator")) as socket:
            self.connects += 1
            await socket.send_json({"op": "hello", "proto": 1, "console_id": "system-test", "cursor": self._cursor})
            async for message in socket:
                self.take(json.loads(message.data))


@dataclass(slots=True)
class City:
    """A box with its demo, and a client of all its doors."""

    box: OneBox
    http: aiohttp.ClientSession
    addresses: Endpoints

    @property
    def root(self) -> Path:
        return self.box.layout.root

    def endpoints(self) -> Endpoints:
        """Return `endpoints.json` as it stands now."""
        return addresses.read(self.box.layout.endpoints)

    def bearer(self, role: Role) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.addresses.tokens[role]}"}

    # --- bells ---------------------------------------------------------------------------------

    def bell(self, number: int) -> Bell:
        """Return the n-th bell, which tries again until the door has its press."""
        known = self.addresses.bells[number]
        door = DoorClient(known.id, token=known.token, door_url=self.addresses.device_door, http=self.http, clock=CLOCK)
        return Bell(door)

    @asynccontextmanager
    async def pressing(self) -> AsyncIterator[list[Press]]:
        """Press the bells in turn meanwhile; afterwards every press has got its answer."""
        presses: list[Press] = []
        async with asyncio.TaskGroup() as under_way:

            async def press(bell: Bell, kept: Press) -> None:
                kept.answer = await bell.press()

            async def keep_pressing() -> None:
                while True:
                    number = len(presses) % len(self.addresses.bells)
                    presses.append(Press(bell_id=self.addresses.bells[number].id, at_us=CLOCK.now_us()))
                    under_way.create_task(press(self.bell(number), presses[-1]))
                    await asyncio.sleep(PRESS_EVERY_S)

            load = under_way.create_task(keep_pressing())
            try:
                yield presses
            finally:
                load.cancel()

    # --- the operator --------------------------------------------------------------------------

    @asynccontextmanager
    async def console(self) -> AsyncIterator[Console]:
        """Keep a console open meanwhile."""
        window = Console()
        listening = asyncio.create_task(window.listen(self))
        try:
            await wait_until(lambda: window.whole, 20, "the console has its list")
            yield window
        finally:
            listening.cancel()

    async def alerts(self) -> list[Item]:
        """Return what `GET /api/v1/alerts` says."""
        _, page = await self.get(f"{self.addresses.gateway}/api/v1/alerts", self.bearer("operator"))
        return list(page["items"])

    async def command(self, alert_id: str, verb: str, body: Item, *, key: str | None = None) -> tuple[int, Item]:
        """Send a verb of an operator."""
        url = f"{self.addresses.gateway}/api/v1/alerts/{alert_id}/{verb}"
        headers = self.bearer("operator") | {"Idempotency-Key": key or str(uuid.uuid4())}
        async with self.http.post(url, json=body, headers=headers) as answer:
            return answer.status, await answer.json()

    async def answer_all(self) -> int:
        """Acknowledge and dispose of every open alert once it has cleared, and return how many there were."""
        opened = [alert["alert_id"] for alert in await self.alerts() if alert["isa"]["state"] != "NORMAL"]
        for alert_id in opened:
            await wait_until(partial(self._answer, alert_id), 20, f"alert {alert_id} is normal again")
        return len(opened)

    async def _answer(self, alert_id: str) -> bool:
        alert = next((one for one in await self.alerts() if one["alert_id"] == alert_id), None)
        if alert is None or alert["isa"]["state"] == "NORMAL":
            return True
        body = {"decision_version": alert["decision_version"]}
        if not alert["isa"]["acked"]:
            await self.command(alert_id, "ack", body)
        elif not alert["isa"]["active"]:
            await self.command(alert_id, "dispose", body | {"code": "Test"})
        return False

    # --- the auditor ---------------------------------------------------------------------------

    async def timeline(self, camera_id: str, from_us: int, to_us: int) -> list[Item]:
        """Return the tiles of a camera's time; they must cover it without hole or overlap."""
        status, said = await self.get(self.camera_url(camera_id, "timeline", from_us, to_us), self.bearer("auditor"))
        if status != 200:
            raise RetryLater(f"timeline of {camera_id}: {status} {said}")
        at_us = from_us
        for item in said["items"]:
            assert item["from_us"] == at_us < item["to_us"], f"{camera_id}: the timeline has a hole or overlap: {said}"
            at_us = item["to_us"]
        assert at_us == to_us, f"{camera_id}: the timeline ends early: {said}"
        return list(said["items"])

    async def clip(self, camera_id: str, from_us: int, to_us: int) -> Path:
        """Take footage out, into a file."""
        url = self.camera_url(camera_id, "clip.mp4", from_us, to_us)
        async with self.http.get(url, headers=self.bearer("auditor")) as answer:
            data = await answer.read()
            if answer.status >= 500:
                raise RetryLater(f"clip of {camera_id}: {answer.status}")
            assert answer.status == 200, f"clip of {camera_id}: {answer.status} {data[:500]!r}"
        target = self.root / f"{camera_id}-{from_us}.mp4"
        await asyncio.to_thread(target.write_bytes, data)
        return target

    async def equal_units(self, camera_id: str, from_us: int, to_us: int) -> int:
        """Take footage out and compare each NAL unit with what the simulator played; return the count of units."""
        clip = await self.clip(camera_id, from_us, to_us)
        taken = await asyncio.to_thread(clip_source.from_file, clip)
        played = json.loads(await asyncio.to_thread(hashes_file(self.root, camera_id).read_bytes))
        source = [digest for unit in played["units"] for digest in unit["nals"]]
        found = [digest for unit in taken.units for digest in unit.nal_sha256]
        assert is_stretch(found, source), f"{camera_id}: the clip is not what the camera sent"
        return len(taken.units)

    def camera_url(self, camera_id: str, what: str, from_us: int, to_us: int, purpose: str = PURPOSE) -> str:
        query = f"from={from_us}&to={to_us}" + (f"&purpose={purpose}" if purpose else "")
        return f"{self.addresses.gateway}/api/v1/archive/cameras/{camera_id}/{what}?{query}"

    async def get(self, url: str, headers: Mapping[str, str]) -> tuple[int, Item]:
        limit = aiohttp.ClientTimeout(total=ANSWER_S)
        async with self.http.get(url, headers=dict(headers), timeout=limit) as answer:
            return answer.status, await answer.json(content_type=None)

    # --- the topics ----------------------------------------------------------------------------

    async def records(self, *topics: str) -> list[Record]:
        """Read topics from their beginning to their end of now."""
        kafka = self.box.kafka_port("system-test")
        found: list[Record] = []
        async with kafka.reader(await kafka.whole(*topics)) as reader:
            while not reader.caught_up():
                found += await reader.poll(timeout_s=1.0)
        return found

    async def fragments(self) -> set[FragmentKey]:
        """Return the identity of every fragment that Kafka has."""
        facts = [read_video_headers(record.headers) for record in await self.records(VIDEO.name)]
        return {(one.camera_id, one.stream, one.epoch, one.seq) for one in facts if isinstance(one, Fragment)}

    async def occurrences(self) -> dict[str, set[str]]:
        """Return, for each press, the alerts that count it; a press counted twice in one alert is an error."""
        found: dict[str, set[str]] = {}
        for record in await self.records(ALERTS.name):
            body = None if record.value is None else codec.decode_event(record.headers, record.value).body
            if isinstance(body, Alert):
                ids = [counted.id for counted in body.alarm_ids]
                assert len(ids) == len(set(ids)), f"alert {body.alert_id} counts a press twice"
                for press_id in ids:
                    found.setdefault(press_id, set()).add(body.alert_id)
        return found

    # --- the services --------------------------------------------------------------------------

    async def ops(self, service: str, what: str) -> str:
        """Return what a service's ops port says, such as `metrics`."""
        async with self.http.get(f"http://127.0.0.1:{self.box.ports[f'{service} ops']}/{what}") as answer:
            return await answer.text()

    async def metric(self, service: str, name: str, **labels: str) -> float:
        """Return a sample of a service's metrics, summed over the labels not given."""
        wanted = [f'{key}="{text}"' for key, text in labels.items()]
        values: list[float] = []
        for line in (await self.ops(service, "metrics")).splitlines():
            series, _, value = line.rpartition(" ")
            if series.partition("{")[0] == name and all(label in series for label in wanted):
                values.append(float(value))
        return sum(values)


def holes(fragments: Iterable[FragmentKey]) -> list[str]:
    """Return what is missing between the first and the last seq of each epoch."""
    by_epoch: dict[tuple[str, str, int], set[int]] = {}
    for camera_id, stream, epoch, seq in fragments:
        by_epoch.setdefault((camera_id, stream, epoch), set()).add(seq)
    return [
        f"{camera_id} {stream} epoch {epoch}: {sorted(set(range(min(seqs), max(seqs) + 1)) - seqs)}"
        for (camera_id, stream, epoch), seqs in by_epoch.items()
        if len(seqs) != max(seqs) - min(seqs) + 1
    ]


def span_s(items: Sequence[Item], *states: str) -> float:
    """Return how long the tiles of these states are together."""
    total_us: int = sum(item["to_us"] - item["from_us"] for item in items if item["state"] in states)
    return round(total_us / 1e6, 3)
