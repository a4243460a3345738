"""A running box as outsiders meet it: bells pressed, a console that listens, cameras whose time is asked for.

For benchmarks and system tests alike. It knows `endpoints.json` and the public doors, nothing of a
service's inside; a box that is restarted is found again through the file.
"""

import asyncio
import contextlib
import json
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any, Final, Self

import aiohttp

from services.onebox import endpoints
from services.onebox.endpoints import Endpoints
from services.onebox.layout import Layout
from services.onebox.ports import LOOPBACK
from services.runtime.clock import SystemClock
from services.runtime.errors import SettingsError
from services.runtime.identity import Role

CLOCK: Final = SystemClock()
LOOK_S: Final = 0.05
ANSWER_S: Final = 5.0
AGAIN_S: Final = 0.25
Timeline = list[dict[str, Any]]


async def wait_until(holds: Callable[[], bool], deadline_s: float, what: str) -> None:
    """Return once `holds()`; fail naming `what` after the deadline."""
    until_ns = CLOCK.monotonic_ns() + round(deadline_s * 1e9)
    while not holds():
        if CLOCK.monotonic_ns() > until_ns:
            raise AssertionError(f"not within {deadline_s:g} s: {what}")
        await asyncio.sleep(LOOK_S)


class Probe:
    """Presses bells and counts what consoles are shown. `acked` and `shown`: event id -> monotonic ns."""

    def __init__(self, data: Path) -> None:
        self._layout = Layout(data)
        self._session: aiohttp.ClientSession | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self.pressed: dict[str, int] = {}
        self.acked: dict[str, int] = {}
        self.shown: dict[str, int] = {}

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=ANSWER_S))
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.http.close()

    @property
    def http(self) -> aiohttp.ClientSession:
        if self._session is None:
            raise RuntimeError("the probe is used as a context manager")
        return self._session

    @property
    def endpoints(self) -> Endpoints:
        """Every address as of now."""
        return endpoints.read(self._layout.endpoints)

    def is_up(self) -> bool:
        """Tell whether a box says that all of it is ready."""
        try:
            return bool(self.endpoints.processes)
        except (SettingsError, OSError):
            return False

    # --- bells and consoles

    async def press(self, deadline_s: float = 120.0) -> str:
        """Press the first bell as bells do: the same event again until the door says 202.

        Each press has a condition of its own, so that each opens an alert.
        """
        event_id = str(uuid.uuid4())
        self.pressed[event_id] = CLOCK.monotonic_ns()
        async with asyncio.timeout(deadline_s):
            while not await self._post(event_id):  # noqa: ASYNC110 - asked over HTTP
                await asyncio.sleep(AGAIN_S)
        self.acked[event_id] = CLOCK.monotonic_ns()
        return event_id

    @contextlib.asynccontextmanager
    async def pressing(self, every_s: float) -> AsyncIterator[None]:
        """Press at a steady pace meanwhile, whatever becomes of the presses before; then await the last."""
        going = asyncio.Event()
        pressing = asyncio.create_task(self._keep_pressing(every_s, going))
        try:
            yield
        except BaseException:
            pressing.cancel()
            await asyncio.gather(pressing, return_exceptions=True)
            raise
        going.set()
        await pressing

    def listen(self) -> None:
        """Keep a console open until the probe is closed; it comes back when its socket ends."""
        self._tasks.append(asyncio.create_task(self._console(), name="console"))

    def missing(self) -> set[str]:
        """Return the acknowledged presses that no console was shown yet."""
        return self.acked.keys() - self.shown.keys()

    def delays_ms(self) -> list[float]:
        """Return press to console for each press that was shown."""
        return [(at_ns - self.pressed[event]) / 1e6 for event, at_ns in self.shown.items() if event in self.pressed]

    async def alerts_of_presses(self) -> Counter[str]:
        """Return how many alerts the gateway knows for each press."""
        page = await self._get("operator", f"{self.endpoints.gateway}/api/v1/alerts")
        return Counter(counted["id"] for alert in page["items"] for counted in alert["alarm_ids"])

    async def _keep_pressing(self, every_s: float, enough: asyncio.Event) -> None:
        async with asyncio.TaskGroup() as presses:
            while not enough.is_set():
                presses.create_task(self.press())
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(enough.wait(), every_s)

    async def _post(self, event_id: str) -> bool:
        try:
            known = self.endpoints
            bell = known.bells[0]
            event = {
                "specversion": "1.0",
                "id": event_id,
                "source": f"/bells/{bell.id}",
                "subject": bell.id,
                "type": "kr.safealley.alarm.raised.v1",
                "data": {"condition": {"topic": f"probe/{event_id}", "active": True}},
            }
            headers = {"Authorization": f"Bearer {bell.token}", "Content-Type": "application/cloudevents+json"}
            async with self.http.post(f"{known.device_door}/api/v1/alarms", json=event, headers=headers) as answer:
                return answer.status == 202
        except (aiohttp.ClientError, SettingsError, TimeoutError, OSError):
            return False

    async def _console(self) -> None:
        while True:
            with contextlib.suppress(aiohttp.ClientError, SettingsError, TimeoutError, OSError):
                await self._listen_once()
            await asyncio.sleep(AGAIN_S)

    async def _listen_once(self) -> None:
        known = self.endpoints
        headers = {"Authorization": f"Bearer {known.tokens['operator']}"}
        no_limit = aiohttp.ClientWSTimeout(ws_close=1.0)
        url = f"{known.gateway}/api/v1/alert-stream"
        async with self.http.ws_connect(url, headers=headers, max_msg_size=0, timeout=no_limit) as socket:
            await socket.send_json({"op": "hello", "proto": 1, "console_id": "probe"})
            async for message in socket:
                self._hear(message.json())

    def _hear(self, frame: dict[str, Any]) -> None:
        for item in frame.get("items", ()):
            for counted in item["alert"]["alarm_ids"]:
                self.shown.setdefault(counted["id"], CLOCK.monotonic_ns())

    # --- footage

    async def timeline(self, camera_id: str, from_us: int, to_us: int) -> Timeline:
        """Return a camera's time as an auditor is told it; empty while archive knows nothing or is away."""
        url = f"{self.endpoints.gateway}/api/v1/archive/cameras/{camera_id}/timeline"
        try:
            found = await self._get("auditor", url, {"from": from_us, "to": to_us, "purpose": "probe"})
        except aiohttp.ClientResponseError as error:
            if error.status in {404, 502, 503, 504}:
                return []
            raise
        return list(found["items"])

    async def footage_until(self, camera_id: str, after_us: int, deadline_s: float, *, length_us: int = 0) -> Timeline:
        """Wait until footage of at least this length that begins or goes on after an instant can be read."""
        async with asyncio.timeout(deadline_s):
            while True:
                items = await self.timeline(camera_id, after_us, CLOCK.now_us())
                found = [item for item in items if item["state"] in {"recorded", "open"}]
                if sum(item["to_us"] - item["from_us"] for item in found) > length_us:
                    return items
                await asyncio.sleep(AGAIN_S)

    async def ops(self, service: str) -> dict[str, Any]:
        """Return what a service says of itself on its ops port."""
        _, _, written = self._layout.settings(service).read_text(encoding="utf-8").partition("\n")
        port = json.loads(written)["ops"]["port"]
        async with self.http.get(f"http://{LOOPBACK}:{port}/statusz") as answer:
            said: dict[str, Any] = await answer.json()
            return said

    async def _get(self, role: Role, url: str, query: Mapping[str, str | int] | None = None) -> Any:
        headers = {"Authorization": f"Bearer {self.endpoints.tokens[role]}"}
        async with self.http.get(url, params=query, headers=headers, raise_for_status=True) as answer:
            return await answer.json()


def gap_seconds(items: Timeline) -> dict[str, float]:
    """Return the seconds without footage by cause; what nobody explains is `unknown`."""
    found: Counter[str] = Counter()
    for item in items:
        if item["state"] in {"gap", "unknown"}:
            found[item.get("cause") or item["state"]] += item["to_us"] - item["from_us"]
    return {cause: round(length_us / 1e6, 3) for cause, length_us in found.items()}


def tiles(items: Timeline, from_us: int, to_us: int) -> bool:
    """Tell whether the items cover the range once, without hole or overlap."""
    edges = [from_us, *(item["to_us"] for item in items)]
    return [item["from_us"] for item in items] == edges[:-1] and edges[-1] == to_us
