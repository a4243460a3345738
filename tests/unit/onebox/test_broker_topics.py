from services.contracts.topics import BY_ROOT, TOPICS, VIDEO
from services.onebox.broker_topics import topic_specs
from services.onebox.disk import GIB, broker_share

SPECS = {spec.name: spec for spec in topic_specs(broker_share(80 * GIB))}


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


def test_every_partition_has_a_small_index() -> None:
    assert {spec.settings["segment.index.bytes"] for spec in SPECS.values()} == {str(1024 * 1024)}
