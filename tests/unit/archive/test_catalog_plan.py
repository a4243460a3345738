"""Every question a look-up or a reader asks goes by an index, however long the city has recorded."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from services.archive.catalog import Catalog, sqlite_url
from services.archive.segmenter import EpochId
from tests.unit.archive.film import SECOND_US, START_US

HOUR = (START_US, START_US + 3600 * SECOND_US)


@contextmanager
def statements() -> Iterator[list[tuple[str, Any]]]:
    """Collect what is asked of any database meanwhile."""
    asked: list[tuple[str, Any]] = []

    def listen(_connection: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        asked.append((statement, parameters))

    sa.event.listen(sa.engine.Engine, "before_cursor_execute", listen)
    try:
        yield asked
    finally:
        sa.event.remove(sa.engine.Engine, "before_cursor_execute", listen)


@pytest.fixture
def catalog(tmp_path: Path) -> Iterator[Catalog]:
    opened = Catalog(sqlite_url(tmp_path / "catalog.sqlite"))
    opened.migrate()
    yield opened
    opened.close()


def plan(file: Path, statement: str, parameters: Any) -> list[str]:
    with sqlite3.connect(file) as connection:
        rows = connection.execute(f"EXPLAIN QUERY PLAN {statement}", parameters).fetchall()
    connection.close()
    return [row[3] for row in rows]


def test_no_question_scans_a_table(catalog: Catalog, tmp_path: Path) -> None:
    with statements() as asked:
        catalog.segments_between("cam-1", "main", *HOUR)
        catalog.gaps_between("cam-1", "main", *HOUR)
        catalog.first_us("cam-1", "main")
        catalog.stream_known("cam-1", "main")
        catalog.epoch_known(EpochId("cam-1", "main", 1))
        catalog.segment("cam-1", "main", 1, 0)
    assert len(asked) == 6
    for statement, parameters in asked:
        steps = plan(tmp_path / "catalog.sqlite", statement, parameters)
        tables = [step for step in steps if "segments" in step or "gaps" in step]
        assert tables
        assert all(step.startswith("SEARCH") and "camera_id=?" in step for step in tables), steps


def test_an_hour_is_found_by_its_time(catalog: Catalog, tmp_path: Path) -> None:
    with statements() as asked:
        catalog.segments_between("cam-1", "main", *HOUR)
    (step,) = (one for one in plan(tmp_path / "catalog.sqlite", *asked[0]) if one.startswith("SEARCH"))
    assert "INDEX segments_by_time (camera_id=? AND stream=? AND start_us>? AND start_us<?)" in step
