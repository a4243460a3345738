"""What leaves a process as a log line: its fields, and never a password."""

import io
import json
import logging
import sys
import threading
import urllib.parse
import warnings
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from services.runtime import log as logs
from services.runtime.log import redact, redact_text

Lines = Callable[[], list[dict[str, Any]]]

CANARY = "hunter2"


@pytest.fixture
def written() -> Lines:
    out = io.BytesIO()
    logs.configure("ingest", out=out)
    return lambda: [json.loads(line) for line in out.getvalue().splitlines()]


# --- the table of operations.md 7.5 -----------------------------------------------------------


@pytest.mark.parametrize(
    ("given_text", "shown"),
    [
        ("rtsp://u:p%40ss@h/a", "rtsp://***@h/a"),
        ("file:rtsp://u:p@h", "file:rtsp://***@h"),
        ("rtsps://u:a@b@c@h/x", "rtsps://***@h/x"),
        ("rtsp://u:a/b?c@h/x", "rtsp://***@h/x"),
        ('rtsp://u:a"b@h/x', "rtsp://***@h/x"),
        ("rtsp://u:a\\b@h/x", "rtsp://***@h/x"),
        ("RTSP://u:p@h/x", "RTSP://***@h/x"),
        ("http://u:p@h/x", "http://***@h/x"),
        ("http://u:a/b@h/x", "http://***@h/x"),
        ("postgresql+psycopg://u:p@h/db", "postgresql+psycopg://***@h/db"),
        ("mqtt://u:p/q@h:1883", "mqtt://***@h:1883"),
        ("file:///x?from=rtsp://u:p@h/a", "file:///x?from=rtsp://***@h/a"),
        ("rtsp%3A%2F%2Fu%3Ap%40h%2Fa", "rtsp%3A%2F%2F***%40h%2Fa"),
        ("http://h/?user=a&pwd=b", "http://h/?user=***&pwd=***"),
        ("srt://h:9000?passphrase=abc&mode=caller", "srt://h:9000?passphrase=***&mode=caller"),
        ("https://h/o?X-Amz-Signature=ff&y=1", "https://h/o?X-Amz-Signature=***&y=1"),
        ("Authorization: Basic dTpw", "Authorization: ***"),
        ('Authorization: Digest username="u", response="ff"\nCSeq: 2', "Authorization: ***\nCSeq: 2"),
        ("Cookie: a=b; c=d", "Cookie: ***"),
        ("Set-Cookie: a=b", "Set-Cookie: ***"),
        ('<wsse:Password Type="x">hunter2</wsse:Password>', '<wsse:Password Type="x">***</wsse:Password>'),
        ("<Username>u</Username>", "<Username>***</Username>"),
        ("{'password': 'hunter2', 'a': 1}", "{'password': ***, 'a': 1}"),
        ('{"password": "hunter2", "a": 1}', '{"password": ***, "a": 1}'),
        ("sent Bearer abcdefgh", "sent Bearer ***"),
        ("got eyJhbGciOi.eyJzdWIi.c2ln", "got ***"),
    ],
)
def test_a_secret_is_replaced(given_text: str, shown: str) -> None:
    assert redact_text(given_text) == shown


@pytest.mark.parametrize(
    "text",
    [
        "http://h/?u=a@b.c",
        "http://h/p@th",
        "http://h:80/p@th",
        "http://[::1]:80/p@th",
        "rtsp://h:554/stream1",
        "secret 'cam-1' is missing: put a file of this name into secrets_dir",
        "secret_ref",
        "session.token_issued",
        "write to a@b.c",
        "https://h/a, then ask b@c.d",
    ],
)
def test_what_is_no_secret_stays(text: str) -> None:
    assert redact_text(text) == text


@pytest.mark.parametrize(
    "line",
    [
        {"event": "x", "password": "a b\"c'd"},
        {"event": "x", "nested": {"authorization": "Bearer a b"}},
        {"event": "x", "token": 1234, "secret_ref": "cam-1"},
        {"event": "x", "token": None, "list": ["token", "a"]},
        {"event": "x", "detail": 'password="a'},
        {"event": "x", "detail": "<Password>a b", "after": 1},
        {"event": "x", "detail": "Authorization: \\"},
    ],
)
def test_a_redacted_line_is_still_json_and_keeps_its_other_fields(line: dict[str, Any]) -> None:
    shown = json.loads(redact(msgspec.json.encode(line)))
    assert set(shown) == set(line)
    assert shown.get("secret_ref") == line.get("secret_ref")
    assert "a b" not in json.dumps(shown)
    assert "1234" not in json.dumps(shown)


# White space ends a URL and a value; a password with it can stand only in a field of its own.
NO_SPACE = st.characters(exclude_categories=("Cs", "Cc", "Zs", "Zl", "Zp"))
ANY = st.characters(exclude_categories=["Cs"])
PASSWORDS = st.text(st.characters(exclude_categories=("Cs", "Cc", "Zs", "Zl", "Zp")), min_size=1, max_size=24).map(
    lambda text: f"{text}{CANARY}"
)
WRITTEN_INTO_A_URL = st.sampled_from(["rtsp", "rtsps", "rtmp", "srt", "mqtt"])
FORMS: list[Callable[[str], str]] = [
    lambda secret: f"Authorization: Basic {secret}",
    lambda secret: f"Cookie: session={secret}",
    lambda secret: f"http://10.0.0.7/cgi?user=admin&pwd={urllib.parse.quote(secret, safe='')}&ch=1",
    lambda secret: f"https://admin:{urllib.parse.quote(secret, safe='')}@10.0.0.7/x",
]


@given(secret=PASSWORDS, scheme=WRITTEN_INTO_A_URL, before=st.sampled_from(["", "file:", "tried ", "'", "("]))
def test_no_password_of_a_stream_url_is_ever_shown_however_it_is_written(secret: str, scheme: str, before: str) -> None:
    shown = redact_text(f"{before}{scheme}://admin:{secret}@10.0.0.7:554/stream1 failed")
    assert CANARY not in shown
    assert "@10.0.0.7:554/stream1 failed" in shown


@given(secret=PASSWORDS, form=st.sampled_from(FORMS))
def test_no_password_of_a_header_or_a_query_is_ever_shown(secret: str, form: Callable[[str], str]) -> None:
    assert CANARY not in redact_text(form(secret))


@given(secret=st.text(ANY, max_size=24), name=st.sampled_from(
    ["password", "camera_password", "token", "accessToken", "secret", "Authorization", "cookie", "api_key"]
))  # fmt: skip
def test_no_secret_in_a_field_of_its_own_is_ever_shown(secret: str, name: str) -> None:
    line = redact(msgspec.json.encode({"event": "x", name: f"{secret}{CANARY}", "after": 1}))
    assert CANARY.encode() not in line
    assert json.loads(line)["after"] == 1


@given(st.text(max_size=200))
def test_any_text_can_be_redacted_and_the_line_stays_json(text: str) -> None:
    if text.isascii() or text.encode("utf-8", "ignore").decode() == text:
        assert isinstance(json.loads(redact(msgspec.json.encode({"event": text}))), dict)


# --- the pipeline -----------------------------------------------------------------------------


def test_a_line_has_the_fields_of_every_service(written: Lines) -> None:
    structlog.get_logger().info("writer.segment_stored", camera_id="c1", segment_bytes=3)
    (line,) = written()
    assert list(line)[:3] == ["timestamp", "level", "event"]
    assert line["timestamp"].endswith("Z")
    assert (line["level"], line["event"]) == ("info", "writer.segment_stored")
    assert line["service.name"] == "ingest"
    assert line["service.version"]
    assert (line["camera_id"], line["segment_bytes"]) == ("c1", 3)


def test_ids_bound_to_a_task_stand_on_its_lines(written: Lines) -> None:
    with structlog.contextvars.bound_contextvars(camera_id="c1", trace_id="ab"):
        structlog.get_logger().info("puller.connected")
    structlog.get_logger().info("puller.connected")
    assert [line.get("camera_id") for line in written()] == ["c1", None]


def test_an_exception_is_redacted_after_it_became_text(written: Lines) -> None:
    try:
        raise OSError(f"cannot open rtsp://u:{CANARY}@h/a")
    except OSError:
        structlog.get_logger().exception("puller.failed")
    (line,) = written()
    assert "rtsp://***@h/a" in line["exception"]
    assert CANARY not in json.dumps(line)


def test_the_logging_module_ends_in_the_same_pipeline(written: Lines) -> None:
    logging.getLogger("aiohttp.server").error("bad request from rtsp://u:%s@h/", CANARY)
    (line,) = written()
    assert line["event"] == "bad request from rtsp://***@h/"
    assert (line["logger"], line["level"], line["service.name"]) == ("aiohttp.server", "error", "ingest")


def test_a_record_of_logging_with_wrong_arguments_loses_no_line_after_it(written: Lines) -> None:
    logging.getLogger("asyncio").warning("fine")
    assert [line["event"] for line in written()] == ["fine"]


def test_a_request_line_of_aiohttp_is_not_written_twice(written: Lines) -> None:
    logging.getLogger("aiohttp.access").error("GET /?token=x")
    assert written() == []


def test_a_clients_chatter_is_left_out(written: Lines) -> None:
    logging.getLogger("aiokafka.conn").info("connected")
    assert written() == []


def test_a_warning_ends_in_the_same_pipeline(written: Lines) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logs.configure("ingest", out=io.BytesIO())
    out = io.BytesIO()
    logs.configure("ingest", out=out)
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(capture=False)
        logging.captureWarnings(capture=True)
        warnings.warn("soon gone", UserWarning, stacklevel=1)
        logging.captureWarnings(capture=False)
    assert b"soon gone" in out.getvalue()
    assert written() == []


def test_a_crash_of_the_process_is_one_redacted_line(written: Lines) -> None:
    error = OSError(f"rtsp://u:{CANARY}@h/a")
    sys.excepthook(OSError, error, None)
    (line,) = written()
    assert line["event"] == "process.crashed"
    assert CANARY not in json.dumps(line)


def test_a_crash_of_a_thread_is_one_redacted_line(written: Lines) -> None:
    def crash() -> None:
        raise OSError(f"rtsp://u:{CANARY}@h/a")

    thread = threading.Thread(target=crash)
    thread.start()
    thread.join()
    (line,) = written()
    assert line["event"] == "thread.crashed"
    assert CANARY not in json.dumps(line)


def test_bytes_are_counted_and_not_written(written: Lines) -> None:
    structlog.get_logger().info("door.refused", body=CANARY.encode())
    assert written()[0]["body"] == "<7 bytes>"


@pytest.mark.parametrize("value", ["\ud800", {1: {"a"}}, object, {(1, 2): 3}, 2**80], ids=str)
def test_a_value_json_cannot_hold_loses_no_line(value: object, written: Lines) -> None:
    structlog.get_logger().info("stage.happened", value=value)
    assert written()[0]["event"] == "stage.happened"


def test_a_line_below_the_level_is_not_written(written: Lines) -> None:
    structlog.get_logger().debug("stage.detail")
    assert written() == []
