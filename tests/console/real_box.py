"""A whole box beside a browser: the real Kafka, the four services and the simulators, in a loop of its own.

Playwright's synchronous API owns the test's thread, so that the box lives in another one; everything
public may be called from the test's thread.
"""

import asyncio
import threading
import uuid
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, TypeVar

import aiohttp
import msgspec

from services.contracts import codec
from services.contracts.alarm import AlarmRaised
from services.contracts.alert import AlertEvent
from services.contracts.timeline import Timeline
from services.contracts.topics import ALERT_EVENTS
from services.onebox.box import OneBox
from services.onebox.demo import DemoWanted, demo_box
from services.onebox.endpoints import Endpoints
from services.runtime.clock import SystemClock
from services.simulators.bell import TOPIC

T = TypeVar("T")
US: Final = 1_000_000
HOUR_US: Final = 3600 * US
START_S: Final = 120.0
CALL_S: Final = 60.0


class RealBox:
    """One box with a demo city; see `real_box`."""

    def __init__(self, data: Path, wanted: DemoWanted) -> None:
        self.clock = SystemClock()
        self.lines: list[str] = []
        self._box: OneBox = demo_box(data, wanted, kafka=None, ports="free", clock=self.clock, say=self.lines.append)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="real-box")

    def start(self) -> None:
        self._thread.start()
        self._run(self._box.__aenter__(), START_S)

    def stop(self) -> None:
        try:
            self._run(self._box.stop(), CALL_S)
        finally:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(10)
            self._loop.close()

    @property
    def endpoints(self) -> Endpoints:
        """The addresses and process ids of now."""
        return self._box.endpoints()

    @property
    def log_folder(self) -> Path:
        return self._box.layout.log("gateway").parent

    def press(self, bell_id: str) -> str:
        """Press a bell over its real door; return the event's id."""
        bell = next(one for one in self.endpoints.bells if one.id == bell_id)
        event_id = str(uuid.uuid4())
        event = {
            "specversion": "1.0", "id": event_id, "source": f"/bells/{bell.id}", "subject": bell.id,
            "type": AlarmRaised.TYPE, "data": {"condition": {"topic": TOPIC, "active": True}},
        }  # fmt: skip
        headers = {"Authorization": f"Bearer {bell.token}", "Content-Type": "application/cloudevents+json"}
        self._run(self._post(f"{self.endpoints.device_door}/api/v1/alarms", event, headers))
        return event_id

    def alert_events(self) -> list[AlertEvent]:
        """Everything that `alert-events` holds now."""
        return self._run(self._read_alert_events())

    def timeline(self, camera_id: str) -> Timeline:
        """The last hour of a camera, as an auditor reads it."""
        return self._run(self._read_timeline(camera_id))

    def wait_until(self, holds: Callable[[], bool], deadline_s: float) -> None:
        """Return once something holds.

        Raises:
            TimeoutError: it does not within the deadline.
        """

        async def until() -> None:
            async with asyncio.timeout(deadline_s):
                while not await asyncio.to_thread(holds):  # noqa: ASYNC110 - the condition is the test's own
                    await asyncio.sleep(0.1)

        self._run(until(), deadline_s + 10)

    def _run(self, work: Coroutine[Any, Any, T], timeout_s: float = CALL_S) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(timeout_s)

    async def _post(self, url: str, body: Any, headers: dict[str, str]) -> None:
        async with aiohttp.ClientSession() as http, http.post(url, json=body, headers=headers) as answer:
            assert answer.status == 202, await answer.text()

    async def _read_alert_events(self) -> list[AlertEvent]:
        kafka = self._box.kafka_port("test")
        found: list[AlertEvent] = []
        async with kafka.reader(await kafka.whole(ALERT_EVENTS.name)) as reader:
            while not reader.caught_up():
                for record in await reader.poll(timeout_s=0.5):
                    body = codec.decode_event(record.headers, record.value).body
                    found += [body] if isinstance(body, AlertEvent) else []
        return found

    async def _read_timeline(self, camera_id: str) -> Timeline:
        now_us = self.clock.now_us()
        url = f"{self.endpoints.gateway}/api/v1/archive/cameras/{camera_id}/timeline"
        query: dict[str, str | int] = {"from": now_us - HOUR_US, "to": now_us, "purpose": "test"}
        headers = {"Authorization": f"Bearer {self.endpoints.tokens['auditor']}"}
        async with aiohttp.ClientSession() as http, http.get(url, params=query, headers=headers) as answer:
            return msgspec.json.decode(await answer.read(), type=Timeline)


@contextmanager
def real_box(data: Path, *, cameras: int = 2, clip: Path | None = None) -> Iterator[RealBox]:
    """Run a box while the block runs.

    Raises:
        RetryLater: Kafka could not be fetched or started.
    """
    box = RealBox(data, DemoWanted(cameras=cameras, clip=clip))
    try:
        box.start()
        yield box
    finally:
        box.stop()
