"""Who may import whom. The rules stand in pyproject.toml; these tests show that they hold and that they bite."""

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import grimp
import pytest

ROOT: Final = Path(__file__).resolve().parents[2]
LINT: Final = Path(sys.executable).with_name("lint-imports")

PLANTED: Final[Mapping[str, str]] = {
    "services/alerting/lifecycle.py": "import av",
    "services/gateway/view.py": "import asyncio",
    "services/ingest/timing.py": "import services.archive.replay",
    "services/contracts/site.py": "import services.runtime.clock",
    "services/runtime/retry.py": "import services.cli",
    "services/archive/replay.py": "import sqlalchemy",
    "services/simulators/bell.py": "import tests",
}
"""A wrong import for each kind of rule, and the file it is planted in."""


def lint(folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(LINT), "--no-cache"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(folder), "COLUMNS": "200"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_the_import_rules_hold() -> None:
    done = lint(ROOT)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> tuple[subprocess.CompletedProcess[str], Mapping[str, int]]:
    """Lint a copy of the package with every wrong import in it; return the verdict and the planted lines."""
    copy = tmp_path_factory.mktemp("planted")
    shutil.copy(ROOT / "pyproject.toml", copy)
    shutil.copytree(ROOT / "services", copy / "services", ignore=shutil.ignore_patterns("__pycache__", "static"))
    (copy / "tests").mkdir()
    (copy / "tests" / "__init__.py").touch()
    lines = {}
    for file, statement in PLANTED.items():
        source = (copy / file).read_text(encoding="utf-8").rstrip("\n")
        (copy / file).write_text(f"{source}\n{statement}\n", encoding="utf-8")
        lines[file] = source.count("\n") + 2
    return lint(copy), lines


@pytest.mark.parametrize("file", PLANTED)
def test_a_wrong_import_is_named_with_its_file_and_line(
    file: str, planted: tuple[subprocess.CompletedProcess[str], Mapping[str, int]]
) -> None:
    done, lines = planted
    assert done.returncode == 1
    source, target = file.removesuffix(".py").replace("/", "."), PLANTED[file].removeprefix("import ")
    told = " ".join(done.stdout.split())
    assert f"{source} -> {target} (l.{lines[file]})" in told


def test_contracts_need_msgspec_and_the_standard_library_alone() -> None:
    graph = grimp.build_graph("services", include_external_packages=True, cache_dir=None)
    contracts = {"services.contracts", *graph.find_descendants("services.contracts")}
    imported = {name for module in contracts for name in graph.find_modules_directly_imported_by(module)}
    foreign = {name for name in imported if name.split(".")[0] not in sys.stdlib_module_names}
    assert {name for name in foreign if not name.startswith("services.contracts")} == {"msgspec"}


def test_every_service_has_its_fence_by_name() -> None:
    folders = {path.parent.name for path in (ROOT / "services").glob("*/__init__.py")}
    assert folders == {"contracts", "runtime", "ingest", "alerting", "gateway", "archive", "simulators", "onebox"}
