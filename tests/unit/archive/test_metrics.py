"""No metric is defined that nobody sets."""

from pathlib import Path

from prometheus_client import CollectorRegistry

from services import archive
from services.archive.metrics import ArchiveMetrics
from services.contracts.topics import VIDEO
from tests.unit.archive.conftest import Rig
from tests.unit.archive.film import START_US


def test_every_metric_is_set_somewhere() -> None:
    files = (path for path in Path(archive.__path__[0]).rglob("*.py") if path.name != "metrics.py")
    code = "\n".join(path.read_text(encoding="utf-8") for path in files)
    names = vars(ArchiveMetrics(CollectorRegistry()))
    assert {name for name in names if f"metrics.{name}." not in code} == set()


async def test_lag_is_the_age_of_what_was_read_last_while_more_waits(rig: Rig) -> None:
    await rig.film(range(4))
    async with rig.recording() as recorder:
        await rig.until(lambda: len(rig.tail) == 1)
        assert rig.metric("recorder_lag_seconds") == 0
        rig.free_bytes = 0
        await rig.until(lambda: rig.metric("recorder_held_partitions") == 2)
        await rig.film(range(4, 8))
        place = next(record.place for record in rig.kafka.records(VIDEO.name))
        rig.consumer.ends = {place: 8}
        await rig.turn(100)
        await rig.until(lambda: rig.metric("recorder_lag_records") == 4)
        age_s = (rig.clock.now_us() - START_US) / 1e6 - 4
        assert rig.metric("recorder_lag_seconds") > 100
        assert abs(rig.metric("recorder_lag_seconds") - age_s) <= 1.5
        assert recorder.status()["below_disk_reserve"] is True
