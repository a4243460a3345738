from services.contracts.topics import BY_ROOT, TOPICS, VIDEO
from services.onebox.broker_topics import topic_specs
from services.onebox.disk import BROKER_OWN_BYTES, GIB, broker_share

SHARE = broker_share(80 * GIB)
SPECS = {spec.name: spec for spec in topic_specs(SHARE)}


def test_every_topic_has_its_dead_letters() -> None:
    assert set(SPECS) == {name for topic in TOPICS for name in (topic.name, topic.dead_letters)}


def test_topics_of_one_root_have_equal_partition_counts() -> None:
    assert len({SPECS[topic.name].partitions for topic in BY_ROOT}) == 1


def test_a_power_cut_loses_no_record_but_at_most_a_second_of_video() -> None:
    for topic in TOPICS:
        settings = SPECS[topic.name].settings
        assert settings.get("flush.messages") == (None if topic is VIDEO else "1")
    assert SPECS[VIDEO.name].settings["flush.ms"] == "1000"


def test_no_deleted_topic_grows_without_a_limit_in_bytes() -> None:
    for spec in SPECS.values():
        assert spec.settings["cleanup.policy"] == "compact" or int(spec.settings["retention.bytes"]) > 0


def test_what_is_said_to_be_at_most_is_the_limits_of_the_topics_that_have_one() -> None:
    limits = [
        spec.partitions * (int(spec.settings["retention.bytes"]) + int(spec.settings["segment.bytes"]))
        for spec in SPECS.values()
        if spec.settings["cleanup.policy"] == "delete"
    ]
    assert SHARE.video_bytes_max + SHARE.records_bytes_max == sum(limits) + BROKER_OWN_BYTES


def test_of_what_has_no_limit_kafka_may_drop_the_old_after_a_minute() -> None:
    unlimited = [spec for spec in SPECS.values() if "retention.bytes" not in spec.settings]
    assert {spec.name for spec in unlimited} == {topic.name for topic in TOPICS if topic.compacted}
    assert {spec.settings["min.compaction.lag.ms"] for spec in unlimited} == {"60000"}
    assert {int(spec.settings["segment.bytes"]) for spec in unlimited} == {SHARE.records_segment_bytes}


def test_every_partition_has_a_small_index() -> None:
    assert {spec.settings["segment.index.bytes"] for spec in SPECS.values()} == {str(1024 * 1024)}
