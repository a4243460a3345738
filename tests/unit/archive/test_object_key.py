"""A key tells the identity of its segment, and nothing else fits it."""

import pytest

from services.archive.object_key import SegmentName, read_segment_key, segment_key
from services.contracts.epoch import RunId
from services.contracts.errors import MalformedMessage

NAME = SegmentName(
    run=RunId("cam-1", "main", 1_777_639_995_000_000, 2), seq0=7, seq1=66, start_us=1_777_640_000_000_000, dur_ms=60_000
)


def test_the_key_is_read_back() -> None:
    for stream in ("main", "sub"):
        name = SegmentName(run=NAME.run._replace(stream=stream), seq0=7, seq1=66, start_us=NAME.start_us, dur_ms=60_000)
        assert read_segment_key(segment_key(name)) == name


def test_the_level_of_the_sub_stream_has_its_name() -> None:
    key = segment_key(NAME)
    assert "/cam-1/2026-05-01/12/1777640000000000-60000-1777639995000000-0002-00000007-00000066.mp4" in key


@pytest.mark.parametrize("damage", ["2026-05-01/13", "2026-05-02/12", "cam-2"])
def test_a_key_whose_parts_contradict_each_other_is_refused(damage: str) -> None:
    key = segment_key(NAME)
    broken = key.replace("cam-1", damage) if damage == "cam-2" else key.replace("2026-05-01/12", damage)
    with pytest.raises(MalformedMessage):
        read_segment_key(broken)
