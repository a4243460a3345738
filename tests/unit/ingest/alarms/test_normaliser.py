"""A device says what happened; the registry says everything else."""

import json
from typing import Any

import msgspec
import pytest

from services.contracts import codec
from services.contracts.alarm import AlarmCleared, AlarmHeartbeat, AlarmRaised
from services.contracts.device import Device
from services.contracts.site import Site
from services.ingest.alarms.normaliser import BODY_BYTES_MAX, Normalised, Refused, normalise, read_event

RECEIVED_US = 1_777_640_000_000_000
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
CONDITION = {"topic": "kr.safealley/Bell", "active": True}
JSON_EVENT = {"content-type": "application/cloudevents+json; charset=utf-8"}


def nested(depth: int) -> Any:
    value: Any = 0
    for number in range(depth):
        value = [value] if number % 2 else {"in": value}
    return value


def event(**changes: Any) -> dict[str, Any]:
    return {
        "specversion": "1.0",
        "id": "press-1",
        "source": "/devices/mapo-01-bell",
        "type": AlarmRaised.TYPE,
        "data": {"condition": {"topic": "kr.safealley/Bell", "active": True}, "device_time_us": RECEIVED_US - 5_000},
    } | changes


def posted(device: Device, site: Site, **changes: Any) -> Normalised:
    body = json.dumps({key: value for key, value in event(**changes).items() if value is not None}).encode()
    return normalise(read_event(JSON_EVENT, body), device, site, received_us=RECEIVED_US, traceparent=TRACE)


def test_a_press_takes_place_class_and_root_from_the_registry(bell: Device, site: Site) -> None:
    made = posted(bell, site)

    assert isinstance(made.body, AlarmRaised)
    assert (made.body.alarm_class, made.body.status, made.body.via) == ("bell", "Actual", "http")
    assert made.body.device.upstream == ("pole-3", "switch-1", "feeder-7")
    assert made.body.clock_offset_ms == -5
    assert made.root == "mapo-01"
    assert made.envelope.source == "/city/mapo/bells/mapo-01-bell"
    assert (made.envelope.id, made.envelope.partitionkey) == ("press-1", "mapo-01")
    assert made.envelope.traceparent == TRACE


def test_what_is_written_decodes_as_its_contract(bell: Device, site: Site) -> None:
    made = posted(bell, site)

    found = codec.decode_event(made.envelope.to_headers(), codec.encode(made.body))

    assert found.body == made.body


def test_binary_mode_says_the_same_as_structured_mode(bell: Device, site: Site) -> None:
    whole = event()
    headers = {f"ce-{name}": str(value) for name, value in whole.items() if name != "data"}
    binary = read_event(headers | {"content-type": "application/json"}, json.dumps(whole["data"]).encode())

    assert normalise(binary, bell, site, received_us=RECEIVED_US, traceparent=TRACE) == posted(bell, site)


def test_the_subject_names_the_device_before_the_source() -> None:
    body = json.dumps(event(subject="mapo-02-bell")).encode()

    assert read_event(JSON_EVENT, body).device_id == "mapo-02-bell"


def test_a_device_without_a_clock_gets_our_time_and_no_offset(bell: Device, site: Site) -> None:
    made = posted(bell, site, data={"condition": {"topic": "kr.safealley/Bell", "active": True}})

    assert made.body.device_time_us is None
    assert made.envelope.time == made.envelope.recordedtime


def test_the_events_time_is_the_device_time_where_the_data_has_none(bell: Device, site: Site) -> None:
    data = {"condition": {"topic": "kr.safealley/Bell", "active": True}}

    assert posted(bell, site, data=data, time="2026-05-01T12:00:00+09:00").body.device_time_us == 1_777_604_400_000_000


def test_an_event_without_an_id_gets_the_same_id_each_time_it_is_sent(bell: Device, site: Site) -> None:
    assert posted(bell, site, id=None).envelope.id == posted(bell, site, id=None).envelope.id


def test_without_id_sequence_and_clock_each_post_is_a_press_of_its_own(bell: Device, site: Site) -> None:
    data = {"condition": {"topic": "kr.safealley/Bell", "active": True}}
    one, other = (posted(bell, site, id=None, data=data).envelope.id for _ in range(2))

    assert one != other
    assert one[14] == "7"


def test_a_sequence_is_padded_so_that_it_sorts_as_text(bell: Device, site: Site) -> None:
    assert posted(bell, site, sequence="42").envelope.sequence == "00000000000000000042"


def test_a_health_alarm_is_kept_under_the_topology_root(bell: Device, site: Site) -> None:
    light = msgspec.structs.replace(bell, kind="light", upstream=())

    assert posted(light, site).root == "feeder-7"
    assert posted(light, msgspec.structs.replace(site, topology_root="")).root == "mapo-01"


def test_a_clear_and_a_heartbeat_have_their_own_types(bell: Device, site: Site) -> None:
    assert isinstance(posted(bell, site, type=AlarmCleared.TYPE).body, AlarmCleared)
    assert isinstance(posted(bell, site, type=AlarmHeartbeat.TYPE, data=None).body, AlarmHeartbeat)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        pytest.param({"specversion": "0.3"}, "specversion", id="another version"),
        pytest.param({"type": "kr.safealley.alarm.raised.v2"}, "type must be one of", id="a later type"),
        pytest.param({"Trace_Id": "x"}, "names are lower case", id="an extension name with a capital"),
        pytest.param({"sequence": "one"}, "sequence", id="a sequence that is no number"),
        pytest.param({"time": "yesterday"}, "time must be RFC 3339", id="a time that is none"),
        pytest.param({"id": ""}, "id must have", id="an empty id"),
        pytest.param({"id": "x" * 129}, "id must have", id="a long id"),
        pytest.param({"source": "/"}, "name the device", id="no device"),
        pytest.param({"data": {}}, "data:", id="no condition"),
        pytest.param({"data": {"condition": {"topic": "", "active": True}}}, "data:", id="an empty topic"),
        pytest.param({"data": {"condition": {"topic": "x", "active": "yes"}}}, "data:", id="text for a bool"),
        pytest.param(
            {"data": {"condition": {"topic": "x", "active": True}, "priority": 1}}, "data:", id="an unknown field"
        ),
        pytest.param(
            {"data": {"condition": {"topic": "x", "active": True}, "device_time_us": 10**18}}, "9999", id="far future"
        ),
        pytest.param({"data": {"condition": CONDITION | {"value": nested(65)}}}, "nested more than 64", id="deep"),
        pytest.param({"data_base64": "e30="}, "data_base64", id="data in base64"),
        pytest.param({"retries": ["x"]}, "must be text", id="a list as attribute"),
    ],
)
def test_an_event_that_breaks_the_contract_is_refused_by_name(
    bell: Device, site: Site, changes: dict[str, Any], says: str
) -> None:
    with pytest.raises(Refused, match=says) as refused:
        posted(bell, site, **changes)

    assert refused.value.reason == "malformed"


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'"x"', b"\xff\xfe", b'{"specversion": NaN}'], ids=repr)
def test_a_body_that_is_no_event_is_refused(body: bytes) -> None:
    with pytest.raises(Refused) as refused:
        read_event(JSON_EVENT, body)

    assert refused.value.reason == "malformed"


@pytest.mark.parametrize("content_type", ["application/cloudevents+json", "application/json"])
def test_a_thousand_brackets_are_malformed(bell: Device, site: Site, content_type: str) -> None:
    headers = {f"ce-{name}": str(value) for name, value in event().items() if name != "data"}
    deep = b"[" * 1000 + b"]" * 1000
    body = b'{"data": %b}' % deep if "cloud" in content_type else b'{"condition": {"value": %b}}' % deep
    with pytest.raises(Refused, match="nested too deeply") as refused:
        normalise(
            read_event(headers | {"content-type": content_type}, body),
            bell,
            site,
            received_us=RECEIVED_US,
            traceparent=TRACE,
        )

    assert refused.value.reason == "malformed"


def test_a_value_of_the_greatest_depth_is_taken_and_read_again(bell: Device, site: Site) -> None:
    made = posted(bell, site, data={"condition": CONDITION | {"value": nested(63)}})

    assert codec.decode_event(made.envelope.to_headers(), codec.encode(made.body)).body == made.body


def test_what_grows_beyond_the_limit_in_the_log_is_too_large(bell: Device, site: Site) -> None:
    body = b'{"topic": "kr.safealley/Bell", "active": true, "value": [%b]}' % b",".join([b"1e15"] * 10_000)
    head = {f"ce-{name}": str(value) for name, value in event().items() if name != "data"}
    said = read_event(head | {"content-type": "application/json"}, b'{"condition": %b}' % body)
    assert len(body) < BODY_BYTES_MAX
    with pytest.raises(Refused, match="65536 bytes in the log") as refused:
        normalise(said, bell, site, received_us=RECEIVED_US, traceparent=TRACE)

    assert refused.value.reason == "too_large"


def test_a_plain_post_is_told_how_to_send_an_event() -> None:
    with pytest.raises(Refused, match="not a CloudEvent"):
        read_event({"content-type": "application/json"}, b"{}")


def test_a_large_body_is_refused_as_too_large() -> None:
    with pytest.raises(Refused) as refused:
        read_event(JSON_EVENT, b" " * (BODY_BYTES_MAX + 1))

    assert refused.value.reason == "too_large"
