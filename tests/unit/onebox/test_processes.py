from pathlib import Path

from services.onebox.processes import BoundedLog


def test_a_log_and_its_older_half_stay_below_the_limit(tmp_path: Path) -> None:
    log = BoundedLog(tmp_path / "log" / "broker.log", bytes_max=1000)
    for _ in range(1000):
        log.write(b"0123456789\n")
    log.close()
    assert sum(file.stat().st_size for file in (tmp_path / "log").iterdir()) <= 1000


def test_a_log_goes_on_where_the_run_before_it_ended(tmp_path: Path) -> None:
    for line in (b"first\n", b"second\n"):
        log = BoundedLog(tmp_path / "broker.log")
        log.write(line)
        log.close()
    assert (tmp_path / "broker.log").read_bytes() == b"first\nsecond\n"
