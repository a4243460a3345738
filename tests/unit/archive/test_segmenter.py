"""Segments are cut by records alone: however the log is read, the same keys and bytes come out."""

from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from services.archive.catalog import Catalog, sqlite_url
from services.archive.lane import Lane, read
from services.archive.metrics import ArchiveMetrics
from services.archive.open_tail import Held, OpenTail
from services.archive.replay import Verdict
from services.archive.scratch import ScratchDirectory
from services.archive.segmenter import CutReason, EpochId, Segmenter
from services.archive.store.local import LocalStore
from services.archive.writer import Writer
from services.contracts.fragment import Fragment, VideoEnd, read_video_headers
from services.runtime.clock import FakeClock
from services.runtime.kafka_port import Outgoing, Place, Record
from tests.unit.archive.film import EPOCH, SECOND_US, START_US, chunk_records, end_record, fragment_record, make_film

PLACE = Place("video", 0)


def fragment(index: int, **more: Any) -> Fragment:
    facts = read_video_headers(fragment_record(make_film(), index, **more).headers)
    assert isinstance(facts, Fragment)
    return facts


def feed(segmenter: Segmenter, index: int, *, size_bytes: int = 1000, sent_us: int = 0, **more: Any) -> list[CutReason]:
    facts = fragment(index, **more)
    step = segmenter.fragment(
        facts, size_bytes=size_bytes, frames=25, init_bytes=800, recorded_us=sent_us or facts.end_us
    )
    return [cut.reason for cut in step.cuts]


def test_a_segment_ends_at_the_first_key_picture_of_the_next_minute() -> None:
    segmenter = Segmenter()
    to_minute = 60 - (START_US // SECOND_US) % 60
    reasons = [(index, reason) for index in range(70) for reason in feed(segmenter, index)]
    assert reasons == [(to_minute, CutReason.MINUTE)]


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        pytest.param({"run": 1}, CutReason.RUN, id="a new run"),
        pytest.param({"seq": 3}, CutReason.SEQ_HOLE, id="a hole in seq"),
        pytest.param({"start_us": START_US + 9 * SECOND_US}, CutReason.TIME_HOLE, id="a hole in time"),
        pytest.param({"retention_class": "long"}, CutReason.RETENTION_CLASS, id="another class"),
    ],
)
def test_a_change_closes_the_segment(more: dict[str, Any], reason: CutReason) -> None:
    segmenter = Segmenter()
    feed(segmenter, 0)
    feed(segmenter, 1)
    assert feed(segmenter, 2, **more) == [reason]


def test_size_closes_at_a_key_picture_before_the_next_gop_would_pass_16_mib() -> None:
    segmenter = Segmenter()
    assert [feed(segmenter, index, size_bytes=3_000_000) for index in range(5)] == [[], [], [], [], [CutReason.SIZE]]


def test_a_long_gop_closes_at_a_fragment_and_the_next_segment_depends_on_it() -> None:
    segmenter = Segmenter()
    feed(segmenter, 0)
    facts = fragment(1)
    for seq in range(1, 121):
        step = segmenter.fragment(
            _moved(facts, seq), size_bytes=1000, frames=25, init_bytes=800, recorded_us=START_US + seq * SECOND_US
        )
    assert [cut.reason for cut in step.cuts] == [CutReason.LONG_GOP]
    assert step.segment.dependent


def test_silence_is_measured_by_the_partition_s_record_time() -> None:
    segmenter = Segmenter()
    feed(segmenter, 0)
    minute_end = (START_US // 60_000_000 + 1) * 60_000_000
    assert segmenter.record_time(minute_end + 30_000_000) == ()
    assert [cut.reason for cut in segmenter.record_time(minute_end + 30_000_001)] == [CutReason.SILENCE]


def test_a_camera_that_drains_an_outage_is_not_cut_by_the_time_that_has_passed() -> None:
    segmenter = Segmenter()
    to_minute = 60 - (START_US // SECOND_US) % 60
    sent_us = START_US + 3600 * SECOND_US
    reasons = []
    for index in range(50):
        sent_us += 100_000
        reasons += [cut.reason for cut in segmenter.record_time(sent_us)]
        reasons += feed(segmenter, index, sent_us=sent_us)
    assert reasons == [CutReason.MINUTE] * (to_minute < 50)
    assert segmenter.record_time(sent_us + 30_000_000) == ()
    assert [cut.reason for cut in segmenter.record_time(sent_us + 30_000_001)] == [CutReason.SILENCE]


def test_a_higher_epoch_closes_the_lower_which_then_overlaps() -> None:
    segmenter = Segmenter()
    feed(segmenter, 0)
    assert feed(segmenter, 1, epoch=EPOCH + 9, seq=0) == [CutReason.HIGHER_EPOCH]
    assert feed(segmenter, 1) == []
    assert feed(segmenter, 2, epoch=EPOCH + 9, seq=1) == []
    lower = segmenter.open[EpochId("cam-1", "main", EPOCH)]
    assert lower.overlap
    assert lower.fragments == 1


def _moved(facts: Fragment, seq: int) -> Fragment:
    import msgspec

    return msgspec.structs.replace(facts, seq=seq, start_us=START_US + seq * SECOND_US, keyframe=False)


# --- the property ------------------------------------------------------------------------------


def _history() -> list[Outgoing]:
    """Return a partition's records: two cameras, a restart with overlap, a hole, runs, an end, repeats."""
    film = make_film()
    log: list[Outgoing] = []
    for index in range(100):
        if index not in (33, 34):
            log.append(fragment_record(film, index, camera_id="cam-1"))
        if index < 60:
            record = fragment_record(film, index, camera_id="cam-2", run=int(index >= 20))
            chunks = chunk_records(record, 3) if index % 7 == 3 else (record,)
            # Of second 38 the last chunk never comes; what cam-1 writes stands between the others.
            log += [*chunks[:1], *log[-1:], *chunks[1 : 2 if index == 38 else None]]
        if index == 50:
            log += log[-6:]
        if index >= 70:
            log.append(fragment_record(film, index, camera_id="cam-1", epoch=EPOCH + 7, seq=index - 70))
    log.append(end_record(seq=99, end_us=START_US + 100 * SECOND_US))
    log.append(fragment_record(film, 300, camera_id="cam-3"))
    for index in range(301, 341):
        log.append(fragment_record(film, index, camera_id="cam-3"))
        # Three old fragments of an outage for each live one, sent now.
        for old in range(3 * (index - 301), 3 * (index - 301) + 3):
            sent = fragment_record(film, old, camera_id="cam-4")
            log.append(replace(sent, timestamp_ms=log[-1].timestamp_ms + 1))
    return log


class _Process:
    """One life of archive over one partition: lanes, writer and commit without Kafka or loops."""

    def __init__(self, directory: Path, catalog: Catalog, store: LocalStore, clock: FakeClock) -> None:
        self.catalog = catalog
        self.scratch = ScratchDirectory(directory / "scratch", capacity_bytes=1 << 30, open_files_max=8)
        self.writer = Writer(
            store=store, catalog=catalog, bucket="b", guaranteed_days=0, clock=clock,
            metrics=ArchiveMetrics(CollectorRegistry()),
        )  # fmt: skip

    def read(self, log: list[Outgoing], start: int, count: int, *, store_after: int) -> int:
        """Read `count` records from `start`, storing with a delay of `store_after` segments; return the low mark."""
        lane = Lane(PLACE, start, self.scratch, OpenTail())
        offset = start
        while offset < min(len(log), start + count):
            offset = self._take(lane, log, offset)
            lane.next_offset = offset
            while len(lane.closed) > store_after:
                self._store(lane, lane.closed[0])
        low = lane.low()
        lane.discard()
        return low

    def _take(self, lane: Lane, log: list[Outgoing], offset: int) -> int:
        out = log[offset]
        record = Record(
            topic="video", partition=0, offset=offset, timestamp_ms=out.timestamp_ms, key=out.key,
            value=bytes(out.value or b""), headers=tuple(out.headers),
        )  # fmt: skip
        lane.passed(record.timestamp_ms * 1000)
        facts = read(record)
        if isinstance(facts, VideoEnd):
            lane.ended(facts)
            return offset + 1
        return self._fragment(lane, log, record, facts)

    def _fragment(self, lane: Lane, log: list[Outgoing], record: Record, facts: Fragment) -> int:
        offset = record.offset
        stream, epoch = lane.missing(facts)
        if stream:
            known = self.catalog.stream_known(facts.camera_id, facts.stream)
            lane.learn_stream(facts.camera_id, facts.stream, known)
        if epoch:
            at = EpochId(facts.camera_id, facts.stream, facts.epoch)
            lane.learn_epoch(at, self.catalog.epoch_known(at))
        verdict, track = lane.judge(facts)
        if verdict is Verdict.LOOK_AGAIN:
            track.looked_again = True
            from_ms = ((track.end_us or facts.start_us) // 1000) - 5000
            earlier = next(place for place, out in enumerate(log) if out.timestamp_ms >= from_ms)
            if earlier < offset:
                return earlier
        if verdict is not Verdict.DUPLICATE and (checked := lane.gather(record, facts)) is not None:
            lane.take(checked)
        return offset + 1

    def _store(self, lane: Lane, held: Held) -> None:
        self.writer.write(held)
        lane.drop(held)


def _objects(lives: list[tuple[int, int]]) -> dict[str, str]:
    """Return key -> SHA-256 after processes that each read so many records and were then killed."""
    log = _history()
    with TemporaryDirectory() as name:
        directory, clock = Path(name), FakeClock(START_US)
        store = LocalStore(directory / "store", clock=clock)
        catalog = Catalog(sqlite_url(directory / "catalog.sqlite"))
        catalog.migrate()
        low = 0
        for count, delay in [*lives, (len(log), 0)]:
            low = _Process(directory, catalog, store, clock).read(log, low, count, store_after=delay)
        rows = [
            segment
            for camera_id in ("cam-1", "cam-2", "cam-3", "cam-4")
            for segment in catalog.segments_between(camera_id, "main", 0, START_US + 1000 * SECOND_US)
        ]
        versions = store.list_versions("v1/")
        assert {head.key for head in versions if "init" not in head.key} == {row.key for row in rows}
        catalog.close()
        return {row.key: row.sha256 for row in rows}


_WHOLE: list[dict[str, str]] = []


@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(st.tuples(st.integers(1, 120), st.integers(0, 3)), max_size=4))
def test_any_cut_of_the_log_into_lives_gives_the_same_keys_and_bytes(lives: list[tuple[int, int]]) -> None:
    if not _WHOLE:
        _WHOLE.append(_objects([]))
    assert _objects(lives) == _WHOLE[0]
    assert len(_WHOLE[0]) >= 7
    assert 1 <= sum("cam-4" in key for key in _WHOLE[0]) <= 2
