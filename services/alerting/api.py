"""What alerting shows on its ops port. It opens no other: people and agencies speak to the gateway."""

from typing import Any

from services.alerting.evidence import Cameras
from services.alerting.lanes import Lanes
from services.alerting.ownership import Ownership


def status(ownership: Ownership, lanes: Lanes, cameras: Cameras) -> dict[str, Any]:
    """Return partitions, epochs and what is held, for /statusz."""
    return {
        "partitions": {
            str(index): {
                "epoch": one.claim.epoch, "serving": one.serving, "lost": one.lost, "active": one.state.active,
                "alerts": len(one.state), "remembered": one.state.remembered, "alerts_next_offset": one.position,
            }
            for index, one in sorted(ownership.partitions.items())
        },
        "lanes": {"busy": len(lanes), "bytes": lanes.held_bytes, "full": lanes.full},
        "cameras": len(cameras),
    }  # fmt: skip
