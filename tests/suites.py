"""Runs checks and suites for `./run check`, `test` and `bench`: a line each with its time, skips by name last.

python tests/suites.py check             lint, types, import rules, unit: two lanes beside each other
python tests/suites.py test [SUITE …]    the same, then every other folder of tests, one after the other
python tests/suites.py bench [NAME …] [--quick]
"""

import os
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal
from xml.etree import ElementTree as ET

from rich.console import Console
from rich.table import Table

ROOT: Final = Path(__file__).resolve().parents[1]
REPORTS: Final = ROOT / ".cache" / "tests"
ORDER: Final = ("unit", "contract", "architecture", "conformance", "fuzz", "integration", "console", "system", "stack")
SUITE_S: Final = 1800
BESIDE_LINT: Final = ("alerting", "gateway", "onebox")
NO_TESTS: Final = 5
"""pytest's status when it found nothing to run."""
CODE: Final = tuple(name for name in ("services", "tests", "benchmarks") if (ROOT / name).is_dir())

console = Console(highlight=False, soft_wrap=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One program to run. With a report it is pytest, and its skips are counted."""

    name: str
    command: Sequence[str]
    folder: Path = ROOT
    report: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How a step ended."""

    name: str
    result: Literal["ok", "failed", "no tests"]
    seconds: float
    tests: int = 0
    skips: tuple[tuple[str, str], ...] = ()
    output: str = field(default="", repr=False)


def check_lanes() -> tuple[list[Step], list[Step]]:
    """Return two lanes of about equal length, one for each core: a part of the unit tests follows the linters."""
    beside_lint = [f"tests/unit/{name}" for name in BESIDE_LINT]
    others = sorted(str(path.relative_to(ROOT)) for path in (ROOT / "tests" / "unit").iterdir() if _holds_tests(path))
    static = [
        Step(name="ruff check", command=["ruff", "check", "-q", *CODE]),
        Step(name="ruff format", command=["ruff", "format", "--check", "-q", *CODE]),
        Step(name="mypy", command=["mypy", *CODE]),
    ]
    if "[tool.importlinter" in (ROOT / "pyproject.toml").read_text():
        static.append(Step(name="import rules", command=["lint-imports"]))
    static.append(pytest("unit", name="unit-decisions", only=beside_lint))
    tests = [pytest("unit", name="unit", only=[path for path in others if path not in beside_lint])]
    if (ROOT / "web" / "node_modules").is_dir():
        tests.append(
            Step(name="console types and lint", command=["npm", "run", "--silent", "check"], folder=ROOT / "web")
        )
    return static, tests


def pytest(suite: str, *, name: str = "", only: Sequence[str] = ()) -> Step:
    """Return a suite, or under a name of its own a part of it."""
    report = REPORTS / f"{name or suite}.xml"
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--junitxml={report}"]
    return Step(name=name or suite, command=[*command, *(only or [f"tests/{suite}"])], report=report)


def _holds_tests(path: Path) -> bool:
    return path.name.startswith("test_") or (path.is_dir() and any(path.rglob("test_*.py")))


def other_suites() -> list[str]:
    """Return every folder of tests but the unit tests, known ones in their order, new ones after them."""
    folders = {path.name for path in (ROOT / "tests").iterdir() if any(path.rglob("test_*.py"))} - {"unit"}
    return sorted(folders, key=lambda name: (ORDER.index(name) if name in ORDER else len(ORDER), name))


def run(step: Step, *, show: bool) -> Outcome:
    """Run a step to its end; show its output while it runs, or keep it for the case that it fails."""
    begin = time.monotonic()
    status, output = _execute(step, show=show)
    tests, skips = _read_report(step.report)
    outcome = Outcome(
        name=step.name,
        result="no tests" if status == NO_TESTS and step.report else "failed" if status else "ok",
        seconds=time.monotonic() - begin,
        tests=tests,
        skips=skips,
        output=output,
    )
    colour = "red" if outcome.result == "failed" else "green"
    console.print(f"[{colour}]{outcome.result:>8}[/] {step.name} {_count(outcome)}({outcome.seconds:.1f} s)")
    return outcome


def _count(outcome: Outcome) -> str:
    skipped = f", {len(outcome.skips)} skipped" if outcome.skips else ""
    return f"{outcome.tests} tests{skipped} " if outcome.tests else ""


def _execute(step: Step, *, show: bool) -> tuple[int, str]:
    if step.report is not None:
        step.report.unlink(missing_ok=True)
    try:
        done = subprocess.run(
            step.command, cwd=step.folder, env=_environment(), text=True, check=False, timeout=SUITE_S,
            stdin=subprocess.DEVNULL, stdout=None if show else subprocess.PIPE,
            stderr=None if show else subprocess.STDOUT,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return 1, f"{step.name} was not done in {SUITE_S} s"
    except OSError as error:
        return 1, f"{step.name} could not be started: {error}"
    return done.returncode, done.stdout or ""


def _environment() -> dict[str, str]:
    ours = [str(Path(sys.executable).parent), str(ROOT / ".cache" / "node" / "bin")]
    return os.environ | {"PATH": os.pathsep.join([*ours, os.environ["PATH"]])}


def _read_report(report: Path | None) -> tuple[int, tuple[tuple[str, str], ...]]:
    """Return the count of tests and, for each skip, its name and its reason."""
    if report is None or not report.exists():
        return 0, ()
    cases = list(ET.parse(report).getroot().iter("testcase"))  # noqa: S314 - written by pytest a moment ago
    skips = [
        (f"{case.get('classname')}::{case.get('name')}", skip.get("message") or "no reason given")
        for case in cases
        if (skip := case.find("skipped")) is not None
    ]
    return len(cases), tuple(skips)


def run_lanes(lanes: Iterable[Sequence[Step]]) -> list[Outcome]:
    """Run lanes beside each other, the steps of a lane one after the other."""
    lanes = list(lanes)
    with ThreadPoolExecutor(len(lanes)) as pool:
        done = list(pool.map(lambda lane: [run(step, show=False) for step in lane], lanes))
    return [outcome for lane in done for outcome in lane]


def summary(outcomes: Sequence[Outcome], seconds: float) -> int:
    """Print failures with their output, a table and every skip with its reason; return the exit status."""
    failed = [outcome for outcome in outcomes if outcome.result == "failed"]
    for outcome in failed:
        if outcome.output:
            console.rule(f"{outcome.name} failed")
            console.print(outcome.output.rstrip(), markup=False)
    table = Table("what", "result", "tests", "skipped", "seconds", box=None)
    for outcome in outcomes:
        table.add_row(
            outcome.name,
            outcome.result,
            str(outcome.tests or ""),
            str(len(outcome.skips) or ""),
            f"{outcome.seconds:.1f}",
        )
    console.print(table)
    for outcome in outcomes:
        for name, reason in outcome.skips:
            console.print(f"SKIPPED {name}: {reason}", markup=False)
    skipped = sum(len(outcome.skips) for outcome in outcomes)
    total = sum(outcome.tests for outcome in outcomes)
    verdict = f"{len(failed)} failed" if failed else "all green"
    console.print(f"{verdict}: {len(outcomes)} steps, {total} tests, {skipped} skipped, {seconds:.0f} s")
    return 1 if failed else 0


def check() -> list[Outcome]:
    return run_lanes(check_lanes())


def test(names: Sequence[str]) -> list[Outcome]:
    """Run the named suites, or everything."""
    known = ["unit", *other_suites()]
    if unknown := sorted(set(names) - set(known)):
        raise SystemExit(f"no such suite: {', '.join(unknown)}; there are {', '.join(known)}")
    outcomes = [] if names else check()
    for suite in names or other_suites():
        console.rule(suite)
        outcomes.append(run(pytest(suite), show=True))
    return outcomes


def bench(arguments: Sequence[str]) -> list[Outcome]:
    """Run the named benchmarks, or all; options go to each."""
    known = sorted(path.stem for path in (ROOT / "benchmarks").glob("*.py") if "__main__" in path.read_text())
    names = [name for name in arguments if not name.startswith("-")]
    if unknown := sorted(set(names) - set(known)):
        raise SystemExit(f"no such benchmark: {', '.join(unknown)}; there are {', '.join(known)}")
    options = [option for option in arguments if option.startswith("-")]
    steps = [Step(name=n, command=[sys.executable, "-m", f"benchmarks.{n}", *options]) for n in names or known]
    return [run(step, show=True) for step in steps]


def main(arguments: Sequence[str]) -> int:
    REPORTS.mkdir(parents=True, exist_ok=True)
    begin = time.monotonic()
    match list(arguments):
        case ["check"]:
            outcomes = check()
        case ["test", *names]:
            outcomes = test(names)
        case ["bench", *rest]:
            outcomes = bench(rest)
        case _:
            raise SystemExit(__doc__)
    return summary(outcomes, time.monotonic() - begin)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
