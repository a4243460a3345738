"""What a console window and the gateway say to each other: two WebSockets and the HTTP bodies.

Alert stream: alerts.md 8. Live pictures: console.md 4.4; their binary frames begin with
`LIVE_HEADER`.
"""

import struct
from typing import Annotated, Final, Literal

from msgspec import Meta, Struct

from services.contracts.alert import Alert, DispositionCode
from services.contracts.command import ReceiptItem
from services.contracts.device import DeviceKind
from services.contracts.site import Site
from services.contracts.stream import SessionState
from services.contracts.units import Identifier, StreamName, UtcMicroseconds

LIVE_HEADER: Final = struct.Struct(">BBHQI")
"""version, kind, channel, capture_us, seq: 16 bytes, big-endian."""
LIVE_VERSION: Final = 1
LIVE_INIT: Final = 0
LIVE_FRAGMENT: Final = 1
LIVE_JPEG: Final = 2

CLOSE_SESSION_ENDED: Final = 4001
CLOSE_SEND_STALLED: Final = 4008
CLOSE_RESTART: Final = 1012


class Cursor(Struct, frozen=True, kw_only=True):
    """A position in `alerts`, never an identity: cluster id and next offset per partition."""

    cluster: str
    at: dict[str, int]


class Filters(Struct, frozen=True, kw_only=True):
    """What a console wants to see less of; it can only narrow."""

    jurisdiction: tuple[str, ...] = ()


class Hello(Struct, frozen=True, kw_only=True, tag_field="op", tag="hello"):
    """The first frame of a console."""

    proto: int
    console_id: Annotated[str, Meta(min_length=1, max_length=64)]
    cursor: Cursor | None = None
    filters: Filters = Filters()
    sound: Literal["on", "off"] = "off"


class ReceiptFrame(Struct, frozen=True, kw_only=True, tag_field="op", tag="receipt"):
    """Receipts, batched at most 250 ms."""

    items: Annotated[tuple[ReceiptItem, ...], Meta(max_length=256)]


class Snapshot(Struct, frozen=True, kw_only=True, tag_field="op", tag="snapshot"):
    """A part of the list, at most 200 alerts, emergency first."""

    seq: int
    items: tuple["EventItem", ...]


class SnapshotEnd(Struct, frozen=True, kw_only=True, tag_field="op", tag="snapshot_end"):
    """The list is whole; events go on from `cursor`."""

    seq: int
    cursor: Cursor


class EventItem(Struct, frozen=True, kw_only=True):
    """An alert after a change; `ask` wants receipts for it. Apply it only if newer by (epoch, version)."""

    tx: str
    alert_id: str
    epoch: int
    version: int
    change: str
    ask: bool
    alert: Alert


class EventFrame(Struct, frozen=True, kw_only=True, tag_field="op", tag="event"):
    """Changes since the last frame."""

    seq: int
    cursor: Cursor
    items: tuple[EventItem, ...]


class Heartbeat(Struct, frozen=True, kw_only=True, tag_field="op", tag="heartbeat"):
    """Every 5 s: aligns clocks and feeds the cursor's age."""

    seq: int
    server_time_us: UtcMicroseconds
    cursor: Cursor
    queue: int


class Resync(Struct, frozen=True, kw_only=True, tag_field="op", tag="resync"):
    """The queue was cleared; a snapshot follows on this socket."""

    seq: int
    reason: Literal["overflow", "filter", "gap"]


class Bye(Struct, frozen=True, kw_only=True, tag_field="op", tag="bye"):
    """The socket closes now."""

    seq: int
    reason: str
    retry_ms: int


ConsoleSays = Hello | ReceiptFrame
GatewaySays = Snapshot | SnapshotEnd | EventFrame | Heartbeat | Resync | Bye


class Sub(Struct, frozen=True, kw_only=True, tag_field="op", tag="sub"):
    """Show this camera on this channel; `purpose` is an alert, grant or case id, or `wall`."""

    ch: Annotated[int, Meta(ge=0, le=65535)]
    camera: Identifier
    purpose: Annotated[str, Meta(min_length=1, max_length=128)]
    stream: StreamName = "main"
    want: Literal["video", "still"] = "video"


class Unsub(Struct, frozen=True, kw_only=True, tag_field="op", tag="unsub"):
    """Stop this channel."""

    ch: int


class LiveStats(Struct, frozen=True, kw_only=True, tag_field="op", tag="stats"):
    """What the player sees."""

    ch: int
    buffer_s: float
    dropped: int


class LiveInit(Struct, frozen=True, kw_only=True, tag_field="op", tag="init"):
    """The codec string of what follows; the binary init comes next."""

    ch: int
    codec: str


class LiveDrop(Struct, frozen=True, kw_only=True, tag_field="op", tag="drop"):
    """The window was too slow: fragments were left out up to the next key picture."""

    ch: int
    frames: int


class LiveGap(Struct, frozen=True, kw_only=True, tag_field="op", tag="gap"):
    """There is no picture for a while, and why."""

    ch: int
    from_us: UtcMicroseconds
    to_us: UtcMicroseconds | None
    cause: str


class LiveErr(Struct, frozen=True, kw_only=True, tag_field="op", tag="err"):
    """The channel cannot be served."""

    ch: int
    code: Literal["unknown_camera", "forbidden", "not_recording", "no_still", "overload"]


class LiveKey(Struct, frozen=True, kw_only=True, tag_field="op", tag="key"):
    """The next binary fragment of this channel starts with a key picture.

    Said by ingest to the gateway alone: so the relay can keep the newest GOP for a window that joins,
    and drop to the next key picture, without opening a fragment.
    """

    ch: int


LiveClientSays = Sub | Unsub | LiveStats
LiveServerSays = LiveInit | LiveKey | LiveDrop | LiveGap | LiveErr


class AckBody(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`POST /api/v1/alerts/{id}/ack`."""

    decision_version: int


class DisposeBody(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`POST /api/v1/alerts/{id}/dispose`."""

    decision_version: int
    code: DispositionCode
    note: Annotated[str, Meta(max_length=2000)] = ""


class AlertPage(Struct, frozen=True, kw_only=True):
    """`GET /api/v1/alerts`."""

    items: tuple[Alert, ...]
    cursor: Cursor


class DeviceView(Struct, frozen=True, kw_only=True):
    """What a console knows of a device: no address, no secret reference."""

    device_id: Identifier
    kind: DeviceKind
    site_id: Identifier
    lon: float
    lat: float
    streams: tuple[StreamName, ...] = ()
    state: SessionState | None = None
    codec: str | None = None


class CityView(Struct, frozen=True, kw_only=True):
    """`GET /api/v1/city`: what this person may see of the registry, with each camera's state."""

    sites: tuple[Site, ...]
    devices: tuple[DeviceView, ...]


class SessionView(Struct, frozen=True, kw_only=True):
    """`GET /api/v1/session`: who is signed in; `demo_roles` is empty outside the demo."""

    account: str | None
    role: str | None
    jurisdictions: tuple[str, ...]
    expires_us: UtcMicroseconds | None
    demo_roles: tuple[str, ...]


class DemoSignIn(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`POST /api/v1/session` on the demo issuer, loopback only: sets the session cookie."""

    role: str


class Problem(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The body of every refusal: a closed word, a sentence that names the thing and the cure."""

    error: str
    detail: str
    alert: Alert | None = None
    winner: str | None = None
    at_us: UtcMicroseconds | None = None
