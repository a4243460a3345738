"""What anybody can do with a running box: press, see, answer, and prove that footage is what the camera sent.

    python outsider.py ENDPOINTS_JSON CAMERA=CLIP_FILE [CAMERA=CLIP_FILE ...]

It uses curl, a WebSocket client, av and `endpoints.json`; no code of the product. CLIP_FILE is what was
given to `--clip`, played in a loop by that camera. Prints one JSON object; exit status 0 when all holds.
"""

import asyncio
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import aiohttp
import av

SIGNATURE: Final = bytes.fromhex("005bc93f2d715e95ada4796f90877a6f")
"""The UUID of a signing SEI."""
RAISED: Final = "kr.safealley.alarm.raised.v1"
CLIP_US: Final = 13_000_000
OFF_KEY_US: Final = 1_370_000
HOUR_US: Final = 3_600_000_000
PATIENCE_S: Final = 60.0

Json = dict[str, Any]


def curl(url: str, token: str, *options: str, body: Json | None = None) -> tuple[int, bytes]:
    """Ask with curl; the token goes in by standard input, so that `ps` does not show it."""
    with tempfile.TemporaryDirectory() as folder:
        answer = Path(folder) / "answer"
        command = ["curl", "-sS", "--max-time", "30", "-K", "-", "-o", str(answer), "-w", "%{http_code}", *options]
        if body is not None:
            command += ["--data-binary", json.dumps(body)]
        said = subprocess.run(
            [*command, url], input=f'header = "Authorization: Bearer {token}"\n', text=True, capture_output=True,
            check=True,
        )  # fmt: skip
        return int(said.stdout), answer.read_bytes() if answer.exists() else b""


def ask(url: str, token: str, *options: str, body: Json | None = None, status: int = 200) -> Json:
    got, answer = curl(url, token, *options, body=body)
    if got != status:
        raise SystemExit(f"{url} answered {got}, not {status}: {answer[:500]!r}")
    return dict(json.loads(answer))


class Window:
    """A console's WebSocket: what it says is kept, and can be waited for."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self.alerts: dict[str, Json] = {}

    async def until(self, wanted: Callable[[Json], bool]) -> Json:
        """Return the first alert that is as wanted."""
        async with asyncio.timeout(PATIENCE_S):
            while True:
                for alert in self.alerts.values():
                    if wanted(alert):
                        return alert
                frame = await self._socket.receive_json()
                for item in frame.get("items", ()):
                    self.alerts[item["alert_id"]] = item["alert"]


async def follow_a_press(box: Json) -> Json:
    """Press, see it, acknowledge, wait for the clear, dispose, see it normal."""
    operator = box["tokens"]["operator"]
    url = f"{box['gateway']}/api/v1/alert-stream"
    headers = {"Authorization": f"Bearer {operator}"}
    async with aiohttp.ClientSession() as http, http.ws_connect(url, headers=headers) as socket:
        await socket.send_json({"op": "hello", "proto": 1, "console_id": "outsider"})
        window = Window(socket)
        pressed_s = time.monotonic()
        press_id = await asyncio.to_thread(press, box)
        alert = await window.until(lambda one: any(counted["id"] == press_id for counted in one["alarm_ids"]))
        seen_s = time.monotonic() - pressed_s
        alert_id = alert["alert_id"]
        await asyncio.to_thread(command, box, alert, "ack", {})
        await window.until(lambda one: one["alert_id"] == alert_id and one["isa"]["acked"])
        cleared = await window.until(lambda one: one["alert_id"] == alert_id and not one["isa"]["active"])
        await asyncio.to_thread(command, box, cleared, "dispose", {"code": "Test", "note": "outsider"})
        await window.until(lambda one: one["alert_id"] == alert_id and one["isa"]["state"] == "NORMAL")
    return {"alert_id": alert_id, "press_to_screen_ms": round(seen_s * 1000)}


def press(box: Json) -> str:
    bell = box["bells"][0]
    event = {
        "specversion": "1.0", "id": str(uuid.uuid4()), "source": f"/bells/{bell['id']}", "subject": bell["id"],
        "type": RAISED, "data": {"condition": {"topic": "tns1:Device/Trigger/DigitalInput", "active": True}},
    }  # fmt: skip
    kind = "Content-Type: application/cloudevents+json"
    said = ask(f"{box['device_door']}/api/v1/alarms", bell["token"], "-H", kind, body=event, status=202)
    return str(said["id"])


def command(box: Json, alert: Json, verb: str, body: Json) -> Json:
    headers = ("-H", "Content-Type: application/json", "-H", f"Idempotency-Key: {uuid.uuid4()}")
    body = body | {"decision_version": alert["decision_version"]}
    url = f"{box['gateway']}/api/v1/alerts/{alert['alert_id']}/{verb}"
    return ask(url, box["tokens"]["operator"], *headers, body=body)


def take_out(box: Json, camera: str) -> bytes:
    """Wait for enough footage and fetch a clip that begins off a key picture."""
    auditor = box["tokens"]["auditor"]
    base = f"{box['gateway']}/api/v1/archive/cameras/{camera}"
    give_up_s = time.monotonic() + PATIENCE_S
    while time.monotonic() < give_up_s:
        now_us = time.time_ns() // 1000
        tiles = ask(f"{base}/timeline?from={now_us - HOUR_US}&to={now_us}&purpose=outsider", auditor)["items"]
        footage = [tile for tile in tiles if tile["state"] in ("recorded", "open")]
        if footage and footage[-1]["to_us"] - footage[0]["from_us"] > CLIP_US + 2 * OFF_KEY_US:
            from_us = footage[0]["from_us"] + OFF_KEY_US
            status, clip = curl(f"{base}/clip.mp4?from={from_us}&to={from_us + CLIP_US}&purpose=outsider", auditor)
            if status != 200:
                raise SystemExit(f"{camera}: clip.mp4 answered {status}: {clip[:500]!r}")
            return clip
        time.sleep(0.25)
    raise SystemExit(f"{camera}: not enough footage within {PATIENCE_S:g} s")


def nal_units(file: Path) -> list[bytes]:
    """Return every NAL unit of an MP4's video, in order, as it is."""
    with av.open(str(file)) as container:
        samples = [bytes(packet) for packet in container.demux(container.streams.video[0]) if packet.size]
    return [nal for sample in samples for nal in _split(sample)]


def _split(sample: bytes) -> Iterator[bytes]:
    at = 0
    while at < len(sample):
        size = int.from_bytes(sample[at : at + 4], "big")
        yield sample[at + 4 : at + 4 + size]
        at += 4 + size


def compare(clip: Path, source: Path) -> Json:
    """Find the clip in the loop of its source, hash by hash."""
    hashes = [hashlib.sha256(nal).hexdigest() for nal in nal_units(clip)]
    played = nal_units(source)
    wanted = [hashlib.sha256(nal).hexdigest() for nal in played]
    begin = next(
        (at for at in range(len(wanted)) if all(h == wanted[(at + n) % len(wanted)] for n, h in enumerate(hashes))),
        None,
    )
    if begin is None or len(hashes) <= len(wanted):
        raise SystemExit(f"{clip.name}: {len(hashes)} NAL units are no stretch, longer than once, of {source.name}")
    signatures = {hashlib.sha256(nal).hexdigest() for nal in played if SIGNATURE in nal}
    found = [digest for digest in hashes if digest in signatures]
    expected = sum(wanted[(begin + n) % len(wanted)] in signatures for n in range(len(hashes)))
    if len(found) != expected or set(found) != signatures:
        raise SystemExit(f"{clip.name}: {len(found)} signing SEI of {expected} left the archive")
    return {"nal_units": len(hashes), "signing_sei": len(found)}


def main(arguments: list[str]) -> int:
    box = json.loads(Path(arguments[0]).read_text())
    result: Json = {"press": asyncio.run(follow_a_press(box)), "clips": {}}
    with tempfile.TemporaryDirectory() as folder:
        for pair in arguments[1:]:
            camera, _, source = pair.partition("=")
            clip = Path(folder) / f"{camera}.mp4"
            clip.write_bytes(take_out(box, camera))
            result["clips"][camera] = compare(clip, Path(source)) | {"file": os.path.basename(source)}  # noqa: PTH119
    sys.stdout.write(json.dumps(result) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
