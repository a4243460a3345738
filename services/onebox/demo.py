"""`safealley demo`: one box with a city to watch: simulated cameras, bells and lights, and your own beside them."""

import secrets
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec
from rich.console import Console

from services.ingest import registry_writer
from services.onebox.box import OneBox, Program, Say
from services.onebox.demo_city import (
    CAMERA_REF,
    CLIP_CAMERA,
    OWN_CAMERA,
    OWN_CAMERA_REF,
    CameraOfDemo,
    DemoCity,
    demo_city,
)
from services.onebox.durable import write_atomically
from services.onebox.layout import Layout, PortChoice
from services.onebox.ports import LOOPBACK, reserve
from services.onebox.up import run_box
from services.runtime.clock import Clock, SystemClock
from services.runtime.errors import SettingsError
from services.runtime.kafka_port import Kafka

CAMERA_PORTS: Final = {"cameras": 9554, "clip camera": 9555}
"""Simulated cameras, and the one that plays --clip."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoWanted:
    """What the command line asked for."""

    cameras: int = 4
    clip: Path | None = None
    camera: str | None = None
    credentials: Path | None = None
    mbps: float = 2.0
    """Of each simulated camera; a small disk is filled sooner with more."""


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
    except SettingsError as error:
        console.print(str(error), style="red", markup=False)
        return 2
    return run_box(box, console)


def demo_box(data: Path, wanted: DemoWanted, *, kafka: str | None, ports: PortChoice, clock: Clock, say: Say) -> OneBox:
    """Return a box that registers the demo's city and runs its simulators.

    Raises:
        SettingsError: a credentials file is not one, or a port is taken.
    """
    layout = Layout(data.resolve())
    layout.secrets.mkdir(parents=True, exist_ok=True)
    layout.secrets.chmod(0o700)
    reserved = reserve(CAMERA_PORTS if ports == "default" else dict.fromkeys(CAMERA_PORTS, 0))
    places = tuple(reserved.ports[name] for name in CAMERA_PORTS)
    city = demo_city(_cameras(wanted, places))
    registry = layout.root / "registry.yaml"
    _write_json(registry, city.document)  # JSON is YAML
    _write_secrets(layout, city, wanted)

    async def register(port: Kafka) -> None:
        await registry_writer.apply(registry, port, clock=clock, prune=True)

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


def hashes_file(data: Path, camera_id: str) -> Path:
    """Return where a simulator writes the hash of every unit it plays."""
    return data.resolve() / f"{'clip' if camera_id == CLIP_CAMERA else 'cameras'}-units.json"


def _cameras(wanted: DemoWanted, places: tuple[int, ...]) -> list[CameraOfDemo]:
    found = [
        CameraOfDemo(
            device_id=f"cam-{number}",
            url=f"rtsp://{LOOPBACK}:{places[0]}/cam-{number}",
            source="simulated",
            secret_ref=CAMERA_REF,
        )
        for number in range(1, wanted.cameras + 1)
    ]
    if wanted.clip is not None:
        url = f"rtsp://{LOOPBACK}:{places[1]}/cam-1"
        found.append(CameraOfDemo(device_id=CLIP_CAMERA, url=url, source="clip", secret_ref=CAMERA_REF))
    if wanted.camera is not None:
        secret = None if wanted.credentials is None else OWN_CAMERA_REF
        found.append(CameraOfDemo(device_id=OWN_CAMERA, url=wanted.camera, source="camera", secret_ref=secret))
    return found


def _programs(layout: Layout, city: DemoCity, wanted: DemoWanted, places: tuple[int, ...]) -> list[Program]:
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
        what = ["--count", str(wanted.cameras), "--port", str(places[0]), "--hashes", hashes]
        what += ["--mbps", str(wanted.mbps)]
        programs.append(Program(name="cameras", command=[*simulator, *what]))
    if wanted.clip is not None:
        hashes = str(hashes_file(layout.root, CLIP_CAMERA))
        what = ["--clip", str(wanted.clip.resolve()), "--port", str(places[1]), "--hashes", hashes]
        programs.append(Program(name="clip camera", command=[*simulator, *what]))
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
