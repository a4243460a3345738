"""A security light: says that it lives, and that its lamp is out until it is repaired."""

import asyncio
from typing import Final

from services.contracts.alarm import AlarmCleared, AlarmRaised
from services.simulators.door_client import Answer, DoorClient

TOPIC: Final = "tns1:Device/HardwareFailure/Lamp"
HEARTBEAT_S: Final = 60.0


class Light:
    """A lamp with its controller; `lit` is what a passer-by sees."""

    def __init__(self, door: DoorClient, *, heartbeat_s: float = HEARTBEAT_S) -> None:
        self._door = door
        self._heartbeat_s = heartbeat_s
        self.lit = True

    @property
    def device_id(self) -> str:
        return self._door.device_id

    async def fail(self) -> Answer:
        """Let the lamp go out and say so."""
        self.lit = False
        return await self._door.say(AlarmRaised.TYPE, _lamp(out=True))

    async def repair(self) -> Answer:
        """Put a new lamp in and say so."""
        self.lit = True
        return await self._door.say(AlarmCleared.TYPE, _lamp(out=False))

    async def run(self, stopping: asyncio.Event) -> None:
        """Send heartbeats until told to stop."""
        while not stopping.is_set():
            await self._door.heartbeat()
            try:
                async with asyncio.timeout(self._heartbeat_s):
                    await stopping.wait()
            except TimeoutError:
                continue


def _lamp(*, out: bool) -> dict[str, object]:
    return {"condition": {"topic": TOPIC, "active": out, "value": {"Failed": out}}}
