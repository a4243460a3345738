"""Golden messages of every topic must decode for ever; refused ones must fail with the named error."""

import base64
import json
from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import pytest

from services.contracts import codec, errors
from services.contracts.alarm import AlarmRaised
from services.contracts.envelope import Headers
from services.contracts.fragment import Fragment, VideoEnd, read_video_headers
from services.contracts.schema import schema_name
from services.contracts.topics import TOPICS

EXAMPLES = Path(__file__).parents[2] / "services/contracts/examples"
SCHEMAS = EXAMPLES.parent / "schemas"
GOLDEN = sorted(EXAMPLES.glob("*/v[0-9]*/*.json"))
REFUSED = sorted(EXAMPLES.glob("refused/*/*.json"))


def example_id(path: Path) -> str:
    return str(path.relative_to(EXAMPLES).with_suffix(""))


def headers_of(document: dict[str, Any]) -> Headers:
    return tuple(
        (name, base64.b64decode(value) if name == "init" else value.encode())
        for name, value in document["headers"].items()
    )


def decode(topic: str, document: dict[str, Any]) -> object:
    if topic == "video":
        return read_video_headers(headers_of(document))
    body = document["body"]
    return codec.decode_event(headers_of(document), None if body is None else json.dumps(body).encode()).body


@pytest.mark.parametrize("path", GOLDEN, ids=example_id)
def test_a_released_message_decodes_for_ever(path: Path) -> None:
    document = json.loads(path.read_text())
    topic = path.parent.parent.name

    body = decode(topic, document)

    if isinstance(body, Fragment | VideoEnd):
        assert body.to_headers() == headers_of(document)
    else:
        assert json.loads(codec.encode(body)) == document["body"]  # type: ignore[arg-type]


@pytest.mark.parametrize("path", [path for path in GOLDEN if path.parent.parent.name != "video"], ids=example_id)
def test_a_released_message_keeps_its_json_schema(path: Path) -> None:
    document = json.loads(path.read_text())
    name = schema_name(document["headers"]["ce_type"])
    schema = json.loads((SCHEMAS / name).read_text())

    jsonschema.validate(document["body"], schema)


@pytest.mark.parametrize("path", REFUSED, ids=example_id)
def test_a_wrong_message_is_refused_by_the_named_error(path: Path) -> None:
    document = json.loads(path.read_text())

    with pytest.raises(getattr(errors, document["error"]), match=document["says"].replace("$", r"\$")):
        decode(path.parent.name, document)


def test_a_field_of_a_newer_release_is_ignored() -> None:
    document = json.loads((EXAMPLES / "alarms/v1/press.json").read_text())
    document["body"]["field_of_next_year"] = {"a": 1}

    assert decode("alarms", document)


def test_every_type_has_a_golden_example_and_every_topic_a_refused_one() -> None:
    golden = {json.loads(path.read_text())["headers"]["ce_type"] for path in GOLDEN}
    wanted = {schema.TYPE for topic in TOPICS for schema in topic.types}  # type: ignore[attr-defined]
    wanted = {name for name in wanted if name != "kr.safealley.alert.event.v1"} | {codec.alert_event_type("created")}

    assert wanted <= golden
    assert {path.parent.name for path in REFUSED} == {topic.name.split(".")[0] for topic in TOPICS}


def test_a_message_nested_beyond_what_can_be_read_is_malformed() -> None:
    document = json.loads((EXAMPLES / "alarms/v1/press.json").read_text())
    deep = codec.encode(document["body"])[:-1] + b', "later": ' + b"[" * 100_000

    with pytest.raises(errors.MalformedMessage, match="nested too deeply"):
        codec.decode(deep, AlarmRaised)


def test_an_error_names_the_place_and_never_the_value() -> None:
    document = json.loads((EXAMPLES / "streams/v1/recording.json").read_text())
    document["body"]["state"] = "canary-value"

    with pytest.raises(errors.MalformedMessage) as caught:
        decode("streams", document)

    assert "canary" not in str(caught.value)
    assert "$.state" in str(caught.value)
