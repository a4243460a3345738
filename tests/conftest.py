"""What several kinds of tests share: a real broker, once per run, where one can be had."""

import os
from collections.abc import Iterator

import pytest

from services.onebox.local_kafka import LocalKafka
from services.runtime.clock import SystemClock
from services.runtime.errors import RetryLater


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
        with LocalKafka(tmp_path_factory.mktemp("kafka"), now_us=SystemClock().now_us) as broker:
            yield broker.bootstrap
    except RetryLater as error:
        pytest.skip(f"a real broker: {error}")
