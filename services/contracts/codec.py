"""Bytes <-> Struct: the only file that knows the wire format of record bodies.

A body is msgspec JSON. Consumers ignore fields they do not know, so that a newer producer is read.
"""

import re
from typing import Any, Final, NamedTuple, TypeVar, get_args

import msgspec
from msgspec import Struct

from services.contracts.alarm import AlarmCleared, AlarmHeartbeat, AlarmRaised
from services.contracts.alert import Alert, AlertChange, AlertEvent, PartitionFence
from services.contracts.audit import Access
from services.contracts.claim import Claim
from services.contracts.command import DeviceCommand, DeviceConfirmation, OperatorCommand, Receipt
from services.contracts.device import Device
from services.contracts.envelope import Envelope, Headers
from services.contracts.errors import MalformedMessage, UnknownSchema
from services.contracts.gap import Gap, GapClosed, GapRepaired
from services.contracts.site import Site
from services.contracts.stream import PictureHealth, StreamState

T = TypeVar("T")


def alert_event_type(change: AlertChange) -> str:
    """Return the event type of one change of an alert."""
    return f"kr.safealley.alert.{change}.v1"


_BODIES: tuple[type[Struct], ...] = (
    Access, AlarmCleared, AlarmHeartbeat, AlarmRaised, Alert, Claim, Device, DeviceCommand, DeviceConfirmation,
    Gap, GapClosed, GapRepaired, OperatorCommand, PartitionFence, PictureHealth, Receipt, Site, StreamState,
)  # fmt: skip
BODIES: Final[dict[str, type[Struct]]] = {
    **{body.TYPE: body for body in _BODIES},  # type: ignore[attr-defined]
    **{alert_event_type(change): AlertEvent for change in get_args(AlertChange)},
}
"""Every type with a JSON body, by its CloudEvents type; `video` has its own file, fragment.py."""

_encoder = msgspec.json.Encoder()
_decoders: dict[Any, msgspec.json.Decoder[Any]] = {}
# msgspec ends its message with a path such as `$.device.lon`; the part before it may quote a value.
_PATH = re.compile(r"at `(\$[^`]*)`\s*$")


class Event(NamedTuple):
    """A decoded record: its attributes and its body."""

    envelope: Envelope
    body: Struct


def encode(body: Struct) -> bytes:
    """Return the JSON of a body. The constructor checks nothing: only decoding does."""
    return _encoder.encode(body)


def decode(value: bytes | str, into: type[T]) -> T:
    """Decode and validate.

    Raises:
        MalformedMessage: says where and what was expected, never the value.
    """
    decoder = _decoders.get(into)
    if decoder is None:
        decoder = _decoders[into] = msgspec.json.Decoder(into)
    try:
        return decoder.decode(value)  # type: ignore[no-any-return]
    except msgspec.ValidationError as error:
        raise MalformedMessage(_without_values(str(error))) from None
    except RecursionError:
        raise MalformedMessage("nested too deeply") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise MalformedMessage(
            f"not JSON: {error}" if isinstance(error, msgspec.DecodeError) else "not UTF-8"
        ) from None


def decode_event(headers: Headers, value: bytes | None) -> Event:
    """Decode a record that carries a JSON body.

    Raises:
        UnknownSchema: no contract for its type, or of a later version.
        MalformedMessage: headers or body break their contract, or there is no body.
    """
    envelope = Envelope.from_headers(headers)
    into = BODIES.get(envelope.type)
    if into is None:
        raise UnknownSchema(envelope.type)
    if value is None:
        raise MalformedMessage(f"{envelope.type} without data")
    return Event(envelope, decode(value, into))


def _without_values(message: str) -> str:
    """Keep what was expected and where; drop an `Invalid enum value 'x'`, which quotes the input."""
    path = _PATH.search(message)
    what = "value is not one of those allowed" if message.startswith("Invalid enum value") else message
    return f"{what.split(' - at `')[0]} at {path.group(1)}" if path else what
