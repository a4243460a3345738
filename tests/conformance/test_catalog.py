"""One suite for every catalog database. PostgreSQL joins by one more parameter."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from services.archive.catalog import Added, Catalog, Segment, sqlite_url
from services.archive.segmenter import EpochId
from services.contracts.audit import Access
from services.contracts.epoch import RunId
from services.contracts.gap import Gap, GapClosed, GapRepaired, gap_id
from services.contracts.stream import StreamState

S = 1_000_000
T0 = 1_777_640_000 * S


def sqlite(directory: Path) -> str:
    return sqlite_url(directory / "catalog.sqlite")


@pytest.fixture(params=[pytest.param(sqlite, id="SQLite")])
def catalog(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Catalog]:
    make_url: Callable[[Path], str] = request.param
    opened = Catalog(make_url(tmp_path))
    opened.migrate()
    yield opened
    opened.close()


def segment(index: int, *, epoch: int = 1, sha256: str = "a", camera_id: str = "cam-1") -> Segment:
    start_us = T0 + index * 60 * S
    return Segment(
        run_id=RunId(camera_id, "main", epoch, 0), seq0=index * 60, seq1=index * 60 + 59, start_us=start_us,
        dur_us=60 * S, media_90k=60 * 90_000, retention_class="standard", codec="avc1", bucket="live", key=f"k{index}",
        version_id="v", size_bytes=1, sha256=sha256, init_sha256="i", init_bytes=800, fragments=60, frames=1500,
        camera_signature="absent", clock_ok=True, dependent=False, overlap=False,
    )  # fmt: skip


def opened_gap(**more: object) -> Gap:
    gap = Gap(
        gap_id=gap_id("cam-1", "main", T0), camera_id="cam-1", stream="main", from_us=T0, to_us=None,
        cause="device_offline", detail="timeout", evidence={"errno": 110}, side="device", writer="ingest",
        recorded_at_us=T0,
    )  # fmt: skip
    return msgspec.structs.replace(gap, **more)


def test_migrating_twice_changes_nothing(catalog: Catalog) -> None:
    catalog.add_segment(segment(0))
    catalog.migrate()
    assert catalog.counts()["segments"] == 1


def test_a_row_comes_back_as_it_was_written(catalog: Catalog) -> None:
    assert catalog.add_segment(segment(0)) is Added.NEW
    assert catalog.segments_between("cam-1", "main", T0, T0 + 1) == (segment(0),)
    assert catalog.segment("cam-1", "main", 1, 0) == segment(0)


def test_the_same_again_is_success(catalog: Catalog) -> None:
    catalog.add_segment(segment(0))
    assert catalog.add_segment(segment(0)) is Added.SAME
    assert catalog.counts()["segments"] == 1


@pytest.mark.parametrize(
    "other",
    [
        pytest.param(segment(0, sha256="b"), id="other bytes"),
        pytest.param(replace(segment(1), seq0=59), id="seqs that overlap"),
    ],
)
def test_a_conflict_is_told_and_the_first_version_stays(catalog: Catalog, other: Segment) -> None:
    catalog.add_segment(segment(0))
    assert catalog.add_segment(other) is Added.CONFLICT
    assert catalog.segments_between("cam-1", "main", T0, T0 + 600 * S) == (segment(0),)


def test_a_range_is_half_open(catalog: Catalog) -> None:
    for index in range(3):
        catalog.add_segment(segment(index))
    found = catalog.segments_between("cam-1", "main", T0 + 60 * S, T0 + 120 * S)
    assert [one.seq0 for one in found] == [60]
    assert catalog.segments_between("cam-2", "main", T0, T0 + 600 * S) == ()
    assert catalog.segments_between("cam-1", "sub", T0, T0 + 600 * S) == ()


def test_what_is_stored_of_an_epoch_and_a_stream_is_known(catalog: Catalog) -> None:
    for index, epoch in ((0, 1), (1, 1), (2, 5)):
        catalog.add_segment(segment(index, epoch=epoch))
    known = catalog.epoch_known(EpochId("cam-1", "main", 1))
    assert known.ranges == ((0, 59), (60, 119))
    assert known.end_us == T0 + 120 * S
    stream = catalog.stream_known("cam-1", "main")
    assert (stream.newest_epoch, stream.end_us) == (5, T0 + 180 * S)
    assert catalog.stream_known("cam-9", "main").newest_epoch is None


def test_a_gap_opens_closes_and_is_repaired_and_a_replay_takes_nothing_back(catalog: Catalog) -> None:
    opened = opened_gap()
    facts = msgspec.structs.asdict(opened)
    closed = GapClosed(**(facts | {"to_us": T0 + 9 * S, "detail": "stall"}))
    repaired = GapRepaired(**(facts | {"to_us": T0 + 9 * S, "repaired_by": "cam-1/main/7"}))
    for body in (opened, closed, repaired, opened, opened):
        catalog.keep([("event", body)])
    (row,) = catalog.gaps_between("cam-1", "main", T0, T0 + S)
    assert row.to_us == T0 + 9 * S
    assert catalog.counts()["gaps"] == 1


def test_two_writers_of_one_gap_make_one_row_and_ingest_s_word_stays(catalog: Catalog) -> None:
    catalog.keep([("event", GapClosed(**(msgspec.structs.asdict(opened_gap()) | {"to_us": T0 + S})))])
    assert catalog.add_gaps([opened_gap(to_us=T0 + S, cause="ingest_restart", writer="archive")]) == 0
    assert catalog.gaps_between("cam-1", "main", T0, T0 + S)[0].cause == "device_offline"


def test_an_open_gap_touches_every_later_range(catalog: Catalog) -> None:
    catalog.keep([("event", opened_gap())])
    assert len(catalog.gaps_between("cam-1", "main", T0 + 900 * S, T0 + 901 * S)) == 1
    assert catalog.first_us("cam-1", "main") == T0


def test_an_open_gap_ends_where_footage_began_after_it(catalog: Catalog) -> None:
    catalog.keep([("event", opened_gap())])
    catalog.add_segment(segment(1))
    assert len(catalog.gaps_between("cam-1", "main", T0 + 30 * S, T0 + 40 * S)) == 1
    assert len(catalog.gaps_between("cam-1", "main", T0 + 30 * S, T0 + 90 * S)) == 1
    assert catalog.gaps_between("cam-1", "main", T0 + 900 * S, T0 + 901 * S) == ()


def test_an_open_gap_ends_where_another_gap_began_after_it(catalog: Catalog) -> None:
    catalog.keep([("event", opened_gap()), ("event", opened_gap(from_us=T0 + 60 * S, gap_id="another"))])
    assert [row.from_us for row in catalog.gaps_between("cam-1", "main", T0 + 30 * S, T0 + 40 * S)] == [T0]
    assert [row.from_us for row in catalog.gaps_between("cam-1", "main", T0 + 900 * S, T0 + 901 * S)] == [T0 + 60 * S]


def test_states_and_looks_are_kept_once(catalog: Catalog) -> None:
    state = StreamState(
        camera_id="cam-1", stream="main", state="recording", since_us=T0, detail="", codec="avc1", epoch=1
    )
    look = Access(
        account="a", role="auditor", at_us=T0, origin="", action="clip", camera_id="cam-1", from_us=1, to_us=2,
        request_id="r", reason="case-7", result="allowed",
    )  # fmt: skip
    for _ in range(2):
        catalog.keep([("s/1", state), ("s/2", look)])
    assert catalog.counts() == {"segments": 0, "gaps": 0, "stream_states": 1, "access_log": 1, "cameras": 0}
    assert catalog.accesses()[0]["reason"] == "case-7"


def test_a_camera_is_remembered_with_its_latest_jurisdiction(catalog: Catalog) -> None:
    catalog.keep_cameras({"cam-1": "mapo", "cam-2": "mapo"})
    catalog.keep_cameras({"cam-1": "seodaemun"})
    assert catalog.cameras() == {"cam-1": "seodaemun", "cam-2": "mapo"}
