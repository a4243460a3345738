"""JSON Schemas of every type that crosses a process border, exported from the Structs. No I/O.

They are committed under `schemas/`, so that a change of a contract shows in the diff;
`python tests/contract/regenerate.py` writes them and a test refuses a difference.
"""

from typing import Any

import msgspec

from services.contracts.alarm import DoorAlarm
from services.contracts.codec import BODIES
from services.contracts.console import (
    AckBody,
    AlertPage,
    Bye,
    CityView,
    DemoSignIn,
    DisposeBody,
    EventFrame,
    Heartbeat,
    Hello,
    LiveDrop,
    LiveErr,
    LiveGap,
    LiveInit,
    LiveStats,
    Problem,
    ReceiptFrame,
    Resync,
    SessionView,
    Snapshot,
    SnapshotEnd,
    Sub,
    Unsub,
)  # fmt: skip
from services.contracts.fragment import Fragment, VideoEnd
from services.contracts.timeline import ClipParts, Timeline

CONSOLE_TYPES = (
    Hello, ReceiptFrame, Snapshot, SnapshotEnd, EventFrame, Heartbeat, Resync, Bye, Sub, Unsub, LiveStats, LiveInit,
    LiveDrop, LiveGap, LiveErr, AckBody, DisposeBody, AlertPage, CityView, SessionView, DemoSignIn, Problem,
    Timeline, ClipParts, DoorAlarm,
)  # fmt: skip
"""What is said outside Kafka."""


def schema_name(type_name: str) -> str:
    """Return the file name of a type's schema."""
    return f"{type_name.removeprefix('kr.safealley.')}.json"


def schemas() -> dict[str, bytes]:
    """Return every schema as formatted JSON, by file name."""
    types: dict[str, Any] = {schema_name(type_name): body for type_name, body in BODIES.items()}
    # All changes of an alert share one body.
    types = {name: body for name, body in types.items() if not name.startswith("alert.")} | {
        name: body for name, body in types.items() if name in ("alert.state.v1.json", "alert.created.v1.json")
    }
    types |= {schema_name(body.TYPE): body for body in (Fragment, VideoEnd)}
    types |= {f"console.{body.__name__}.json": body for body in CONSOLE_TYPES}
    return {name: _render(body) for name, body in sorted(types.items())}


def _render(body: Any) -> bytes:
    schema = msgspec.json.schema(body)
    return msgspec.json.format(msgspec.json.encode(schema, order="sorted"), indent=1) + b"\n"
