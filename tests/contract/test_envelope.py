"""CloudEvents binary mode: what is written is read, and bad headers are named."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.contracts.envelope import Envelope, from_rfc3339, rfc3339
from services.contracts.epoch import next_epoch
from services.contracts.errors import MalformedMessage
from services.contracts.topics import BY_ROOT, TOPICS, VIDEO

text = st.text(min_size=1, max_size=40)


@given(id=text, source=text, causationid=st.none() | text, epoch=st.none() | st.integers(1, 2**53))
def test_an_envelope_survives_its_headers(id: str, source: str, causationid: str | None, epoch: int | None) -> None:  # noqa: A002 - CloudEvents names it so
    envelope = Envelope(id=id, source=source, type="t", causationid=causationid, epoch=epoch)

    assert Envelope.from_headers(envelope.to_headers()) == envelope


@pytest.mark.parametrize("name", ["ce_id", "ce_source", "ce_type", "ce_specversion"])
def test_a_missing_attribute_is_named(name: str) -> None:
    headers = Envelope(id="1", source="/s", type="t").to_headers()

    with pytest.raises(MalformedMessage, match=name):
        Envelope.from_headers(tuple(header for header in headers if header[0] != name))


@given(st.integers(0, 4_102_444_800_000_000))
def test_an_instant_survives_its_text(instant_us: int) -> None:
    assert from_rfc3339(rfc3339(instant_us)) == instant_us


def test_a_time_without_a_zone_is_refused() -> None:
    with pytest.raises(MalformedMessage, match="zone"):
        from_rfc3339("2026-05-01T12:00:00")


@given(st.integers(1, 2**52), st.none() | st.integers(1, 2**52))
def test_a_later_claim_is_always_higher(now_us: int, highest: int | None) -> None:
    assert next_epoch(now_us, highest) > (highest or 0)


def test_topics_of_one_root_have_equal_partitions() -> None:
    assert len({topic.city_partitions for topic in BY_ROOT}) == 1


def test_on_one_box_every_topic_but_video_is_flushed_at_each_message() -> None:
    settings = {topic.name: topic.one_box_settings(video_partition_bytes=1) for topic in TOPICS}

    assert all(("flush.messages" in kept) == (name != VIDEO.name) for name, kept in settings.items())
    assert settings["video"]["flush.ms"] == "1000"
