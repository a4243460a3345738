"""What a camera's stream does now, and what its picture is worth."""

from typing import ClassVar, Literal

from msgspec import Struct

from services.contracts.units import Identifier, StreamName, UtcMicroseconds

SessionState = Literal["connecting", "recording", "stalled", "offline", "disabled"]


class StreamState(Struct, frozen=True, kw_only=True):
    """The state of one stream since `since_us`; `detail` is a closed word such as `auth_failed`."""

    TYPE: ClassVar[str] = "kr.safealley.stream.state.v1"

    camera_id: Identifier
    stream: StreamName
    state: SessionState
    since_us: UtcMicroseconds
    detail: str
    codec: str | None
    epoch: int | None


class PictureHealth(Struct, frozen=True, kw_only=True):
    """A verdict on the picture: black, frozen, covered, blurred, light out, or fine."""

    TYPE: ClassVar[str] = "kr.safealley.picture.health.v1"

    camera_id: Identifier
    stream: StreamName
    verdict: str
    score: float
    since_us: UtcMicroseconds
    sample_us: UtcMicroseconds
