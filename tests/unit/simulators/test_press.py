"""One press from the command line: which bell, which door, and what is said when it fails."""

import json
from pathlib import Path

import pytest

from services.runtime.errors import RetryLater, SettingsError
from services.simulators import press
from services.simulators.door_client import Answer
from services.simulators.press import press_from_endpoints

TOKEN = "hunter2"


@pytest.fixture
def endpoints(tmp_path: Path) -> Path:
    file = tmp_path / "endpoints.json"
    bells = [{"id": "bell-1", "token": TOKEN, "site_id": "s1"}]
    file.write_text(json.dumps({"gateway": "http://g", "device_door": "http://d", "bells": bells}), encoding="utf-8")
    return file


def answering(monkeypatch: pytest.MonkeyPatch, status: int) -> list[tuple[str, str, str]]:
    """Put a door in place that answers with this status; return what was sent to it."""
    sent: list[tuple[str, str, str]] = []

    async def pressed(bell: press._Bell, door_url: str, _clock: object) -> Answer:
        sent.append((bell.id, bell.token, door_url))
        return Answer(id="e1", status=status, seconds=0.0042, attempts=1)

    monkeypatch.setattr(press, "_press", pressed)
    return sent


def test_a_press_that_is_kept_says_its_id_and_its_time(
    endpoints: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    sent = answering(monkeypatch, 202)
    assert press_from_endpoints("bell-1", endpoints=endpoints) == 0
    assert sent == [("bell-1", TOKEN, "http://d")]
    assert capsys.readouterr().out == "bell-1: pressed; kept as e1 after 4 ms\n"


def test_an_unknown_bell_is_named_with_those_there_are(endpoints: Path) -> None:
    with pytest.raises(SettingsError, match=r"no bell 'bell-9': .* names bell-1$"):
        press_from_endpoints("bell-9", endpoints=endpoints)


def test_a_box_that_does_not_run_is_named_with_the_cure(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"start `safealley demo` or `up` first"):
        press_from_endpoints("bell-1", endpoints=tmp_path / "endpoints.json")


def test_a_broken_file_is_named_and_not_quoted(endpoints: Path) -> None:
    endpoints.write_text(f'{{"device_door": "{TOKEN}', encoding="utf-8")
    with pytest.raises(SettingsError, match="cannot be read") as refused:
        press_from_endpoints("bell-1", endpoints=endpoints)
    assert TOKEN not in str(refused.value)


@pytest.mark.parametrize(("status", "said"), [(0, "does not answer"), (401, "answered 401")])
def test_a_press_that_is_not_kept_says_why(
    status: int, said: str, endpoints: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answering(monkeypatch, status)
    with pytest.raises(RetryLater, match=said):
        press_from_endpoints("bell-1", endpoints=endpoints)
