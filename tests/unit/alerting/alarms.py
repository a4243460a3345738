"""A bell, a camera and the ways they speak to the rules of alerting."""

from dataclasses import dataclass, field
from typing import Any

from services.alerting.change import Cause
from services.alerting.correlator import Decision, Heard, Weighed, correlate
from services.alerting.evidence import Reach
from services.alerting.prioritiser import prioritise
from services.alerting.state import PartitionState
from services.alerting.timers import AckLimits
from services.contracts.alarm import AlarmRaised, Condition, DeviceAtReceipt
from services.contracts.alert import Alert
from services.contracts.command import OperatorCommand, Target

NOW_US = 1_777_640_000_000_000
S = 1_000_000


def device(**fields: Any) -> DeviceAtReceipt:
    given: dict[str, Any] = {
        "device_id": "bell-1",
        "site_id": "mangwon",
        "jurisdiction": "11440",
        "lon": 126.9023,
        "lat": 37.5561,
    }
    return DeviceAtReceipt(**(given | fields))


def alarm(*, at_us: int = NOW_US, active: bool = True, topic: str = "tns1:Device/Trigger/DigitalInput",
          value: Any = None, **fields: Any) -> AlarmRaised:  # fmt: skip
    given: dict[str, Any] = {
        "alarm_class": "bell", "condition": Condition(topic=topic, active=active, value=value), "device": device(),
        "device_time_us": at_us, "clock_offset_ms": 0, "offline_period": "none", "status": "Actual", "via": "http",
        "received_us": at_us,
    }  # fmt: skip
    return AlarmRaised(**(given | fields))


def heard(
    said: AlarmRaised, event_id: str, *, source: str = "/city/11440/bells/bell-1", root: str = "mangwon"
) -> Heard:
    return Heard(
        alarm=said, clears=not said.condition.active, source=source, id=event_id, root=root,
        published_us=said.received_us + 1000, cause=Cause(event_id=event_id),
    )  # fmt: skip


@dataclass
class Desk:
    """The rules of one partition, without Kafka: says, commands and time in, state after."""

    state: PartitionState = field(default_factory=lambda: PartitionState(AckLimits()))
    reach: Reach = field(default_factory=Reach)

    def say(self, said: AlarmRaised, event_id: str, *, now_us: int | None = None) -> Decision:
        weighed = Weighed(urgency=prioritise(said), pictures=(), reach=self.reach)
        decision = correlate(heard(said, event_id), self.state, weighed, said.received_us if now_us is None else now_us)
        for change in decision.changes:
            self.state.put(change.alert)
        return decision

    @property
    def only(self) -> Alert:
        (alert,) = self.state.alerts()
        return alert


def command(alert: Alert, verb: str = "ack", **fields: Any) -> OperatorCommand:
    given: dict[str, Any] = {
        "command_id": f"c-{verb}", "actor": "op-kim", "role": "operator", "jurisdiction": alert.jurisdiction,
        "verb": verb, "target": Target(kind="alert", id=alert.alert_id), "body": {}, "body_sha256": "0" * 64,
        "decision_version": alert.decision_version, "idempotency_key": f"key-{verb}", "issued_us": NOW_US,
    }  # fmt: skip
    if verb == "dispose":
        given["body"] = {"decision_version": alert.decision_version, "code": "Mistaken", "note": "a child"}
    return OperatorCommand(**(given | fields))
