"""Settings of alerting: one file, the environment over it."""

import os
from pathlib import Path
from typing import Annotated

from msgspec import Meta, Struct

from services.runtime.settings import KafkaSettings, OpsSettings, load


class EvidenceSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which footage belongs to an alert. The radius is that of the 112 video service."""

    radius_m: Annotated[float, Meta(gt=0, le=500, description="cameras within this distance")] = 500.0
    before_s: Annotated[int, Meta(ge=0, description="from so long before the alarm")] = 30
    after_s: Annotated[int, Meta(ge=0, description="to so long after it")] = 300
    cameras_max: Annotated[int, Meta(ge=1, le=64, description="most cameras an alert names")] = 16


class AckTimeoutSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How long an acknowledged alert may stay without a disposition before it asks again."""

    emergency_s: Annotated[int, Meta(ge=1)] = 300
    other_s: Annotated[int, Meta(ge=1)] = 1800


class AlertingSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Defaults are those of one box.

    `name` is this process in claims and logs. `pool` names the registry topic that is read for the
    cameras near an alarm. `lane_capacity_bytes` bounds what is read and not yet decided.
    """

    name: str = "alerting-0"
    pool: str = "main"
    kafka: KafkaSettings = KafkaSettings()
    ops: OpsSettings = OpsSettings(port=9102)
    evidence: EvidenceSettings = EvidenceSettings()
    ack_timeout: AckTimeoutSettings = AckTimeoutSettings()
    lane_capacity_bytes: Annotated[int, Meta(ge=65_536)] = 8 * 1024 * 1024


def load_settings(file: Path | None) -> AlertingSettings:
    """Read the settings; raises SettingsError with file, line, key and cure."""
    return load(AlertingSettings, file=file, environ=os.environ)
