from pathlib import Path

import pytest

from services.onebox.local_kafka import LocalKafka, cluster_id, properties
from services.runtime.clock import FakeClock


def settings() -> dict[str, str]:
    lines = properties(Path("/box/kafka/data"), port=9092, controller_port=9093).splitlines()
    return dict(line.split("=", 1) for line in lines)


def test_the_broker_listens_on_loopback_alone() -> None:
    assert settings()["listeners"] == "PLAINTEXT://127.0.0.1:9092,CONTROLLER://127.0.0.1:9093"


def test_the_scheduler_runs_or_else_no_video_would_ever_be_flushed() -> None:
    assert settings()["log.flush.scheduler.interval.ms"] == "500"
    assert settings()["log.initial.task.delay.ms"] == "1000"


def test_retention_is_looked_at_every_five_seconds() -> None:
    assert settings()["log.retention.check.interval.ms"] == "5000"


def test_nobody_creates_a_topic_by_writing_to_it() -> None:
    assert settings()["auto.create.topics.enable"] == "false"


def test_a_cluster_id_is_sixteen_bytes_that_no_option_parser_takes_for_an_option() -> None:
    ids = {cluster_id() for _ in range(200)}
    assert len(ids) == 200
    assert all(len(text) == 22 and not text.startswith("-") for text in ids)


def test_a_broker_that_never_started_has_no_address(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="no address before its first start"):
        _ = LocalKafka(tmp_path, now_us=FakeClock().now_us).bootstrap
