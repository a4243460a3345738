"""Sizes that different parts hold for themselves fit each other: a unit, its chunks, records, fetches, live frames."""

from services.contracts.console import LIVE_HEADER
from services.contracts.fragment import CHUNKED_BYTES_MAX, FRAGMENT_BYTES_MAX, INIT_BYTES_MAX
from services.contracts.topics import VIDEO
from services.gateway.live_relay import FRAME_BYTES_MAX
from services.ingest import fmp4
from services.ingest.rtsp.client import SHARED_BYTES
from services.ingest.rtsp.fast_path import ROOM_BYTES, UNIT_BYTES_MAX
from services.runtime.kafka.client_settings import GROUPS, PRODUCERS
from services.runtime.kafka_port import GroupProfile, ProducerProfile


def test_what_ingest_sends_as_one_record_is_taken_by_producer_topic_and_fetch() -> None:
    producer, fetch = PRODUCERS[ProducerProfile.VIDEO], GROUPS[GroupProfile.ARCHIVE_VIDEO].fetch

    assert producer.value_bytes_max >= FRAGMENT_BYTES_MAX
    assert producer.header_bytes_max > INIT_BYTES_MAX  # the init is one of the headers
    assert producer.record_bytes_max < VIDEO.message_bytes_max <= fetch.max_partition_fetch_bytes


def test_the_longest_unit_of_a_camera_is_a_fragment_that_chunks_and_the_live_relay_take() -> None:
    # The parser looks at the unit's size once per read, so that a unit can be one read longer than its limit.
    longest = fmp4.HEADER_ROOM + UNIT_BYTES_MAX + SHARED_BYTES + ROOM_BYTES

    assert longest <= CHUNKED_BYTES_MAX
    assert longest + LIVE_HEADER.size <= FRAME_BYTES_MAX
