"""A link that does not hold is a line of the report, whatever breaks it."""

from pathlib import Path
from typing import Any, Self

import msgspec
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from services.onebox import check, press_links
from services.onebox.check import Report, take
from services.onebox.demo import DemoWanted
from services.onebox.endpoints import Bell, Endpoints
from services.onebox.links import Link, Probe
from services.runtime.clock import FakeClock
from services.runtime.memory_kafka import MemoryKafka


def probe_of(address: str, scratch: Path) -> Probe:
    clock = FakeClock()
    return Probe(
        endpoints=Endpoints(
            gateway=address,
            device_door=address,
            archive=address,
            kafka="",
            tokens={"operator": "", "auditor": ""},
            bells=[Bell(id="bell-1", token="", site_id="mangwon")],
        ),
        camera_id="cam-1",
        hashes=scratch / "units.json",
        kafka=MemoryKafka(clock=clock),
        clock=clock,
        scratch=scratch,
    )


@pytest.mark.parametrize(
    "error",
    [KeyError("id"), IndexError("no bell"), StopIteration(), ValueError("not JSON"), msgspec.ValidationError("no int")],
    ids=lambda error: type(error).__name__,
)
async def test_whatever_a_step_raises_is_a_link_that_does_not_hold(error: Exception, tmp_path: Path) -> None:
    async def step(_probe: Probe) -> Link:
        raise error

    link = await take("press", step, probe_of("http://127.0.0.1:1", tmp_path))
    assert (link.name, link.holds) == ("press", False)
    assert type(error).__name__ in link.detail


class Box:
    """A box of which no door answers as it should."""

    def __init__(self, address: str, scratch: Path) -> None:
        self.probe = probe_of(address, scratch)
        self.layout = type("Layout", (), {"root": scratch})

    def endpoints(self) -> Endpoints:
        return self.probe.endpoints

    def kafka_port(self, _client_id: str) -> MemoryKafka:
        return MemoryKafka(clock=FakeClock())

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        pass


def test_a_broken_box_is_reported_in_json_line_by_line_with_status_1(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """The console's socket is refused, and the device door says 202 without an id."""

    async def no_id(_request: web.Request) -> web.Response:
        return web.json_response({}, status=202)

    app = web.Application()
    app.router.add_post("/api/v1/alarms", no_id)
    server = TestServer(app)

    class Served(Box):
        async def __aenter__(self) -> Self:
            await server.start_server()
            self.probe = probe_of(str(server.make_url("")).rstrip("/"), tmp_path)
            return self

        async def __aexit__(self, *_: object) -> None:
            await server.close()

    def box(data: Path, wanted: DemoWanted, **_: Any) -> Box:
        assert wanted.cameras == 3
        return Served("", data)

    monkeypatch.setattr(check, "demo_box", box)
    monkeypatch.setattr(check, "STEPS", (("a console listens", press_links.listens), ("press", press_links.press)))
    assert check.run_check(data=tmp_path, as_json=True, clip=None, cameras=3, ports="free") == 1
    said = capsys.readouterr()
    report = msgspec.json.decode(said.out, type=Report)
    assert not report.holds
    assert [(link.name, link.holds) for link in report.links] == [("a console listens", False), ("press", False)]
    assert report.links[1].detail == "KeyError: 'id'"
    assert "Traceback" not in said.err


def test_a_detail_in_square_brackets_is_shown_as_it_is(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    async def broken(_probe: Probe) -> Link:
        raise ValueError("[/nonsense]")

    monkeypatch.setattr(check, "demo_box", lambda data, _wanted, **_: Box("http://127.0.0.1:1", data))
    monkeypatch.setattr(check, "STEPS", (("press", broken),))
    assert check.run_check(data=tmp_path, as_json=False, clip=None, cameras=3, ports="free") == 1
    assert "broken  press  ValueError: [/nonsense]" in capsys.readouterr().out
