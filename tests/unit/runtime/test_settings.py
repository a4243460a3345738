"""Settings are strict, the environment stands above the file, and secrets stay where they are."""

from pathlib import Path
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Struct

from services.runtime.errors import RetryLater, SettingsError
from services.runtime.settings import IdentitySettings, KafkaSettings, ListenSettings, OpsSettings, SecretStore, load


class DoorSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    kafka: KafkaSettings = KafkaSettings()
    ops: OpsSettings = OpsSettings(port=9101)
    listen: ListenSettings = ListenSettings(port=8081)
    identity: IdentitySettings = IdentitySettings()
    secrets_dir: Path = Path("secrets")
    origins: tuple[str, ...] = ()
    assigner: Literal["static", "kafka"] = "static"
    window_s: float = 2.0
    pool: str | None = None


class Needs(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    site: str


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "door.yaml"


def from_file(file: Path, text: str, **environ: str) -> DoorSettings:
    file.write_text(text, encoding="utf-8")
    return load(DoorSettings, file=file, environ=environ)


def from_environment(**environ: str) -> DoorSettings:
    return load(DoorSettings, file=None, environ=environ)


def test_without_file_and_environment_the_defaults_of_one_box_hold() -> None:
    assert from_environment() == DoorSettings()


def test_a_file_sets_what_it_names(file: Path) -> None:
    settings = from_file(file, "kafka: {bootstrap: 'k1:9092,k2:9092'}\nsecrets_dir: /run/secrets\nwindow_s: 3\n")
    assert settings.kafka.bootstrap == "k1:9092,k2:9092"
    assert settings.secrets_dir == Path("/run/secrets")
    assert settings.window_s == 3.0


def test_a_group_written_in_part_keeps_its_services_defaults(file: Path) -> None:
    assert from_file(file, "ops: {host: 0.0.0.0}\n").ops == OpsSettings(host="0.0.0.0", port=9101)


def test_an_unknown_key_is_named_with_file_line_and_the_nearest_known_key(file: Path) -> None:
    with pytest.raises(SettingsError, match=r"door\.yaml:3: kafka\.bootstrp: unknown key: did you mean 'bootstrap'"):
        from_file(file, "window_s: 1\nkafka:\n  bootstrp: k:1\n")


def test_a_value_out_of_range_is_named_with_its_line(file: Path) -> None:
    with pytest.raises(SettingsError, match=r"door\.yaml:2: ops\.port: expected int <= 65535"):
        from_file(file, "ops:\n  port: 70000\n")


def test_the_environment_stands_above_the_file(file: Path) -> None:
    settings = from_file(file, "kafka: {bootstrap: 'a:1'}\n", SAFEALLEY_KAFKA__BOOTSTRAP="b:2")
    assert settings.kafka.bootstrap == "b:2"


@pytest.mark.parametrize(
    ("variable", "text", "field", "value"),
    [
        ("SAFEALLEY_OPS__PORT", "0", "ops", OpsSettings(port=0)),
        ("SAFEALLEY_WINDOW_S", "0.5", "window_s", 0.5),
        ("SAFEALLEY_ORIGINS", "http://a:1, http://b:2", "origins", ("http://a:1", "http://b:2")),
        ("SAFEALLEY_ORIGINS", '["http://a:1"]', "origins", ("http://a:1",)),
        ("SAFEALLEY_SECRETS_DIR", "/run/s", "secrets_dir", Path("/run/s")),
        ("SAFEALLEY_ASSIGNER", "kafka", "assigner", "kafka"),
        ("SAFEALLEY_POOL", "main", "pool", "main"),
        ("SAFEALLEY_LISTEN", '{"port": 1}', "listen", ListenSettings(port=1)),
    ],
)
def test_a_variable_becomes_the_type_of_its_field(variable: str, text: str, field: str, value: object) -> None:
    assert getattr(from_environment(**{variable: text}), field) == value


def test_an_unknown_variable_is_named_with_the_nearest_known_setting() -> None:
    with pytest.raises(SettingsError, match=r"SAFEALLEY_KAFKA__BOOTSTRP .* did you mean 'bootstrap'"):
        from_environment(SAFEALLEY_KAFKA__BOOTSTRP="k:1")


def test_a_variable_below_a_plain_setting_is_refused() -> None:
    with pytest.raises(SettingsError, match="SAFEALLEY_WINDOW_S__X"):
        from_environment(SAFEALLEY_WINDOW_S__X="1")


@pytest.mark.parametrize("variable", ["SAFEALLEY_OPS__PORT", "SAFEALLEY_ASSIGNER", "SAFEALLEY_LISTEN"])
def test_a_variable_of_the_wrong_type_is_named_and_not_repeated(variable: str) -> None:
    with pytest.raises(SettingsError, match=variable) as refused:
        from_environment(**{variable: "hunter2"})
    assert "hunter2" not in str(refused.value)


@pytest.mark.parametrize(
    "variable",
    [
        "PATH",
        "SAFEALLEY_GATEWAY_PORT",
        "SAFEALLEY_GATEWAY_SERVICE_HOST",
        "SAFEALLEY_GATEWAY_SERVICE_PORT_HTTP",
        "SAFEALLEY_GATEWAY_PORT_8080_TCP_ADDR",
    ],
)
def test_what_others_put_into_the_environment_is_left_alone(variable: str) -> None:
    assert from_environment(**{variable: "tcp://10.0.0.1:8080"}) == DoorSettings()


def test_a_variable_cannot_stand_below_a_value_of_the_file(file: Path) -> None:
    with pytest.raises(SettingsError, match=r"door\.yaml:1: kafka: must be a group"):
        from_file(file, "kafka: k\n", SAFEALLEY_KAFKA__BOOTSTRAP="b:2")


def test_a_missing_setting_without_a_file_tells_both_ways_to_set_it() -> None:
    with pytest.raises(SettingsError, match=r"^settings: the key 'site' is missing.*--settings FILE.*SAFEALLEY_"):
        load(Needs, file=None, environ={})


# --- secrets ----------------------------------------------------------------------------------


@pytest.fixture
def store(tmp_path: Path) -> SecretStore:
    (tmp_path / "cam-1").write_text('{"username": "u", "password": "hunter2"}', encoding="utf-8")
    (tmp_path / "live-relay").write_text("hunter2\n", encoding="utf-8")
    (tmp_path / "broken").write_text('{"password": hunter2', encoding="utf-8")
    (tmp_path / "list").write_text('["hunter2"]', encoding="utf-8")
    (tmp_path / "empty").write_text("\n", encoding="utf-8")
    (tmp_path / "binary").write_bytes(b"\xff\xfehunter2")
    (tmp_path / "large").write_text("x" * 70_000, encoding="utf-8")
    return SecretStore(tmp_path)


def test_a_secret_is_read_by_its_reference(store: SecretStore) -> None:
    assert store.read("cam-1") == {"username": "u", "password": "hunter2"}
    assert store.read_text("live-relay") == "hunter2"


def test_a_secret_is_read_again_at_every_use(store: SecretStore, tmp_path: Path) -> None:
    store.read("cam-1")
    (tmp_path / "cam-1").write_text('{"password": "new"}', encoding="utf-8")
    assert store.read("cam-1") == {"password": "new"}


@pytest.mark.parametrize("ref", ["absent", "broken", "list", "empty", "binary", "large"])
def test_a_secret_that_cannot_be_used_now_is_named_without_its_content(ref: str, store: SecretStore) -> None:
    with pytest.raises(RetryLater, match=ref) as refused:
        store.read(ref)
    assert "hunter2" not in str(refused.value)


@pytest.mark.parametrize("ref", ["", "..", "../x", "/etc/passwd", "a/b", "A", "-a", "a\n", ".hidden", "a\x00"])
def test_a_reference_that_could_lead_elsewhere_is_refused(ref: str, store: SecretStore) -> None:
    with pytest.raises(SettingsError, match="not of the form"):
        store.read(ref)


@given(st.text(max_size=20))
def test_no_reference_leads_out_of_the_directory(ref: str) -> None:
    here = Path("secrets")
    try:
        SecretStore(here).read_text(ref)
    except SettingsError:
        return
    except RetryLater:
        assert (here / ref).resolve().parent == here.resolve()
