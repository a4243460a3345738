"""The bells and lights of a demo city, saying that they live: `python -m services.simulators.devices FILE`.

FILE is JSON: `{"endpoints": FILE, "secrets": DIR, "devices": [{"id", "kind", "secret_ref"}]}`. The door's
address is in the endpoints file, which is there once the system is ready; until then they wait.
"""

import asyncio
import contextlib
import signal
import sys
from pathlib import Path
from typing import Final, Literal

import aiohttp
import msgspec
from msgspec import Struct

from services.runtime.clock import Clock, SystemClock
from services.runtime.settings import SecretStore
from services.simulators.bell import Bell
from services.simulators.door_client import DoorClient
from services.simulators.light import Light

LOOK_AGAIN_S: Final = 0.5


class DeviceOfDemo(Struct, frozen=True, kw_only=True):
    """A bell or light, and where its token is."""

    id: str
    kind: Literal["bell", "light"]
    secret_ref: str


class DevicesFile(Struct, frozen=True, kw_only=True):
    """What the command is given."""

    endpoints: str
    secrets: str
    devices: tuple[DeviceOfDemo, ...]


class _Door(Struct, frozen=True):
    device_door: str


async def run(file: DevicesFile, clock: Clock, stopping: asyncio.Event) -> None:
    """Let every device live until told to stop."""
    door = await _door(Path(file.endpoints), clock, stopping)
    if door is None:
        return
    secrets = SecretStore(Path(file.secrets))
    async with aiohttp.ClientSession() as http, asyncio.TaskGroup() as tasks:
        for one in file.devices:
            token = secrets.read(one.secret_ref)["token"]
            client = DoorClient(one.id, token=token, door_url=door, http=http, clock=clock, kind=one.kind)
            device = Bell(client) if one.kind == "bell" else Light(client)
            tasks.create_task(device.run(stopping), name=one.id)


async def _door(endpoints: Path, clock: Clock, stopping: asyncio.Event) -> str | None:
    while not stopping.is_set():
        door = _read_door(endpoints)
        if door is not None:
            return door
        await clock.sleep(LOOK_AGAIN_S)
    return None


def _read_door(endpoints: Path) -> str | None:
    with contextlib.suppress(FileNotFoundError):
        return msgspec.json.decode(endpoints.read_bytes(), type=_Door).device_door
    return None


async def _main(file: DevicesFile) -> None:
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    await run(file, SystemClock(), stopping)


if __name__ == "__main__":
    asyncio.run(_main(msgspec.json.decode(Path(sys.argv[1]).read_bytes(), type=DevicesFile)))
