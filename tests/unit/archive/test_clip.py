"""A clip shows exactly the range that was asked for and changes no coded byte."""

import io
import tracemalloc
from pathlib import Path

import av
import pytest

from services.archive import boxes, clip
from services.archive.clip import Cutting, Piece
from services.runtime.errors import RetryLater
from tests.unit.archive.film import SECOND_US, START_US, Film, coded_bytes, make_film


@pytest.mark.parametrize(
    ("codec", "b_frames"),
    [
        pytest.param("libx264", 0, id="H.264"),
        pytest.param("libx264", 2, id="H.264 with B-frames"),
        pytest.param("libx265", 2, id="H.265 with B-frames"),
    ],
)
@pytest.mark.parametrize(
    ("begin", "end"), [pytest.param(2.31, 5.81, id="off GOP and frame"), pytest.param(2.0, 4.0, id="whole GOP")]
)
def test_exactly_the_range_and_every_byte(codec: str, b_frames: int, begin: float, end: float, tmp_path: Path) -> None:
    film = make_film(codec=codec, b_frames=b_frames)
    whole, target = film.whole, tmp_path / "clip.mp4"
    offset = len(film.init) + sum(map(len, film.fragments[:2]))
    contained = clip.cut(
        Cutting(
            init=film.init,
            pieces=[Piece(read=lambda at, size: whole[at : at + size], from_offset=offset, to_offset=len(whole))],
            timescale=boxes.timescale(memoryview(film.init)),
            from_us=START_US + round(begin * SECOND_US),
            to_us=START_US + round(end * SECOND_US),
            first_us=START_US + 2 * SECOND_US,
        ),
        target,
    )
    assert contained.from_us == START_US + 2 * SECOND_US
    assert contained.to_us >= START_US + round(end * SECOND_US)
    taken, source = coded_bytes(str(target)), coded_bytes(io.BytesIO(whole))
    assert taken == source[50 : 50 + len(taken)]
    with av.open(str(target)) as container:
        stream = container.streams.video[0]
        assert stream.duration is not None
        assert stream.time_base is not None
        assert float(stream.duration * stream.time_base) == pytest.approx(end - begin, abs=1e-4)
        shown = [frame.pts for frame in container.decode(stream) if frame.pts is not None and frame.pts >= 0]
    assert len(shown) == pytest.approx((end - begin) * 25, abs=1)


def cutting(film: Film, *, seconds: int) -> Cutting:
    whole = film.whole
    return Cutting(
        init=film.init,
        pieces=[Piece(read=lambda at, size: whole[at : at + size], from_offset=len(film.init), to_offset=len(whole))],
        timescale=boxes.timescale(memoryview(film.init)),
        from_us=START_US,
        to_us=START_US + seconds * SECOND_US,
        first_us=START_US,
    )


def test_a_full_disk_is_no_fault_of_the_footage() -> None:
    with pytest.raises(RetryLater, match="no room"):
        clip.cut(cutting(make_film(), seconds=8), Path("/dev/full"))


def test_a_long_clip_is_made_in_the_memory_of_a_few_chunks(tmp_path: Path) -> None:
    film = make_film(seconds=60, gop_s=4)
    wanted = cutting(film, seconds=60)
    target = tmp_path / "clip.mp4"
    tracemalloc.start()
    try:
        made = clip.cut(wanted, target)
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert made.size_bytes == target.stat().st_size
    assert len(film.whole) * 0.9 < made.size_bytes < wanted.size_bytes
    assert peak_bytes < 2.5 * clip.READ_BYTES < len(film.whole)


def test_the_trailing_index_leads_to_every_key_picture() -> None:
    keys = [boxes.KeyPlace(0, 800), boxes.KeyPlace(180_000, 5_000_000_000)]
    data = memoryview(boxes.mfra(1, keys))
    assert boxes.mfra_bytes(data[-boxes.MFRO_BYTES :]) == len(data)
    assert list(boxes.read_mfra(data)) == keys
