"""What the benchmarks share: percentiles, process CPU and memory, the machine, and how a result is said."""

import argparse
import json
import math
import os
import platform
import statistics
import sys
from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any

TICKS_PER_S = os.sysconf("SC_CLK_TCK")
RESULTS = Path(__file__).parent / "results"


def percentile(values: Sequence[float], share: float) -> float:
    """Return the nearest-rank percentile; `share` 0.99 for p99."""
    ordered = sorted(values)
    rank = math.ceil(len(ordered) * share)
    return ordered[max(0, rank - 1)]


def cpu_seconds(pid: int) -> float:
    """Return user and system time of a process, its ended children left out (proc(5))."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS_PER_S


def memory_bytes(pid: int) -> int:
    """Return the proportional set size: shared pages counted once over all who share them."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024
    raise ValueError(f"process {pid} has no Pss")


def machine() -> dict[str, Any]:
    """Return what a figure depends on."""
    model = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
            if line.startswith("model name")
        ),
        platform.machine(),
    )
    return {"cores": os.cpu_count(), "cpu": model, "python": platform.python_version()}


def arguments(description: str) -> argparse.ArgumentParser:
    """Return a parser with what every benchmark takes."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--quick", action="store_true", help="under a minute: a sign, not a figure to quote")
    parser.add_argument("--json", action="store_true", help="one object as the last line")
    parser.add_argument("--save", action="store_true", help="keep the result in benchmarks/results")
    return parser


def say(result: Mapping[str, Any], *, as_json: bool) -> None:
    """Print a result: lines for a person, and one object as the last line where asked."""
    for name, value in result.items():
        print(f"{name:34} {value}", file=sys.stderr if as_json else sys.stdout)
    if as_json:
        print(json.dumps(dict(result)))


def save(result: Mapping[str, Any], name: str, *, day: date, directory: Path = RESULTS) -> Path:
    """Keep a result: one JSON object with the command that made it, a file a day and benchmark."""
    directory.mkdir(parents=True, exist_ok=True)
    file = directory / f"{name}-{day.isoformat()}.json"
    kept = {"command": f"python -m benchmarks.{' '.join([name, *sys.argv[1:]])}", "day": day.isoformat(), **result}
    file.write_text(json.dumps(kept, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return file


def median(values: Sequence[float]) -> float:
    """Return the median, rounded to what one run can tell."""
    return round(statistics.median(values), 3)
