import stat
from importlib import import_module, util
from pathlib import Path
from typing import Any

import pytest

from services.onebox.layout import DEFAULT_PORTS, SERVICES, Layout
from services.onebox.service_settings import LIVE_RELAY, make_folders, settings_of_services, write_settings

PORTS = {name: 20_000 + number for number, name in enumerate(DEFAULT_PORTS)}


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    layout = Layout(tmp_path / "data")
    make_folders(layout)
    write_settings(
        layout,
        settings_of_services(
            layout, PORTS, bootstrap="127.0.0.1:29092", reserve_bytes=7, bundle=tmp_path, jurisdictions=["seoul-mapo"]
        ),
    )
    return layout


def loaded(service: str, layout: Layout, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr("os.environ", {})
    return import_module(f"services.{service}.settings").load_settings(layout.settings(service))


@pytest.mark.parametrize("service", SERVICES)
def test_every_service_takes_the_settings_that_up_writes(
    service: str, layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = loaded(service, layout, monkeypatch)
    assert settings.kafka.bootstrap == "127.0.0.1:29092"
    assert settings.ops.port == PORTS[f"{service} ops"]


def test_every_door_is_on_loopback_at_its_port(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    ingest, gateway = (loaded(service, layout, monkeypatch) for service in ("ingest", "gateway"))
    assert (ingest.device_door.host, ingest.device_door.port) == ("127.0.0.1", PORTS["device door"])
    assert (ingest.live.host, ingest.live.port) == ("127.0.0.1", PORTS["live relay"])
    assert (gateway.listen.host, gateway.listen.port) == ("127.0.0.1", PORTS["gateway"])
    assert gateway.archive_url == f"http://127.0.0.1:{PORTS['archive']}"


def test_secrets_are_for_us_alone_and_outlive_a_restart(layout: Layout) -> None:
    relay = layout.secrets / LIVE_RELAY
    before = relay.read_text()
    make_folders(layout)
    assert relay.read_text() == before
    assert len(before) >= 32
    assert stat.S_IMODE(relay.stat().st_mode) == 0o600
    assert stat.S_IMODE(layout.secrets.stat().st_mode) == 0o700


def test_all_services_are_packages_of_ours() -> None:
    assert all(util.find_spec(f"services.{service}") for service in SERVICES)
