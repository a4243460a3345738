"""Who records this camera, or decides this alert partition, with its fencing epoch."""

from typing import ClassVar

from msgspec import Struct

from services.contracts.units import Epoch, UtcMicroseconds


class Claim(Struct, frozen=True, kw_only=True):
    """A claim of one key; a higher epoch of the same key fences this one.

    `key` is a camera id or `alerts/<partition>`. `live_url` is where a camera's live fragments are
    served; None for a partition.
    """

    TYPE: ClassVar[str] = "kr.safealley.claim.v1"

    key: str
    epoch: Epoch
    owner: str
    claim_id: str
    live_url: str | None
    started_us: UtcMicroseconds


def alert_partition_key(partition: int) -> str:
    """Return the claim key of an alert partition."""
    return f"alerts/{partition}"
