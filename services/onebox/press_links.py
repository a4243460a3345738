"""A press from its bell to an operator's screen and back to normal."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, Final

from services.contracts.alarm import AlarmRaised
from services.onebox.links import Link, Probe, expect
from services.simulators.bell import TOPIC

LEVEL: Final = {"condition": {"topic": TOPIC, "active": True}}
Item = dict[str, Any]


@asynccontextmanager
async def console(probe: Probe) -> AsyncIterator[None]:
    """Keep an operator's console open; what it is told stands in the probe's queue."""
    heard: asyncio.Queue[tuple[int, Item]] = asyncio.Queue()
    probe.found["heard"] = heard
    url = f"{probe.endpoints.gateway}/api/v1/alert-stream"
    async with probe.http.ws_connect(url, headers=probe.bearer("operator")) as socket:
        await socket.send_json({"op": "hello", "proto": 1, "console_id": "check"})

        async def listen() -> None:
            async for message in socket:
                frame = message.json()
                if frame["op"] == "event":
                    for item in frame["items"]:
                        heard.put_nowait((probe.clock.monotonic_ns(), item))

        listener = asyncio.create_task(listen())
        try:
            yield
        finally:
            listener.cancel()


async def listens(probe: Probe) -> Link:
    """Open the console that the next steps hear."""
    await probe.until_end.enter_async_context(console(probe))
    return Link(holds=True)


async def press(probe: Probe) -> Link:
    """Press the first bell over its real protocol."""
    probe.found["pressed_ns"] = probe.clock.monotonic_ns()
    answer = await _post_press(probe)
    probe.found["press_id"] = answer["id"]
    took_ms = (probe.clock.monotonic_ns() - probe.found["pressed_ns"]) / 1e6
    return Link(holds=True, figure=round(took_ms, 1), unit="ms")


async def shown(probe: Probe) -> Link:
    """Wait for its alert at the console."""
    at_ns, item = await _hear(probe, lambda item: _has(item, probe.found["press_id"]))
    alert = item["alert"]
    probe.found["alert"] = alert
    expect(alert["isa"]["state"] == "UNACK", f"the alert is {alert['isa']['state']}")
    expect(alert["priority"] == "emergency", f"its priority is {alert['priority']}")
    return Link(holds=True, figure=round((at_ns - probe.found["pressed_ns"]) / 1e6, 1), unit="ms")


async def acknowledged(probe: Probe) -> Link:
    """Acknowledge it, twice with one key: once carried out, the same answer again."""
    alert = await _now(probe)
    key, body = str(uuid.uuid4()), {"decision_version": alert["decision_version"]}
    begin_ns = probe.clock.monotonic_ns()
    first = await _command(probe, "ack", key, body)
    took_ms = (probe.clock.monotonic_ns() - begin_ns) / 1e6
    again = await _command(probe, "ack", key, body)
    expect(first["isa"]["acked"] and again["people"]["acked_by"] == "demo-operator", "the ack did not stick")
    return Link(holds=True, figure=round(took_ms, 1), unit="ms")


async def disposed(probe: Probe) -> Link:
    """Wait for the momentary clear (1 s), then say what it was."""
    alert_id = probe.found["alert"]["alert_id"]
    alert = await _now(probe)
    if alert["isa"]["active"]:
        await _hear(probe, lambda item: item["alert_id"] == alert_id and not item["alert"]["isa"]["active"])
        alert = await _now(probe)
    body = {"decision_version": alert["decision_version"], "code": "Test", "note": "demo --check"}
    closed = await _command(probe, "dispose", str(uuid.uuid4()), body)
    expect(closed["isa"]["state"] == "NORMAL", f"the alert is {closed['isa']['state']}")
    return Link(holds=True)


async def pressed_again(probe: Probe) -> Link:
    """Press once more: another alert."""
    answer = await _post_press(probe)
    _, item = await _hear(probe, lambda item: _has(item, answer["id"]))
    expect(item["alert_id"] != probe.found["alert"]["alert_id"], "the old alert came back")
    return Link(holds=True)


async def _post_press(probe: Probe) -> dict[str, Any]:
    bell = probe.endpoints.bells[0]
    event = {
        "specversion": "1.0",
        "id": str(uuid.uuid4()),
        "source": f"/bells/{bell.id}",
        "subject": bell.id,
        "type": AlarmRaised.TYPE,
        "data": LEVEL,
    }
    headers = {"Authorization": f"Bearer {bell.token}", "Content-Type": "application/cloudevents+json"}
    async with probe.http.post(f"{probe.endpoints.device_door}/api/v1/alarms", json=event, headers=headers) as answer:
        said: dict[str, Any] = await answer.json()
        expect(answer.status == 202, f"the door answered {answer.status} {said}")
        return said


async def _command(probe: Probe, verb: str, key: str, body: dict[str, Any]) -> dict[str, Any]:
    url = f"{probe.endpoints.gateway}/api/v1/alerts/{probe.found['alert']['alert_id']}/{verb}"
    headers = probe.bearer("operator") | {"Idempotency-Key": key}
    async with probe.http.post(url, json=body, headers=headers) as answer:
        said: dict[str, Any] = await answer.json()
        expect(answer.status == 200, f"{verb} was answered {answer.status} {said.get('error', '')}")
        return said


async def _now(probe: Probe) -> dict[str, Any]:
    async with probe.http.get(f"{probe.endpoints.gateway}/api/v1/alerts", headers=probe.bearer("operator")) as answer:
        page = await answer.json()
    alert_id = probe.found["alert"]["alert_id"]
    found: dict[str, Any] | None = next((alert for alert in page["items"] if alert["alert_id"] == alert_id), None)
    if found is None:
        raise AssertionError(f"{alert_id} is not in the list of alerts")
    return found


async def _hear(probe: Probe, wanted: Callable[[Item], bool]) -> tuple[int, Item]:
    while True:
        at_ns, item = await probe.found["heard"].get()
        if wanted(item):
            return at_ns, item


def _has(item: Item, event_id: str) -> bool:
    return any(counted["id"] == event_id for counted in item["alert"]["alarm_ids"])
