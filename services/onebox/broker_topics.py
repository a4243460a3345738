"""The topics of one box, as specifications for the Kafka port. The table itself is contracts/topics.py."""

from collections.abc import Sequence
from typing import Final

from services.contracts.topics import (
    DEAD_LETTER_PARTITIONS,
    MIB,
    ONE_BOX_PARTITIONS,
    TOPICS,
    VIDEO,
    dead_letter_settings,
)
from services.onebox.disk import DEAD_LETTER_BYTES, BrokerShare, broker_share
from services.runtime.kafka_port import Kafka, TopicSpec


def topic_specs(share: BrokerShare) -> Sequence[TopicSpec]:
    """Return every topic and its dead letters, with sizes that fit the broker's share of the disk."""
    specs: list[TopicSpec] = []
    for topic in TOPICS:
        settings = topic.one_box_settings(video_partition_bytes=share.video_partition_bytes)
        if topic is VIDEO:
            settings["segment.bytes"] = str(share.video_segment_bytes)
        else:
            settings["segment.bytes"] = str(share.records_segment_bytes)
            if not topic.compacted:
                settings["retention.bytes"] = str(share.records_partition_bytes)
        specs.append(TopicSpec(name=topic.name, partitions=ONE_BOX_PARTITIONS, settings=settings))
        specs.append(TopicSpec(name=topic.dead_letters, partitions=DEAD_LETTER_PARTITIONS, settings=_DEAD_LETTERS))
    return specs


_DEAD_LETTERS: Final = dead_letter_settings() | {
    "segment.bytes": str(DEAD_LETTER_BYTES),
    "segment.index.bytes": str(MIB),
    "file.delete.delay.ms": "1000",
    "retention.bytes": str(DEAD_LETTER_BYTES),
    "flush.messages": "1",
}


async def prepare_topics(kafka: Kafka, *, free_disk_bytes: int) -> None:
    """Create what is missing with the settings of one box; what exists is checked, not changed.

    Raises:
        SettingsError: a topic exists with another partition count, or the broker refuses a setting.
        RetryLater: no broker answered.
    """
    await kafka.create_topics(topic_specs(broker_share(free_disk_bytes)))
