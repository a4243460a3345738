"""The constructed clients against the table of kafka.md 5, written out here once more by hand."""

import re
from pathlib import Path
from typing import Any

import pytest
from aiokafka.coordinator.assignors.sticky.sticky_assignor import StickyPartitionAssignor

import services
from services.runtime.clock import FakeClock
from services.runtime.kafka import AioKafka
from services.runtime.kafka.client_settings import GROUPS, PRODUCERS
from services.runtime.kafka.group import sticky_assignor
from services.runtime.kafka_port import GroupProfile, ProducerProfile

KIB, MIB = 1024, 1024 * 1024


@pytest.fixture
def kafka() -> AioKafka:
    return AioKafka("127.0.0.1:1", clock=FakeClock(), client_id="test", rack="zone-a")


@pytest.mark.parametrize(
    ("profile", "batch", "request_bytes", "credit"),
    [
        (ProducerProfile.RECORDS, 64 * KIB, 256 * KIB, MIB),
        (ProducerProfile.VIDEO, MIB, 2 * MIB, 8 * MIB),
    ],
)
async def test_a_producer_is_built_as_the_table_says(
    kafka: AioKafka, profile: ProducerProfile, batch: int, request_bytes: int, credit: int
) -> None:  # fmt: skip
    client: Any = kafka.new_producer(profile)
    assert client._sender._acks == -1
    assert client._txn_manager is None  # not idempotent
    assert client._message_accumulator._linger_time == 0
    assert client._message_accumulator._batch_size == batch
    assert client._max_request_size == request_bytes
    assert client._compression_type is None
    assert client._request_timeout_ms == 15_000
    assert (PRODUCERS[profile].credit_bytes, PRODUCERS[profile].deadline_s) == (credit, 20.0)
    await client.stop()


@pytest.mark.parametrize(("group", "patient", "wait_ms"), [
    (None, False, 100), ("alerting.commands", False, 100), (None, True, 1_000),
])  # fmt: skip
async def test_a_reader_is_built_as_the_table_says(
    kafka: AioKafka, group: str | None, patient: bool, wait_ms: int
) -> None:  # fmt: skip
    client: Any = kafka.new_reader(group, patient=patient)
    assert common(client) == (wait_ms, 1, MIB, 256 * KIB, 15_000, False, "none", True, "zone-a")
    assert client._group_id == group
    await client.stop()


@pytest.mark.parametrize(
    ("profile", "fetch", "session"),
    [
        (GroupProfile.ALERTING, (100, 1, MIB, 256 * KIB, 15_000), (3_000, 1_000, 15_000, 60_000)),
        (GroupProfile.OWNERSHIP, (100, 1, MIB, 256 * KIB, 15_000), (6_000, 1_000, 15_000, 60_000)),
        (GroupProfile.ARCHIVE_VIDEO, (250, 65_536, 8 * MIB, 2 * MIB + 64 * KIB, 30_000),
         (10_000, 3_000, 90_000, 90_000)),
        (GroupProfile.ARCHIVE_RECORDS, (250, 1, 8 * MIB, 2 * MIB + 64 * KIB, 30_000),
         (10_000, 3_000, 90_000, 90_000)),
    ],
)  # fmt: skip
async def test_a_member_is_built_as_the_table_says(
    kafka: AioKafka, profile: GroupProfile, fetch: tuple[int, ...], session: tuple[int, ...]
) -> None:  # fmt: skip
    client: Any = kafka.new_member("group", GROUPS[profile], sticky_assignor())
    assert common(client) == (*fetch, False, "none", True, "zone-a")
    assert (
        client._session_timeout_ms,
        client._heartbeat_interval_ms,
        client._rebalance_timeout_ms,
        client._max_poll_interval_ms,
    ) == session
    assert client._group_instance_id is None
    await client.stop()


def common(client: Any) -> tuple[object, ...]:
    return (
        client._fetch_max_wait_ms,
        client._fetch_min_bytes,
        client._fetch_max_bytes,
        client._max_partition_fetch_bytes,
        client._request_timeout_ms,
        client._enable_auto_commit,
        client._auto_offset_reset,
        client._check_crcs,
        client._client_rack,
    )


def test_a_broker_that_refuses_three_seconds_is_asked_for_six() -> None:
    fallback = GROUPS[GroupProfile.ALERTING].fallback()
    assert fallback is not None
    assert (fallback.session_ms, fallback.fallback()) == (6_000, None)


def test_the_service_has_answered_before_the_broker_gives_up() -> None:
    for settings in GROUPS.values():
        assert settings.revoke_s * 1000 < settings.rebalance_ms
        assert settings.assigned_s * 1000 < settings.max_poll_interval_ms


async def test_each_member_has_a_sticky_assignor_of_its_own(kafka: AioKafka) -> None:
    settings = GROUPS[GroupProfile.ALERTING]
    clients: list[Any] = [kafka.new_member("group", settings, sticky_assignor()) for _ in range(2)]
    [one], [two] = (client._partition_assignment_strategy for client in clients)
    assert issubclass(one, StickyPartitionAssignor)
    assert one is not two
    assert (one.name, one.member_assignment) == ("sticky", None)
    one.member_assignment = []
    assert two.member_assignment is None
    for client in clients:
        await client.stop()


def test_only_the_adapter_imports_aiokafka() -> None:
    root = Path(services.__file__).parent
    importing = re.compile(r"^\s*(from|import) aiokafka\b", re.MULTILINE)
    importers = {
        path.parent.relative_to(root).as_posix() for path in root.rglob("*.py") if importing.search(path.read_text())
    }
    assert importers == {"runtime/kafka"}
