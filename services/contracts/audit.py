"""Who saw or did what, when and why."""

from typing import ClassVar, Literal

from msgspec import Struct

from services.contracts.units import UtcMicroseconds

AccessAction = Literal["search", "timeline", "playlist", "range_read", "clip", "live", "export", "hold", "config"]
AccessResult = Literal["allowed", "denied", "failed"]


class Access(Struct, frozen=True, kw_only=True):
    """One look at personal data, or one change of settings (evidence.md 17).

    `reason` is the purpose as given: an alert, grant or case id, or `wall`.
    """

    TYPE: ClassVar[str] = "kr.safealley.access.v1"

    account: str
    role: str
    at_us: UtcMicroseconds
    origin: str
    action: AccessAction
    camera_id: str | None
    from_us: UtcMicroseconds | None
    to_us: UtcMicroseconds | None
    request_id: str
    reason: str
    result: AccessResult
    bytes: int = 0
    trace_id: str | None = None
