"""Measure how long it takes from a press at the device door to the message at a console.

    python -m benchmarks.bell_to_screen [--cameras 40] [--presses 500] [--runs 3] [--quick] [--json]

A real box (Kafka, the four services) and a console over its WebSocket. Presses come one at a time
from one bell, each under its own condition so that each opens an alert; the clock starts before the
POST is written and stops when the frame is parsed. `--cameras` records that many 2 Mbps cameras beside.
"""

import asyncio
import json
import tempfile
import uuid
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp

from benchmarks.figures import arguments, machine, median, percentile, save, say
from benchmarks.load import all_recording
from services.onebox.demo import DemoWanted, demo_box
from services.onebox.endpoints import Endpoints
from services.runtime.clock import SystemClock

PACE_S = 0.05
PRESS_S = 10.0
CLOCK = SystemClock()


async def measure(cameras: int, presses: int, runs: int) -> dict[str, Any]:
    """Run one box and return the figures of all runs on it."""
    with tempfile.TemporaryDirectory() as folder:
        wanted = DemoWanted(cameras=cameras)
        box = demo_box(Path(folder), wanted, kafka=None, ports="free", clock=CLOCK, say=lambda _line: None)
        async with box, aiohttp.ClientSession() as http:
            await all_recording(box, cameras, http)
            await _one_run(box.endpoints(), http, 30, 0)
            found = [await _one_run(box.endpoints(), http, presses, run + 1) for run in range(runs)]
    return {
        "cameras": cameras,
        "presses": presses,
        "runs": runs,
        "lost": sum(presses - len(times) for times in found),
        "p50_ms": median([percentile(times, 0.5) for times in found]),
        "p99_ms": median([percentile(times, 0.99) for times in found]),
        "worst_ms": round(max(max(times) for times in found), 1),
        "p99_ms_of_runs": [round(percentile(times, 0.99), 1) for times in found],
        **machine(),
    }


async def _one_run(endpoints: Endpoints, http: aiohttp.ClientSession, presses: int, run: int) -> list[float]:
    """Press one after another; return the times in milliseconds."""
    url = f"{endpoints.gateway}/api/v1/alert-stream"
    times: list[float] = []
    headers = {"Authorization": f"Bearer {endpoints.tokens['operator']}"}
    async with http.ws_connect(url, headers=headers, max_msg_size=0) as socket:
        await socket.send_json({"op": "hello", "proto": 1, "console_id": f"bench-{run}"})
        while (await socket.receive_json())["op"] != "snapshot_end":
            pass
        for number in range(presses):
            event_id = str(uuid.uuid4())
            begin_ns = CLOCK.monotonic_ns()
            async with asyncio.timeout(PRESS_S), asyncio.TaskGroup() as tasks:
                tasks.create_task(_press(endpoints, http, event_id, f"bench/{run}/{number}"))
                while not _shows(json.loads((await socket.receive()).data), event_id):
                    pass
                times.append((CLOCK.monotonic_ns() - begin_ns) / 1e6)
            await asyncio.sleep(PACE_S)
    return times


async def _press(endpoints: Endpoints, http: aiohttp.ClientSession, event_id: str, topic: str) -> None:
    bell = endpoints.bells[0]
    event = {
        "specversion": "1.0",
        "id": event_id,
        "source": f"/bells/{bell.id}",
        "subject": bell.id,
        "type": "kr.safealley.alarm.raised.v1",
        "data": {"condition": {"topic": topic, "active": True}},
    }
    headers = {"Authorization": f"Bearer {bell.token}", "Content-Type": "application/cloudevents+json"}
    async with http.post(f"{endpoints.device_door}/api/v1/alarms", json=event, headers=headers) as answer:
        if answer.status != 202:
            raise RuntimeError(f"the door answered {answer.status} {await answer.text()}")


def _shows(frame: dict[str, Any], event_id: str) -> bool:
    return frame["op"] == "event" and any(
        item["version"] == 1 and item["alert"]["alarm_ids"][0]["id"] == event_id for item in frame["items"]
    )


def main() -> None:
    """Entry point."""
    parser = arguments(__doc__ or "")
    parser.add_argument("--cameras", type=int, default=0)
    parser.add_argument("--presses", type=int, default=500)
    parser.add_argument("--runs", type=int, default=3)
    wanted = parser.parse_args()
    presses, runs = (100, 1) if wanted.quick else (wanted.presses, wanted.runs)
    result = asyncio.run(measure(wanted.cameras, presses, runs))
    if wanted.save:
        save(result, "bell_to_screen", day=datetime.now(UTC).date())
    say(result, as_json=wanted.json)


if __name__ == "__main__":
    main()
