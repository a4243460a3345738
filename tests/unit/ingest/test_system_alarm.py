"""What ingest says of itself is an alarm of class health under the root `system`."""

from services.contracts import codec
from services.contracts.alarm import AlarmCleared, AlarmRaised
from services.contracts.topics import ALARMS, SYSTEM_ROOT
from services.ingest.system_alarm import UNPLACED, cameras_unplaced
from services.runtime.kafka_port import Outgoing

NOW_US = 1_777_640_000_000_000


def body_of(record: Outgoing) -> AlarmRaised:
    value = None if record.value is None else bytes(record.value)
    body = codec.decode_event(record.headers, value).body
    assert isinstance(body, AlarmRaised)
    return body


def test_cameras_without_a_place_are_raised_with_their_number() -> None:
    record = cameras_unplaced("ingest-0", 3, now_us=NOW_US)
    body = body_of(record)

    assert (record.topic, record.key) == (ALARMS.name, SYSTEM_ROOT)
    assert type(body) is AlarmRaised
    assert (body.alarm_class, body.condition.topic, body.condition.active) == ("health", UNPLACED, True)
    assert body.condition.value == {"cameras": 3}


def test_none_left_clears() -> None:
    body = body_of(cameras_unplaced("ingest-0", 0, now_us=NOW_US))

    assert type(body) is AlarmCleared
    assert not body.condition.active
