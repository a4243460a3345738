"""The registry and each camera's state, as a person may see them. No I/O."""

from dataclasses import dataclass, field

from services.contracts import codec
from services.contracts.console import CityView, DeviceView
from services.contracts.device import Device
from services.contracts.site import Site
from services.contracts.stream import StreamState
from services.runtime.identity import Caller
from services.runtime.kafka_port import Record
from services.runtime.registry import RecordTable


@dataclass(slots=True)
class City:
    """Sites, devices and stream states, kept up from `devices.<pool>` and `streams`."""

    sites: dict[str, Site] = field(default_factory=dict)
    devices: dict[str, Device] = field(default_factory=dict)
    states: dict[tuple[str, str], StreamState] = field(default_factory=dict)

    async def stand(self, table: RecordTable) -> None:
        """Take the registry as it stands now."""
        self.sites, self.devices = table.sites(), table.devices()

    def apply(self, record: Record) -> None:
        """Take one record of `streams`; only states matter here, gaps are archive's.

        Raises:
            ContractError: the record is not what its topic carries.
        """
        body = codec.decode_event(record.headers, record.value).body
        if isinstance(body, StreamState):
            self.states[body.camera_id, body.stream] = body

    def view(self, caller: Caller) -> CityView:
        """Return what this person may see: no address, no secret reference."""
        return CityView(
            sites=tuple(site for site in self.sites.values() if caller.may_see(site.jurisdiction)),
            devices=tuple(
                self._device_view(device) for device in self.devices.values() if self.visible(caller, device)
            ),
        )

    def camera(self, caller: Caller, camera_id: str) -> Device | None:
        """Return a camera this person may know of."""
        device = self.devices.get(camera_id)
        return device if device is not None and device.kind == "camera" and self.visible(caller, device) else None

    @staticmethod
    def visible(caller: Caller, device: Device) -> bool:
        return device.enabled and caller.may_see(device.jurisdiction)

    def _device_view(self, device: Device) -> DeviceView:
        state = self.states.get((device.device_id, "main"))
        return DeviceView(
            device_id=device.device_id,
            kind=device.kind,
            site_id=device.site_id,
            lon=device.lon,
            lat=device.lat,
            streams=tuple(stream.name for stream in device.streams),
            state=None if state is None else state.state,
            codec=None if state is None else state.codec,
        )
