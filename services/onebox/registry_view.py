"""What one box must know of the registry: its devices and jurisdictions. Reads Kafka, writes nothing."""

from dataclasses import dataclass

from services.contracts import codec
from services.contracts.device import Device
from services.contracts.errors import MalformedMessage, UnknownSchema
from services.contracts.site import Site
from services.contracts.topics import DEVICES
from services.runtime.errors import RetryLater
from services.runtime.kafka_port import Kafka, Reader

POLL_S = 1.0
POLLS_MAX = 30


@dataclass(frozen=True, slots=True, kw_only=True)
class RegistryView:
    """Devices and sites that are registered now."""

    devices: tuple[Device, ...]
    sites: tuple[Site, ...]

    @property
    def jurisdictions(self) -> tuple[str, ...]:
        return tuple(sorted({*(d.jurisdiction for d in self.devices), *(s.jurisdiction for s in self.sites)}))


async def read_registry(kafka: Kafka) -> RegistryView:
    """Read the whole registry as it stands.

    Raises:
        RetryLater: no broker answered in time.
    """
    found: dict[str, Device | Site] = {}
    async with kafka.reader(await kafka.whole(DEVICES.name)) as reader:
        for _ in range(POLLS_MAX):
            if reader.caught_up():
                break
            await _take(reader, found)
        else:
            raise RetryLater("the registry could not be read from Kafka in time")
    return RegistryView(
        devices=tuple(item for item in found.values() if isinstance(item, Device)),
        sites=tuple(item for item in found.values() if isinstance(item, Site)),
    )


async def _take(reader: Reader, found: dict[str, Device | Site]) -> None:
    for record in await reader.poll(timeout_s=POLL_S):
        key = record.key or ""
        try:
            body = codec.decode_event(record.headers, record.value).body if record.value is not None else None
        except (MalformedMessage, UnknownSchema):
            continue  # the services count and report it; here it only means one line less
        if isinstance(body, Device | Site):
            found[key] = body
        else:
            found.pop(key, None)
