"""What the metrics of the recorder say."""

from services.contracts.topics import VIDEO
from tests.unit.archive.conftest import Rig
from tests.unit.archive.film import START_US


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
