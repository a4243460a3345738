"""What several kinds of tests share: a real broker, once per run, where one can be had."""

import importlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def kafka_bootstrap(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Give the address of a real Kafka broker, started for this run.

    SAFEALLEY_TEST_KAFKA names a broker that runs already.
    """
    running = os.environ.get("SAFEALLEY_TEST_KAFKA")
    if running:
        yield running
        return
    try:
        local_kafka = importlib.import_module("services.onebox.local_kafka")
    except ImportError:
        pytest.skip("a real broker: services.onebox.local_kafka is not there")
    directory: Path = tmp_path_factory.mktemp("kafka")
    with local_kafka.LocalKafka(directory) as broker:
        yield broker.bootstrap
