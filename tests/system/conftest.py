"""A whole demo for system tests: real Kafka, four services, simulators; and the figures they found.

Each test says in its docstring what fails, what the operator still sees and what the auditor still finds.
"""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Final

import aiohttp
import pytest

from services.onebox.demo import DemoWanted, demo_box
from services.runtime.errors import RetryLater
from tests.clips import CODECS, make_clip, real_clips
from tests.system.city import CLOCK, City

Figures = Callable[..., None]
CityOf = Callable[..., AbstractAsyncContextManager[City]]

_FIGURES: Final = pytest.StashKey[list[str]]()


@asynccontextmanager
async def run_city(data: Path, wanted: DemoWanted) -> AsyncIterator[City]:
    """Run a demo in a directory, with ports of the kernel's choice."""
    said: list[str] = []
    box = demo_box(data, wanted, kafka=None, ports="free", clock=CLOCK, say=said.append)
    try:
        await box.__aenter__()
    except RetryLater as error:
        await box.stop()
        if "be fetched" in str(error):
            pytest.skip(f"a real broker: {error}")
        raise
    try:
        async with aiohttp.ClientSession() as http:
            yield City(box=box, http=http, addresses=box.endpoints())
    finally:
        await box.__aexit__()
        print_last(said)


def print_last(said: list[str]) -> None:
    """Leave what the box said in pytest's captured output."""
    print("\n".join(said))  # noqa: T201 - shown by pytest beside a failure


@pytest.fixture
def city_of(tmp_path: Path) -> CityOf:
    """Give a context manager that runs a demo; its words are those of DemoWanted."""

    def start(**wanted: object) -> AbstractAsyncContextManager[City]:
        return run_city(tmp_path / "data", DemoWanted(**wanted))  # type: ignore[arg-type]

    return start


@pytest.fixture
async def box(city_of: CityOf) -> AsyncIterator[City]:
    """Give a running demo with two cameras."""
    async with city_of(cameras=2) as city:
        yield city


@pytest.fixture(scope="session")
def clips() -> dict[str, Path]:
    """Give the real recordings by name."""
    return real_clips() or pytest.skip("shared/data/clips (real recordings) is not beside this checkout")


@pytest.fixture(scope="session")
def any_clips(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Give the real recordings by name, where there are none one of each codec that we make ourselves."""
    folder = tmp_path_factory.mktemp("clips")
    return real_clips() or {f"{codec}.mp4": make_clip(folder / f"{codec}.mp4", codec) for codec in CODECS}


@pytest.fixture
def figures(request: pytest.FixtureRequest) -> Figures:
    """Give a function that keeps a test's figures; they are printed after the run."""
    kept = request.config.stash.setdefault(_FIGURES, [])

    def keep(what: str, **values: object) -> None:
        kept.append(f"{what}: " + ", ".join(f"{name} {value}" for name, value in values.items()))

    return keep


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Print the figures of this run."""
    kept = config.stash.get(_FIGURES, [])
    if kept:
        terminalreporter.section("figures")
        for line in kept:
            terminalreporter.write_line(line)
