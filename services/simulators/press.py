"""`safealley press BELL`: one press of a running box's bell, through ingest's own door."""

import asyncio
import sys
from pathlib import Path
from typing import Final

import aiohttp
from msgspec import Struct

from services.runtime.clock import Clock, SystemClock
from services.runtime.endpoints import read_endpoints
from services.runtime.errors import RetryLater, SettingsError
from services.simulators.bell import Bell
from services.simulators.door_client import Answer, DoorClient

DEADLINE_S: Final = 30.0


class _Bell(Struct, frozen=True):
    id: str
    token: str


class _Endpoints(Struct, frozen=True):
    """What a press needs of `endpoints.json`."""

    device_door: str
    bells: tuple[_Bell, ...] = ()


def press_from_endpoints(bell_id: str, *, endpoints: Path, clock: Clock | None = None) -> int:
    """Press a bell and say what became of it.

    Raises:
        SettingsError: there is no such bell, or no box runs here.
        RetryLater: the door did not take the press.
    """
    known = read_endpoints(endpoints, _Endpoints)
    bells = {bell.id: bell for bell in known.bells}
    if bell_id not in bells:
        raise SettingsError(f"there is no bell {bell_id!r}: {endpoints} names {', '.join(sorted(bells)) or 'none'}")
    answer = asyncio.run(_press(bells[bell_id], known.device_door, clock or SystemClock()))
    if not answer.accepted:
        raise RetryLater(_why_not(answer, bell_id))
    sys.stdout.write(f"{bell_id}: pressed; kept as {answer.id} after {answer.seconds * 1000:.0f} ms\n")
    return 0


async def _press(bell: _Bell, door_url: str, clock: Clock) -> Answer:
    async with asyncio.timeout(DEADLINE_S), aiohttp.ClientSession() as http:
        door = DoorClient(bell.id, token=bell.token, door_url=door_url, http=http, clock=clock)
        return await Bell(door).press()


def _why_not(answer: Answer, bell_id: str) -> str:
    if answer.status == 0:
        return f"{bell_id}: the device door does not answer: is `safealley demo` still running?"
    return f"{bell_id}: the device door answered {answer.status} after {answer.attempts} attempts"
