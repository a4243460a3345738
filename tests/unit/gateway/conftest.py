"""Alerts and records as alerting writes them."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from services.contracts import codec
from services.contracts.alert import Alert
from services.contracts.envelope import Envelope
from services.contracts.topics import ALERTS
from services.runtime.identity import Caller
from services.runtime.kafka_port import Record

EXAMPLE = Path(__file__).parents[3] / "services/contracts/examples/alerts/v1/unacknowledged.json"
MakeAlert = Callable[..., Alert]
MakeRecord = Callable[..., Record]


@pytest.fixture
def make_alert() -> MakeAlert:
    """Return an alert of the golden example with some fields changed; `isa` takes its own dict."""
    body = json.loads(EXAMPLE.read_text())["body"]

    def make(**changes: Any) -> Alert:
        merged = {**body, **{name: value for name, value in changes.items() if name != "isa"}}
        merged["isa"] = {**body["isa"], **changes.get("isa", {})}
        return msgspec.convert(msgspec.to_builtins(merged), Alert)

    return make


@pytest.fixture
def make_record(make_alert: MakeAlert) -> MakeRecord:
    """Return a record of `alerts`."""

    def make(alert: Alert | None = None, *, partition: int = 0, offset: int = 0, **kw: Any) -> Record:
        body = alert or make_alert()
        envelope = Envelope(
            id=f"{body.alert_id}/{body.version}",
            source="/services/alerting-0",
            type=Alert.TYPE,
            epoch=kw.get("epoch", 7),
            causationid=kw.get("cause"),
        )
        return Record(
            topic=ALERTS.name,
            partition=partition,
            offset=offset,
            timestamp_ms=kw.get("timestamp_ms", 1_777_640_000_000),
            key=body.alert_id,
            value=codec.encode(body),
            headers=envelope.to_headers(),
        )

    return make


@pytest.fixture
def operator() -> Caller:
    return Caller(account="op-kim", role="operator", jurisdictions=("11440",))
