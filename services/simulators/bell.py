"""An emergency bell: a momentary contact that posts a press, and says every minute that it lives."""

import asyncio
from typing import Final

from services.contracts.alarm import AlarmRaised
from services.simulators.door_client import Answer, DoorClient

TOPIC: Final = "tns1:Device/Trigger/DigitalInput"
HEARTBEAT_S: Final = 60.0


class Bell:
    """A bell on a pole. `press` returns when its press is kept; a real one also tries again until then."""

    def __init__(self, door: DoorClient, *, heartbeat_s: float = HEARTBEAT_S) -> None:
        self._door = door
        self._heartbeat_s = heartbeat_s

    @property
    def device_id(self) -> str:
        return self._door.device_id

    async def press(self, *, traceparent: str | None = None) -> Answer:
        """Press once. The contact opens by itself: no clear is sent."""
        condition = {"topic": TOPIC, "active": True, "value": {"LogicalState": True}}
        return await self._door.say(AlarmRaised.TYPE, {"condition": condition}, traceparent=traceparent)

    async def run(self, stopping: asyncio.Event) -> None:
        """Send heartbeats until told to stop."""
        while not stopping.is_set():
            await self._door.heartbeat()
            try:
                async with asyncio.timeout(self._heartbeat_s):
                    await stopping.wait()
            except TimeoutError:
                continue
