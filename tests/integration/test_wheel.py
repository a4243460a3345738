"""The wheel as somebody installs it: our packages alone, with the console of these very sources inside."""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import zipfile
from importlib.metadata import packages_distributions
from pathlib import Path
from types import ModuleType
from typing import Final

import pytest

ROOT: Final = Path(__file__).resolve().parents[2]
DIST: Final = ROOT / "web" / "dist"
BUILD_S: Final = 100
TELL: Final = "from services.gateway.bundle import PACKAGED, find_bundle as f; b = f(PACKAGED); print(b.source_sha256)"


@pytest.fixture(scope="module")
def hook() -> ModuleType:
    spec = importlib.util.spec_from_file_location("hatch_build", ROOT / "hatch_build.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build with the hatchling that is installed: nothing is fetched."""
    target = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(target)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=BUILD_S)
    assert done.returncode == 0, done.stdout + done.stderr
    return next(target.glob("*.whl"))


def _need_page(hook: ModuleType) -> None:
    if not (DIST / "build.json").is_file():
        pytest.skip(f"the console is not built: {hook.BUILD}")


def test_the_wheel_holds_our_packages_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        tops = {name.split("/")[0] for name in archive.namelist()}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"services"}


def test_no_other_distribution_here_is_called_services() -> None:
    assert set(packages_distributions().get("services", ())) <= {"safealley"}


def test_the_installed_gateway_serves_the_console_of_these_sources(
    wheel: Path, hook: ModuleType, tmp_path: Path
) -> None:
    _need_page(hook)
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path)
    environ = {**os.environ, "PYTHONPATH": str(tmp_path)}
    told = subprocess.run(
        [sys.executable, "-c", TELL], cwd=tmp_path, env=environ, capture_output=True, text=True, check=True, timeout=30
    )
    assert told.stdout.strip() == hook.source_sha256(ROOT / "web")


def test_a_console_older_than_its_sources_is_refused(hook: ModuleType, tmp_path: Path) -> None:
    _need_page(hook)
    web = tmp_path / "web"
    shutil.copytree(ROOT / "web", web, ignore=shutil.ignore_patterns("node_modules"))
    assert hook.page_files(web)
    (web / "src" / "main.tsx").write_text("", encoding="utf-8")
    with pytest.raises(RuntimeError, match="npm run build"):
        hook.page_files(web)


def test_without_a_built_console_the_wheel_has_none(hook: ModuleType, tmp_path: Path) -> None:
    assert hook.page_files(tmp_path / "web") == []


def test_the_page_names_only_files_the_wheel_has(wheel: Path, hook: ModuleType) -> None:
    _need_page(hook)
    facts = json.loads((DIST / "build.json").read_text(encoding="utf-8"))
    with zipfile.ZipFile(wheel) as archive:
        held = {name.removeprefix(f"{hook.PACKAGED}/") for name in archive.namelist() if hook.PACKAGED in name}
    assert {"index.html", facts["script"], facts["style"], *facts["start"]} <= held
