"""Measure what a camera costs ingest, beside one ffmpeg process per camera without Kafka, in one run.

    python -m benchmarks.how_many_cameras [--cameras 20 60] [--seconds 20] [--warm-up 10] [--runs 1] [--quick] [--json]

A real Kafka, the real service, cameras from one process that sends packet by packet (2 Mbps, 25/s, a
key picture a second). Ingest has one core, broker and sources another; then ffmpeg has the same core and
the same sources. `kafka_ms_per_camera_second` is a bare producer that sends the same records from memory
(bare_producer.py). `access_units_lost` is exact: every fragment in `video` is read back and every unit's
hash compared with the source's list, in order. The top keys are those of the largest number of cameras.
"""

import asyncio
import contextlib
import shutil
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from benchmarks.figures import arguments, cpu_seconds, machine, median, memory_bytes, save, say
from benchmarks.rig import CLOCK, UNDER_TEST, Rig, on_core, rig
from benchmarks.units import Follow
from services.onebox.processes import Child

FFMPEG_READY_S: Final = 60.0
FFMPEG_READY_BYTES: Final = 64 * 1024
FRAGMENT_BYTES: Final = 250_000
_OUTPUT: Final = ("-c", "copy", "-f", "mp4", "-movflags", "frag_keyframe+empty_moov+default_base_moof")


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """How long everything lasts."""

    cameras: Sequence[int]
    window_s: float
    warm_up_s: float
    runs: int


async def measure(wanted: Wanted) -> dict[str, Any]:
    """Measure every number of cameras, each in a rig of its own."""
    found = [_merged([await _run(cameras, wanted) for _ in range(wanted.runs)]) for cameras in wanted.cameras]
    largest = max(found, key=lambda one: one["cameras"])
    with on_core(UNDER_TEST) as pinned:
        alone = pinned
    return {
        **largest,
        "by_cameras": found,
        "window_s": wanted.window_s,
        "runs": wanted.runs,
        "alone_on_a_core": alone,
        "ffmpeg": "measured" if shutil.which("ffmpeg") else "not installed: apt-get install ffmpeg",
        **machine(),
    }


async def _run(cameras: int, wanted: Wanted) -> dict[str, Any]:
    """Measure ingest, the bare producer and ffmpeg, one after another."""
    with tempfile.TemporaryDirectory(prefix="safealley-bench-") as folder:
        async with rig(Path(folder), cameras) as bench:
            figures = await _ingest(bench, wanted)
            producer = await _bare_producer(bench, wanted)
            ffmpeg = await _ffmpeg(bench, wanted)
    ratio = (
        None if ffmpeg is None else round(figures["ms_per_camera_second"] / ffmpeg["ffmpeg_ms_per_camera_second"], 3)
    )
    return {"cameras": cameras, **figures, **producer, **(ffmpeg or _NO_FFMPEG), "ratio_to_ffmpeg": ratio}


_NO_FFMPEG: Final[Mapping[str, Any]] = {"ffmpeg_ms_per_camera_second": None, "ffmpeg_memory_mb_per_camera": None}


async def _ingest(bench: Rig, wanted: Wanted) -> dict[str, Any]:
    pid = await bench.start_ingest()
    await asyncio.sleep(wanted.warm_up_s)
    from_us = CLOCK.now_us()
    ms = await _cpu_ms([pid], bench.cameras, wanted.window_s)
    to_us = CLOCK.now_us()
    memory = memory_bytes(pid)
    await asyncio.sleep(1.5)  # the fragment that was open at the window's end
    await bench.stop_ingest()
    follows = (await bench.read_back()).values()
    return {
        "ms_per_camera_second": ms,
        "memory_mb_per_camera": round(memory / bench.cameras / 1e6, 2),
        "memory_mb": round(memory / 1e6, 1),
        **_verdict(list(follows), from_us, to_us),
    }


def _verdict(follows: Sequence[Follow], from_us: int, to_us: int) -> dict[str, Any]:
    """Say what is missing: holes anywhere in the recording, other bytes, and what the window's ends lack."""
    return {
        "access_units": sum(one.units for one in follows),
        "access_units_lost": sum(one.lost + one.wrong + one.shortfall(from_us, to_us) for one in follows),
        "access_units_not_equal": sum(one.wrong for one in follows),
        "fragments_twice": sum(one.repeats for one in follows),
        "sessions": sum(one.runs for one in follows),
    }


async def _cpu_ms(pids: Sequence[int], cameras: int, window_s: float) -> float:
    """Return milliseconds of CPU per camera and second over a window that begins now."""
    begin_ns = CLOCK.monotonic_ns()
    before = [cpu_seconds(pid) for pid in pids]
    await asyncio.sleep(window_s)
    spent_s = sum(cpu_seconds(pid) for pid in pids) - sum(before)
    passed_s = (CLOCK.monotonic_ns() - begin_ns) / 1e9
    return round(spent_s / passed_s / cameras * 1000, 3)


async def _bare_producer(bench: Rig, wanted: Wanted) -> dict[str, Any]:
    command = ["-m", "benchmarks.bare_producer", bench.kafka.bootstrap, str(bench.cameras), str(FRAGMENT_BYTES)]
    child = bench.start("bare-producer", [sys.executable, *command], core=UNDER_TEST)
    try:
        await asyncio.sleep(min(3.0, wanted.warm_up_s))
        return {"kafka_ms_per_camera_second": await _cpu_ms([child.pid], bench.cameras, wanted.window_s / 2)}
    finally:
        await child.end_within(5.0)


async def _ffmpeg(bench: Rig, wanted: Wanted) -> dict[str, Any] | None:
    program = shutil.which("ffmpeg")
    if program is None:
        return None
    files = [bench.folder / f"ffmpeg-{number}.mp4" for number in range(bench.cameras)]
    async with contextlib.AsyncExitStack() as stack:
        children: list[Child] = []
        for number, file in enumerate(files):
            command = [program, "-nostdin", "-loglevel", "error", "-rtsp_transport", "tcp", "-i", bench.url(number)]
            child = bench.start(f"ffmpeg-{number}", [*command, *_OUTPUT, str(file)], core=UNDER_TEST)
            stack.push_async_callback(child.end_within, 5.0)
            children.append(child)
        await _all_write(children, files)
        await asyncio.sleep(wanted.warm_up_s)
        written = [file.stat().st_size for file in files]
        ms = await _cpu_ms([child.pid for child in children], bench.cameras, wanted.window_s)
        memory = sum(memory_bytes(child.pid) for child in children)
        if any(file.stat().st_size <= before for file, before in zip(files, written, strict=True)):
            raise RuntimeError("an ffmpeg wrote nothing in the window")
    return {
        "ffmpeg_ms_per_camera_second": ms,
        "ffmpeg_memory_mb_per_camera": round(memory / bench.cameras / 1e6, 2),
    }


async def _all_write(children: Sequence[Child], files: Sequence[Path]) -> None:
    async with asyncio.timeout(FFMPEG_READY_S):
        while not all(file.exists() and file.stat().st_size > FFMPEG_READY_BYTES for file in files):
            ended = next((child for child in children if child.exited.is_set()), None)
            if ended is not None:
                raise RuntimeError(f"{ended.name} ended: {ended.last_line}")
            await asyncio.sleep(0.2)


def _merged(runs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Take the median of each figure, but the sum of what was lost."""
    merged = dict(runs[0])
    for name in merged:
        values = [run[name] for run in runs]
        if name.endswith(("_lost", "_not_equal", "_twice")):
            merged[name] = sum(values)
        elif isinstance(values[0], float):
            merged[name] = median(values)
    if len(runs) > 1:
        merged["ratio_of_runs"] = [run["ratio_to_ffmpeg"] for run in runs]
    return merged


def main() -> None:
    """Entry point."""
    parser = arguments(__doc__ or "")
    parser.add_argument("--cameras", type=int, nargs="+", default=[20, 60])
    parser.add_argument("--seconds", type=float, default=20.0, help="the window")
    parser.add_argument("--warm-up", type=float, default=10.0)
    parser.add_argument("--runs", type=int, default=1, help="the median of so many")
    given = parser.parse_args()
    wanted = Wanted(cameras=given.cameras, window_s=given.seconds, warm_up_s=given.warm_up, runs=given.runs)
    if given.quick:
        wanted = Wanted(cameras=[20], window_s=4.0, warm_up_s=1.5, runs=1)
    result = asyncio.run(measure(wanted))
    if given.save:
        save(result, "how_many_cameras", day=datetime.now(UTC).date())
    say(result, as_json=given.json)


if __name__ == "__main__":
    main()
