"""How a simulated device speaks to the device door: one CloudEvent a POST, the same id on every retry.

Knows the public contract only (alerts.md 2.1), nothing of ingest.
"""

import random
import secrets
import uuid
from dataclasses import dataclass
from typing import Any, Final

import aiohttp

from services.contracts.alarm import AlarmHeartbeat
from services.runtime.clock import Clock

_RETRY_S: Final = 1.0
_RETRY_S_MAX: Final = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What became of one event. `status` 0: the door was never reached."""

    id: str
    status: int
    seconds: float
    attempts: int

    @property
    def accepted(self) -> bool:
        return self.status == 202


class DoorClient:
    """One device with its token. `door_url` is the door's origin, such as http://127.0.0.1:8081."""

    def __init__(
        self,
        device_id: str,
        *,
        token: str,
        door_url: str,
        http: aiohttp.ClientSession,
        clock: Clock,
        kind: str = "bell",
    ) -> None:
        self.device_id = device_id
        self._kind = kind
        self._token = token
        self._url = f"{door_url.rstrip('/')}/api/v1/alarms"
        self._http = http
        self._clock = clock

    async def say(
        self, event_type: str, data: dict[str, Any], *, attempts_max: int = 20, traceparent: str | None = None
    ) -> Answer:
        """Post an event until the door answers for good; 503 and silence are tried again."""
        event = {
            "specversion": "1.0",
            "id": str(uuid.uuid4()),
            "source": f"/{self._kind}s/{self.device_id}",
            "subject": self.device_id,
            "type": event_type,
            "data": data | {"device_time_us": self._clock.now_us()},
        }
        started_ns = self._clock.monotonic_ns()
        headers = {"traceparent": traceparent or f"00-{secrets.token_hex(16)}-{secrets.token_hex(8)}-01"}
        status = attempts = 0
        while attempts < attempts_max:
            attempts += 1
            status = await self._post(event, headers)
            if status not in (0, 503):
                break
            await self._clock.sleep(random.uniform(0.5, 1.0) * min(_RETRY_S_MAX, _RETRY_S * 2.0**attempts))
        seconds = (self._clock.monotonic_ns() - started_ns) / 1e9
        return Answer(id=str(event["id"]), status=status, seconds=seconds, attempts=attempts)

    async def heartbeat(self) -> Answer:
        return await self.say(AlarmHeartbeat.TYPE, {}, attempts_max=1)

    async def _post(self, event: dict[str, Any], headers: dict[str, str]) -> int:
        wanted = {
            "Authorization": f"Bearer {self._token}",
            "Content-Type": "application/cloudevents+json",
        } | headers
        try:
            limit = aiohttp.ClientTimeout(total=10)
            async with self._http.post(self._url, json=event, headers=wanted, timeout=limit) as answer:
                return answer.status
        except (aiohttp.ClientError, TimeoutError):
            return 0
