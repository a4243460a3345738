"""CloudEvents 1.0 attributes and their Kafka binary-mode headers (kafka binding 1.0.2).

Attributes become `ce_<name>` headers in UTF-8; `datacontenttype` becomes `content-type` and
`traceparent` stays plain. `source` + `id` is the idempotency key of every record.
"""

from datetime import UTC, datetime, timedelta

from msgspec import Struct

from services.contracts.errors import MalformedMessage
from services.contracts.units import UtcMicroseconds

Headers = tuple[tuple[str, bytes], ...]

JSON = "application/json"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_TEXT_ATTRIBUTES = (
    "id",
    "source",
    "type",
    "subject",
    "time",
    "recordedtime",
    "partitionkey",
    "sequence",
    "dataschema",
    "correlationid",
    "causationid",
)
_MANDATORY = ("id", "source", "type")


class Envelope(Struct, frozen=True, kw_only=True):
    """The attributes of one event. `time` is RFC 3339 text as CloudEvents wants it."""

    id: str
    source: str
    type: str
    subject: str | None = None
    time: str | None = None
    recordedtime: str | None = None
    partitionkey: str | None = None
    sequence: str | None = None
    dataschema: str | None = None
    correlationid: str | None = None
    causationid: str | None = None
    epoch: int | None = None
    traceparent: str | None = None
    datacontenttype: str = JSON

    def to_headers(self) -> Headers:
        """Return the binary-mode headers, absent attributes left out."""
        headers = [("ce_specversion", b"1.0")]
        for name in _TEXT_ATTRIBUTES:
            text: str | None = getattr(self, name)
            if text is not None:
                headers.append((f"ce_{name}", text.encode()))
        if self.epoch is not None:
            headers.append(("ce_epoch", str(self.epoch).encode()))
        if self.traceparent is not None:
            headers.append(("traceparent", self.traceparent.encode()))
        headers.append(("content-type", self.datacontenttype.encode()))
        return tuple(headers)

    @classmethod
    def from_headers(cls, headers: Headers) -> "Envelope":
        """Read the headers of a record.

        Raises:
            MalformedMessage: not CloudEvents 1.0, an attribute missing, or not UTF-8.
        """
        try:
            texts = {name: value.decode() for name, value in headers if name.startswith("ce_")}
            plain = {name: value.decode() for name, value in headers if name in ("traceparent", "content-type")}
        except UnicodeDecodeError as error:
            raise MalformedMessage("a header is not UTF-8") from error
        if texts.get("ce_specversion") != "1.0":
            raise MalformedMessage(f"ce_specversion is {texts.get('ce_specversion')!r}, not '1.0'")
        for name in _MANDATORY:
            if not texts.get(f"ce_{name}"):
                raise MalformedMessage(f"header ce_{name} is missing")
        epoch = texts.get("ce_epoch")
        if epoch is not None and not (epoch.isascii() and epoch.isdigit()):
            raise MalformedMessage("ce_epoch is not a whole number")
        return cls(
            **{name: texts.get(f"ce_{name}") for name in _TEXT_ATTRIBUTES},  # type: ignore[arg-type]
            epoch=None if epoch is None else int(epoch),
            traceparent=plain.get("traceparent"),
            datacontenttype=plain.get("content-type", JSON),
        )


def rfc3339(instant_us: UtcMicroseconds) -> str:
    """Return an instant as RFC 3339 text with microseconds, in UTC."""
    return (_EPOCH + timedelta(microseconds=instant_us)).isoformat(timespec="microseconds").replace("+00:00", "Z")


def from_rfc3339(text: str) -> UtcMicroseconds:
    """Return the instant of an RFC 3339 text; the zone is mandatory.

    Raises:
        MalformedMessage: not RFC 3339, no zone, or before 1970.
    """
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise MalformedMessage(f"{text!r} is not an RFC 3339 time") from error
    if moment.tzinfo is None:
        raise MalformedMessage(f"{text!r} has no time zone")
    instant_us = (moment - _EPOCH) // timedelta(microseconds=1)
    if instant_us < 0:
        raise MalformedMessage(f"{text!r} is before 1970")
    return instant_us
