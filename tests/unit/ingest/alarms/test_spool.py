"""What is on the press spool is there after kill -9 and a power cut; what is torn was never acknowledged."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from services.ingest.alarms.spool import AlarmSpool, SpoolFull
from services.runtime.errors import SettingsError
from services.runtime.kafka_port import Outgoing

CAPACITY_BYTES = 4096


def press(number: int, value: bytes = b"{}") -> Outgoing:
    return Outgoing(
        topic="alarms", key="mapo-01", value=value, headers=(("ce_id", b"%d" % number),), timestamp_ms=1_000 + number
    )


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ingest" / "presses.spool"


@pytest.fixture
def spool(path: Path) -> Iterator[AlarmSpool]:
    opened = AlarmSpool.open(path, capacity_bytes=CAPACITY_BYTES)
    yield opened
    opened.close()


def reopened(spool: AlarmSpool, path: Path) -> AlarmSpool:
    """Open the file as a process does that starts after this one was killed."""
    spool.close()
    return AlarmSpool.open(path, capacity_bytes=CAPACITY_BYTES)


def drained(spool: AlarmSpool) -> list[Outgoing]:
    found = []
    while (record := spool.first()) is not None:
        found.append(record)
        spool.sent()
    return found


@pytest.fixture
def keep_open() -> Iterator[list[AlarmSpool]]:
    kept: list[AlarmSpool] = []
    yield kept
    for spool in kept:
        spool.close()


def test_the_file_is_allocated_whole_at_start(spool: AlarmSpool, path: Path) -> None:
    assert path.stat().st_size == CAPACITY_BYTES
    assert path.stat().st_blocks * 512 >= CAPACITY_BYTES
    assert spool.statistics().waiting == 0


def test_records_survive_a_kill_and_come_back_in_order(path: Path, keep_open: list[AlarmSpool]) -> None:
    spool = AlarmSpool.open(path, capacity_bytes=CAPACITY_BYTES)
    for number in range(3):
        spool.append(press(number))

    again = reopened(spool, path)
    keep_open.append(again)

    assert drained(again) == [press(0), press(1), press(2)]


def test_a_torn_tail_is_cut_and_the_next_record_takes_its_place(path: Path, keep_open: list[AlarmSpool]) -> None:
    spool = AlarmSpool.open(path, capacity_bytes=CAPACITY_BYTES)
    spool.append(press(0))
    whole = spool.statistics().used_bytes
    spool.append(press(1))
    spool.close()
    with path.open("r+b") as file:
        file.seek(whole + 5)
        file.write(b"\xff" * 8)

    again = AlarmSpool.open(path, capacity_bytes=CAPACITY_BYTES)
    again.append(press(2))
    last = reopened(again, path)
    keep_open.append(last)

    assert drained(last) == [press(0), press(2)]


def test_a_rotten_record_is_counted_and_those_behind_it_are_kept(path: Path, keep_open: list[AlarmSpool]) -> None:
    spool = AlarmSpool.open(path, capacity_bytes=CAPACITY_BYTES)
    spool.append(press(0))
    end = spool.statistics().used_bytes
    spool.append(press(1))
    spool.close()
    with path.open("r+b") as file:
        file.seek(end - 1)
        file.write(b"\xff")

    again = AlarmSpool.open(path, capacity_bytes=CAPACITY_BYTES)
    keep_open.append(again)

    assert again.statistics().corrupt == 1
    assert drained(again) == [press(1)]


def damaged(path: Path, numbers: range, at: Callable[[list[int]], int]) -> AlarmSpool:
    """Return the spool as it opens after one bit of a line has flipped; `at` is told where each record begins."""
    spool = AlarmSpool.open(path, capacity_bytes=CAPACITY_BYTES)
    begins = []
    for number in numbers:
        begins.append(spool.statistics().used_bytes)
        spool.append(press(number))
    spool.close()
    place = at(begins)
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)
    return AlarmSpool.open(path, capacity_bytes=CAPACITY_BYTES)


@pytest.mark.parametrize("byte", range(24))
@pytest.mark.parametrize("record", [0, 2])
def test_a_flipped_bit_in_a_head_loses_its_own_record_alone(
    path: Path, keep_open: list[AlarmSpool], record: int, byte: int
) -> None:
    with capture_logs() as logs:
        spool = damaged(path, range(5), lambda begins: begins[record] + byte)
    keep_open.append(spool)

    assert spool.statistics().corrupt == 1
    assert [(line["event"], line["log_level"]) for line in logs] == [("spool.presses_lost", "error")]
    assert drained(spool) == [press(number) for number in range(5) if number != record]


def test_the_last_record_damaged_is_told_as_a_torn_tail(path: Path, keep_open: list[AlarmSpool]) -> None:
    """The two look the same."""
    with capture_logs() as logs:
        spool = damaged(path, range(5), lambda begins: begins[4] + 30)
    keep_open.append(spool)

    assert spool.statistics().corrupt == 0
    assert [(line["event"], line["log_level"]) for line in logs] == [("spool.torn_tail", "warning")]
    assert drained(spool) == [press(number) for number in range(4)]


@pytest.mark.parametrize("byte", range(24))
def test_what_an_older_line_left_is_not_sent_again_when_the_new_one_is_damaged(
    path: Path, keep_open: list[AlarmSpool], byte: int
) -> None:
    older = AlarmSpool.open(path, capacity_bytes=CAPACITY_BYTES)
    for number in range(10):
        older.append(press(number))
    drained(older)
    older.close()
    spool = damaged(path, range(20, 23), lambda begins: begins[0] + byte)
    keep_open.append(spool)

    assert drained(spool) == [press(21), press(22)]


def test_an_end_that_is_whole_is_no_news(path: Path, keep_open: list[AlarmSpool]) -> None:
    spool = AlarmSpool.open(path, capacity_bytes=CAPACITY_BYTES)
    spool.append(press(0))
    with capture_logs() as logs:
        keep_open.append(reopened(spool, path))

    assert logs == []


def test_sent_records_do_not_come_back(path: Path, keep_open: list[AlarmSpool]) -> None:
    spool = AlarmSpool.open(path, capacity_bytes=CAPACITY_BYTES)
    for number in range(3):
        spool.append(press(number))
    drained(spool)
    spool.append(press(9))

    again = reopened(spool, path)
    keep_open.append(again)

    assert drained(again) == [press(9)]


def test_a_full_spool_says_so_and_keeps_what_it_has(spool: AlarmSpool) -> None:
    spool.append(press(0, b"x" * 3000))

    with pytest.raises(SpoolFull, match="full"):
        spool.append(press(1, b"x" * 3000))

    assert spool.statistics().waiting == 1


def test_room_comes_back_when_all_is_sent(spool: AlarmSpool) -> None:
    for number in range(10):
        spool.append(press(number, b"x" * 3000))
        drained(spool)

    assert spool.statistics().used_bytes == 0


def test_a_second_process_is_refused(spool: AlarmSpool, path: Path) -> None:
    with pytest.raises(SettingsError, match="another ingest holds the press spool"):
        AlarmSpool.open(path, capacity_bytes=CAPACITY_BYTES)

    assert spool.statistics().waiting == 0
