"""`safealley demo`: one box with a city to watch: simulated cameras, bells and lights, and your own beside them."""

import secrets
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec
from rich.console import Console

from services.contracts.topics import DEVICES
from services.ingest import registry_writer
from services.onebox import lock
from services.onebox.box import OneBox, Say
from services.onebox.demo_city import (
    CAMERA_REF,
    CLIP_CAMERA,
    OWN_CAMERA,
    OWN_CAMERA_REF,
    CameraOfDemo,
    DemoCity,
    demo_city,
    not_of_a_demo,
)
from services.onebox.durable import write_atomically
from services.onebox.layout import Layout, PortChoice
from services.onebox.ports import LOOPBACK, reserve
from services.onebox.programs import Program
from services.onebox.up import run_box, status_of
from services.runtime.clock import Clock, SystemClock
from services.runtime.errors import SettingsError
from services.runtime.kafka_port import Kafka

CAMERA_PORTS: Final = {"cameras": 9554, "clip camera": 9555}
"""Simulated cameras, and the one that plays --clip."""
NAMED_MAX: Final = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoWanted:
    """What the command line asked for; `more_clips` play beside `clip`, each on a camera of its own."""

    cameras: int = 4
    clip: Path | None = None
    more_clips: tuple[Path, ...] = ()
    camera: str | None = None
    credentials: Path | None = None
    mbps: float = 2.0
    """Of each simulated camera; a small disk is filled sooner with more."""

    @property
    def clips(self) -> dict[str, Path]:
        """Every clip by the camera that plays it."""
        files = (*(() if self.clip is None else (self.clip,)), *self.more_clips)
        return {CLIP_CAMERA if n == 1 else f"{CLIP_CAMERA}-{n}": file for n, file in enumerate(files, 1)}


def run_demo(
    *,
    data: Path,
    ports: PortChoice,
    kafka: str | None,
    cameras: int,
    clip: Path | None,
    camera: str | None,
    credentials: Path | None,
) -> int:
    """Run the demo until Ctrl-C; return the exit status."""
    console = Console(highlight=False, soft_wrap=True)
    wanted = DemoWanted(cameras=cameras, clip=clip, camera=camera, credentials=credentials)

    def say(line: str) -> None:
        console.print(line, markup=False)

    try:
        box = demo_box(data, wanted, kafka=kafka, ports=ports, clock=SystemClock(), say=say)
    except (SettingsError, OSError) as error:
        return status_of(error)
    return run_box(box, console)


def demo_box(data: Path, wanted: DemoWanted, *, kafka: str | None, ports: PortChoice, clock: Clock, say: Say) -> OneBox:
    """Return a box that registers the demo's city and runs its simulators.

    Raises:
        SettingsError: a box runs on this directory, a credentials file is not one, or a port is taken.
    """
    layout = Layout(data.resolve())
    lock.refuse_second(layout.lock)
    layout.secrets.mkdir(parents=True, exist_ok=True)
    layout.secrets.chmod(0o700)
    more = {_simulator(camera_id): 0 for camera_id in tuple(wanted.clips)[1:]}
    reserved = reserve((CAMERA_PORTS if ports == "default" else dict.fromkeys(CAMERA_PORTS, 0)) | more)
    places = reserved.ports
    city = demo_city(_cameras(wanted, places))
    registry = layout.root / "registry.yaml"
    _write_json(registry, city.document)  # JSON is YAML
    _write_secrets(layout, city, wanted)

    async def register(port: Kafka) -> None:
        await register_city(registry, port, clock=clock)

    return OneBox(
        data,
        kafka=kafka,
        ports=ports,
        beside=_programs(layout, city, wanted, places),
        register=register,
        sources=city.sources,
        reserved=reserved,
        clock=clock,
        say=say,
    )


async def register_city(file: Path, kafka: Kafka, *, clock: Clock) -> None:
    """Make the registry the demo's city, and take out what an earlier demo had beside it.

    Raises:
        SettingsError: the registry has a device or site that no demo made; nothing was written.
        RetryLater: Kafka did not answer.
    """
    table = await registry_writer.read_table(kafka, DEVICES.name)
    others = not_of_a_demo([*table.sites().values(), *table.devices().values()])
    if others:
        named = ", ".join(others[:NAMED_MAX]) + (", …" if len(others) > NAMED_MAX else "")
        raise SettingsError(
            f"this Kafka has the registry of a real city ({named}), and a demo would put its own in its place; "
            "cure: run the demo with another --data DIR and without --kafka, or the city with `safealley up`"
        )
    await registry_writer.apply(file, kafka, clock=clock, prune=True)


def hashes_file(data: Path, camera_id: str) -> Path:
    """Return where a simulator writes the hash of every unit it plays."""
    return data.resolve() / f"{_simulator(camera_id).removesuffix(' camera').replace(' ', '-')}-units.json"


def _simulator(camera_id: str) -> str:
    """Return the name of the process that plays a camera: of its own for a clip."""
    if not camera_id.startswith(CLIP_CAMERA):
        return "cameras"
    number = camera_id.removeprefix(CLIP_CAMERA).removeprefix("-")
    return f"clip {number} camera" if number else "clip camera"


def _cameras(wanted: DemoWanted, places: Mapping[str, int]) -> list[CameraOfDemo]:
    found = [
        CameraOfDemo(
            device_id=f"cam-{number}",
            url=f"rtsp://{LOOPBACK}:{places['cameras']}/cam-{number}",
            source="simulated",
            secret_ref=CAMERA_REF,
        )
        for number in range(1, wanted.cameras + 1)
    ]
    for camera_id in wanted.clips:
        url = f"rtsp://{LOOPBACK}:{places[_simulator(camera_id)]}/cam-1"
        found.append(CameraOfDemo(device_id=camera_id, url=url, source="clip", secret_ref=CAMERA_REF))
    if wanted.camera is not None:
        secret = None if wanted.credentials is None else OWN_CAMERA_REF
        found.append(CameraOfDemo(device_id=OWN_CAMERA, url=wanted.camera, source="camera", secret_ref=secret))
    return found


def _programs(layout: Layout, city: DemoCity, wanted: DemoWanted, places: Mapping[str, int]) -> list[Program]:
    simulator = [
        sys.executable,
        "-m",
        "services.simulators.camera",
        "--credentials",
        str(layout.secrets / CAMERA_REF),
    ]
    programs = []
    if wanted.cameras:
        hashes = str(hashes_file(layout.root, "cam-1"))
        what = ["--count", str(wanted.cameras), "--port", str(places["cameras"]), "--hashes", hashes]
        what += ["--mbps", str(wanted.mbps)]
        programs.append(Program(name="cameras", command=[*simulator, *what], port=places["cameras"]))
    for camera_id, clip in wanted.clips.items():
        name = _simulator(camera_id)
        hashes = str(hashes_file(layout.root, camera_id))
        what = ["--clip", str(clip.resolve()), "--port", str(places[name]), "--hashes", hashes]
        programs.append(Program(name=name, command=[*simulator, *what], port=places[name]))
    devices = layout.root / "devices.json"
    told = [{"id": d["device_id"], "kind": d["kind"], "secret_ref": d["secret_ref"]} for d in city.devices]
    _write_json(devices, {"endpoints": str(layout.endpoints), "secrets": str(layout.secrets), "devices": told})
    programs.append(
        Program(name="bells and lights", command=[sys.executable, "-m", "services.simulators.devices", str(devices)])
    )
    return programs


def _write_secrets(layout: Layout, city: DemoCity, wanted: DemoWanted) -> None:
    """Make what is missing; what is there stays, so that a restart knows its devices again."""
    _secret(layout, CAMERA_REF, {"username": "safealley", "password": secrets.token_urlsafe(16)})
    for device in city.devices:
        _secret(layout, device["secret_ref"], {"token": secrets.token_urlsafe(32)})
    if wanted.credentials is not None:
        _copy_credentials(wanted.credentials, layout.secrets / OWN_CAMERA_REF)


def _secret(layout: Layout, ref: str, content: Mapping[str, str]) -> None:
    file = layout.secrets / ref
    if not file.exists():
        _write_json(file, content)


def _copy_credentials(source: Path, target: Path) -> None:
    try:
        found = msgspec.json.decode(source.read_bytes(), type=dict[str, str])
    except (OSError, msgspec.DecodeError):
        found = {}
    if not {"username", "password"} <= found.keys():
        raise SettingsError(f'--credentials {source}: write {{"username": "…", "password": "…"}} as JSON')
    _write_json(target, {name: found[name] for name in ("username", "password")})


def _write_json(file: Path, content: Any) -> None:
    write_atomically(file, msgspec.json.format(msgspec.json.encode(content), indent=2) + b"\n", mode=0o600)
