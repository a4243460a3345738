"""Recorded time and gaps tile the time a camera was to be recorded; every gap has its cause."""

import pytest

from services.contracts.gap import Gap, GapCause, GapClosed, gap_id
from services.ingest.gap_ledger import GapLedger, Lost, side_of
from services.ingest.media_types import EndDetail, Hole, RetryHint, SessionEnd

BEGUN_US = 1_777_640_000_000_000
SECOND_US = 1_000_000


@pytest.fixture
def ledger() -> GapLedger:
    return GapLedger("cam-1", "main", writer="ingest-0", begun_us=BEGUN_US)


def ended(cause: GapCause | None = "device_offline", detail: EndDetail = EndDetail.STALL) -> SessionEnd:
    return SessionEnd(
        cause=cause, detail=detail, retry=RetryHint.NORMAL, rtsp_status=200, error_number=None, first_seq=None,
        last_seq=7, last_unit_us=BEGUN_US + SECOND_US, last_end_us=BEGUN_US + SECOND_US, evidence={},
    )  # fmt: skip


def lost(from_s: float, to_s: float, cause: GapCause = "kafka_unavailable") -> Lost:
    return Lost(
        from_us=BEGUN_US + round(from_s * SECOND_US), to_us=BEGUN_US + round(to_s * SECOND_US), size_bytes=100,
        cause=cause, detail="buffer_full",
    )  # fmt: skip


def span(gap: Gap) -> tuple[float, float | None]:
    to_s = None if gap.to_us is None else (gap.to_us - BEGUN_US) / SECOND_US
    return (gap.from_us - BEGUN_US) / SECOND_US, to_s


def test_a_gap_opens_where_the_footage_ends_and_closes_where_it_goes_on(ledger: GapLedger) -> None:
    assert ledger.footage(BEGUN_US, BEGUN_US + SECOND_US, BEGUN_US) == []
    (opened,) = ledger.session_ended(ended(), BEGUN_US + 4 * SECOND_US)
    (closed,) = ledger.footage(BEGUN_US + 9 * SECOND_US, BEGUN_US + 10 * SECOND_US, BEGUN_US + 10 * SECOND_US)

    assert (span(opened), span(closed)) == ((1.0, None), (1.0, 9.0))
    assert isinstance(closed, GapClosed)
    assert opened.gap_id == closed.gap_id == gap_id("cam-1", "main", opened.from_us)
    assert (closed.cause, closed.detail, closed.side) == ("device_offline", "stall", "device")
    assert closed.evidence["last_seq"] == 7


def test_a_camera_that_never_came_up_is_a_gap_from_the_beginning(ledger: GapLedger) -> None:
    (opened,) = ledger.session_ended(ended(detail=EndDetail.REFUSED), BEGUN_US + SECOND_US)

    assert span(opened) == (0.0, None)


def test_while_a_gap_is_open_its_first_cause_is_the_cause(ledger: GapLedger) -> None:
    ledger.session_ended(ended(detail=EndDetail.STALL), BEGUN_US)

    assert ledger.session_ended(ended(detail=EndDetail.REFUSED), BEGUN_US + SECOND_US) == []


def test_a_session_that_was_asked_to_end_opens_no_gap(ledger: GapLedger) -> None:
    assert ledger.session_ended(ended(None, EndDetail.REQUESTED), BEGUN_US) == []


def test_a_hole_inside_a_session_is_opened_and_closed_at_once(ledger: GapLedger) -> None:
    hole = Hole(
        from_us=BEGUN_US, to_us=BEGUN_US + SECOND_US, cause="network_loss", detail=EndDetail.TCP_BACKPRESSURE,
        evidence={"count": 3},
    )  # fmt: skip

    opened, closed = ledger.hole(hole, BEGUN_US + SECOND_US)

    assert (span(opened), span(closed)) == ((0.0, None), (0.0, 1.0))
    assert closed.side == "ours"


def test_footage_given_up_in_a_row_is_one_gap_with_its_sum(ledger: GapLedger) -> None:
    (opened,) = ledger.lost(lost(0, 1), BEGUN_US)
    assert ledger.lost(lost(1, 2), BEGUN_US) == []
    (closed,) = ledger.lost_over(BEGUN_US + 3 * SECOND_US)

    assert (span(opened), span(closed)) == ((0.0, None), (0.0, 2.0))
    assert closed.evidence == {"fragments": 2, "bytes": 200}


def test_footage_given_up_elsewhere_or_for_another_cause_is_another_gap(ledger: GapLedger) -> None:
    ledger.lost(lost(0, 1), BEGUN_US)
    elsewhere = ledger.lost(lost(5, 6), BEGUN_US)
    another = ledger.lost(lost(6, 7, "disk_full"), BEGUN_US)

    assert [span(gap) for gap in elsewhere] == [(0.0, 1.0), (5.0, None)]
    assert [span(gap) for gap in another] == [(5.0, 6.0), (6.0, None)]


def test_a_stop_closes_what_is_open_and_has_a_gap_of_its_own(ledger: GapLedger) -> None:
    ledger.session_ended(ended(), BEGUN_US + SECOND_US)
    ledger.lost(lost(0, 1), BEGUN_US)

    records = ledger.stopped(BEGUN_US + 5 * SECOND_US, "ingest_restart", "restart")

    assert [span(gap) for gap in records] == [(0.0, 5.0), (0.0, 1.0), (5.0, None)]
    assert (records[-1].cause, records[-1].side) == ("ingest_restart", "ours")


def test_what_follows_a_stop_begins_where_the_footage_ends(ledger: GapLedger) -> None:
    ledger.footage(BEGUN_US, BEGUN_US + SECOND_US, BEGUN_US)

    (opened,) = ledger.stopped(BEGUN_US + 3 * SECOND_US, "operator_stop", "disabled")

    assert (span(opened), opened.cause, opened.detail) == ((1.0, None), "operator_stop", "disabled")


def test_where_somebody_else_records_nothing_is_missing(ledger: GapLedger) -> None:
    ledger.session_ended(ended(), BEGUN_US)

    assert [span(gap) for gap in ledger.stopped(BEGUN_US + SECOND_US, None, "")] == [(0.0, 1.0)]


@pytest.mark.parametrize(
    ("cause", "detail", "side"),
    [
        ("device_offline", "stall", "device"),
        ("network_loss", "rtp_loss", "device"),
        ("network_loss", "tcp_backpressure", "ours"),
        ("kafka_unavailable", "buffer_full", "ours"),
        ("disk_full", "reserve_reached", "ours"),
        ("stream_error", "bad_bitstream", "device"),
    ],
)
def test_each_cause_has_a_side(cause: GapCause, detail: str, side: str) -> None:
    assert side_of(cause, detail) == side
