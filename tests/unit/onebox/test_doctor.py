import json
from pathlib import Path

import pytest

from services.onebox import doctor
from services.onebox.doctor import Finding
from services.runtime.errors import SettingsError


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[Finding]:
    findings = [
        Finding(name="Python", state="ok", found="3.11.2"),
        Finding(name="Chromium", state="tests only", found="none", cure="sudo apt-get install chromium"),
    ]
    monkeypatch.setattr(doctor, "examine", lambda _: findings)
    return findings


def test_what_only_tests_need_is_no_failure(told: list[Finding]) -> None:
    assert doctor.run_doctor(data=Path()) == 0
    told.append(Finding(name="Kafka's jars", state="missing", found="none", cure="./run setup"))
    assert doctor.run_doctor(data=Path()) == 1


def test_json_is_one_line_with_each_finding(told: list[Finding], capsys: pytest.CaptureFixture[str]) -> None:
    doctor.run_doctor(data=Path(), as_json=True)
    lines = capsys.readouterr().out.splitlines()
    assert [item["name"] for item in json.loads(lines[0])] == [finding.name for finding in told]
    assert len(lines) == 1


def test_whatever_is_not_ok_has_a_cure(tmp_path: Path) -> None:
    assert all(finding.cure for finding in doctor._software() if finding.state != "ok")
    assert all(finding.cure for finding in doctor._place(tmp_path) if finding.state != "ok")


def test_each_taken_port_is_a_short_line_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def reserve(_: object) -> None:
        raise SettingsError("taken")

    monkeypatch.setattr(doctor, "reserve", reserve)
    found = [finding for finding in doctor._place(tmp_path) if finding.name != "disk"]
    assert {finding.state for finding in found} == {"taken"}
    assert "8080 (gateway)" in [finding.found for finding in found]
    assert all(len(doctor._line(finding)) < 140 for finding in found)
