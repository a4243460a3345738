"""Measure how long the archive takes to say what it has of one camera over one hour.

    python -m benchmarks.archive_lookup [--cameras 300] [--quick] [--json]

A catalog of its own holds a day of segments of one minute (300 cameras: 432,000 rows), and a gap an hour
and camera. What is timed is what the timeline, the playlist and a clip begin with: segments, gaps and the
first known instant, tiled. Random cameras and hours, one after the other, the disk cache as it is.
"""

import random
import sqlite3
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from benchmarks.figures import arguments, machine, percentile, save, say
from services.archive import catalog
from services.archive.catalog import Catalog, sqlite_url
from services.archive.history import History
from services.archive.open_tail import OpenTail
from services.archive.store.local import LocalStore
from services.runtime.clock import FakeClock

MINUTE_US: Final = 60_000_000
HOUR_US: Final = 60 * MINUTE_US
DAY_MINUTES: Final = 1440
START_US: Final = 1_777_593_600_000_000
LOOKUPS: Final = 5000


def measure(cameras: int, lookups: int) -> dict[str, Any]:
    """Fill a catalog, then look up."""
    with tempfile.TemporaryDirectory(prefix="archive-lookup-") as name:
        directory, clock = Path(name), FakeClock(START_US + 2 * DAY_MINUTES * MINUTE_US)
        opened = Catalog(sqlite_url(directory / "catalog.sqlite"))
        opened.migrate()
        fill(directory / "catalog.sqlite", cameras)
        store = LocalStore(directory / "store", clock=clock)
        history = History(catalog=opened, store=store, tail=OpenTail(), clock=clock)
        cpu_before_s = time.process_time()
        times_ms = [_once_ms(history, cameras) for _ in range(lookups)]
        cpu_s = time.process_time() - cpu_before_s
        rows = opened.counts()["segments"]
        opened.close()
    return {
        "rows": rows,
        "lookups": lookups,
        "p50_ms": round(percentile(times_ms, 0.5), 3),
        "p99_ms": round(percentile(times_ms, 0.99), 3),
        "max_ms": round(max(times_ms), 3),
        "cpu_ms": round(cpu_s / lookups * 1000, 3),
        "must_p99_ms": 10,
        "aim_p99_ms": 2,
        **machine(),
    }


def _once_ms(history: History, cameras: int) -> float:
    camera_id = f"cam-{random.randrange(cameras):05d}"  # noqa: S311 - a sample, no secret
    from_us = START_US + random.randrange(DAY_MINUTES - 60) * MINUTE_US  # noqa: S311 - a sample, no secret
    started = time.perf_counter()
    tiles = history.tiles(camera_id, "main", from_us, from_us + HOUR_US)
    elapsed_ms = (time.perf_counter() - started) * 1000
    if not 60 <= len(tiles) <= 64:
        raise AssertionError("the hour has another number of tiles than was written")
    return elapsed_ms


def fill(file: Path, cameras: int) -> None:
    """Write a day of rows past the catalog's own checks, which would take half an hour."""
    with sqlite3.connect(file) as connection:
        connection.execute("PRAGMA synchronous=OFF")
        _insert(connection, "segments", catalog.segments.columns.keys(), _segments(cameras))
        _insert(connection, "gaps", catalog.gaps.columns.keys(), _gaps(cameras))
    connection.close()


def _insert(connection: sqlite3.Connection, table: str, columns: list[str], rows: Iterator[dict[str, Any]]) -> None:
    names = ", ".join(f'"{column}"' for column in columns)
    marks = ", ".join("?" for _ in columns)
    values = ([row[column] for column in columns] for row in rows)
    connection.executemany(f"INSERT INTO {table} ({names}) VALUES ({marks})", values)  # noqa: S608 - our own names


def _segments(cameras: int) -> Iterator[dict[str, Any]]:
    """Yield minute by minute over all cameras, as they are stored: rows of one camera lie far apart."""
    for minute in range(DAY_MINUTES):
        for camera in range(cameras):
            start_us = START_US + minute * MINUTE_US
            key = f"v1/ab/cam-{camera:05d}/2026-05-01/00/{start_us}-60000-{START_US}-0000-{minute * 60:08d}.mp4"
            yield {
                "camera_id": f"cam-{camera:05d}", "stream": "main", "epoch": START_US, "run": 0,
                "seq0": minute * 60, "seq1": minute * 60 + 59, "start_us": start_us,
                "dur_us": MINUTE_US - (MINUTE_US // 12 if minute % 60 == 30 else 0), "media_90k": 60 * 90_000,
                "class": "standard", "codec": "avc1.640028", "bucket": "live-standard", "key": key,
                "version_id": "0" * 64, "bytes": 15_000_000, "sha256": "0" * 64, "init_sha256": "1" * 64,
                "init_bytes": 800, "fragments": 60, "frames": 1500, "camera_signature": "absent", "clock_ok": True,
                "dependent": False, "overlap": False, "late": False,
            }  # fmt: skip


def _gaps(cameras: int) -> Iterator[dict[str, Any]]:
    for camera in range(cameras):
        for hour in range(24):
            to_us = START_US + hour * HOUR_US + 31 * MINUTE_US
            yield {
                "gap_id": f"{camera}-{hour}", "camera_id": f"cam-{camera:05d}", "stream": "main",
                "from_us": to_us - MINUTE_US // 12, "to_us": to_us, "cause": "device_offline", "detail": "timeout",
                "evidence": "{}", "side": "device", "writer": "ingest-0", "repaired_by": None,
                "recorded_at_us": to_us,
            }  # fmt: skip


def main() -> int:
    """Run it."""
    parser = arguments(__doc__ or "")
    parser.add_argument("--cameras", type=int, default=300)
    options = parser.parse_args()
    result = measure(options.cameras, LOOKUPS // 5 if options.quick else LOOKUPS)
    say(result, as_json=options.json)
    if options.save:
        save(result, "archive_lookup", day=datetime.now(UTC).date())
    return 0 if result["p99_ms"] <= result["must_p99_ms"] else 1


if __name__ == "__main__":
    raise SystemExit(main())
