"""What a service says of itself is an alarm of class health under the root `system`."""

from services.contracts import codec
from services.contracts.alarm import AlarmCleared, AlarmRaised
from services.contracts.topics import ALARMS, SYSTEM_ROOT
from services.runtime.kafka_port import Outgoing
from services.runtime.system_alarm import system_alarm

NOW_US = 1_777_640_000_000_000


def body_of(record: Outgoing) -> AlarmRaised:
    value = None if record.value is None else bytes(record.value)
    body = codec.decode_event(record.headers, value).body
    assert isinstance(body, AlarmRaised)
    return body


def test_a_fault_is_raised_with_what_it_is_about() -> None:
    record = system_alarm("ingest", "CamerasUnplaced", {"token": "ingest-0", "cameras": 3}, now_us=NOW_US)
    body = body_of(record)

    assert (record.topic, record.key) == (ALARMS.name, SYSTEM_ROOT)
    assert type(body) is AlarmRaised
    assert (body.alarm_class, body.device.device_id) == ("health", "ingest")
    assert (body.condition.topic, body.condition.active) == ("kr.safealley/system/CamerasUnplaced", True)
    assert body.condition.value == {"token": "ingest-0", "cameras": 3}
    assert body.device.momentary


def test_a_fault_that_is_over_is_cleared() -> None:
    value = {"token": "ingest-0", "cameras": 0}
    record = system_alarm("ingest", "CamerasUnplaced", value, now_us=NOW_US, momentary=False, active=False)
    body = body_of(record)

    assert type(body) is AlarmCleared
    assert not body.condition.active
    assert not body.device.momentary
