import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from services.contracts.claim import Claim
from services.contracts.codec import encode
from services.contracts.topics import CLAIMS
from services.runtime.claims import ClaimsLog
from services.runtime.clock import FakeClock, settle
from services.runtime.errors import PoisonMessage, RetryLater
from services.runtime.kafka_port import Outgoing, Place, ProducerProfile, TopicSpec
from services.runtime.memory_kafka import MemoryKafka
from services.runtime.metrics import REGISTRY

KEY = "camera-1"


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
async def kafka(clock: FakeClock) -> MemoryKafka:
    kafka = MemoryKafka(clock=clock)
    await kafka.create_topics([TopicSpec(name=CLAIMS.name, partitions=4, settings={})])
    return kafka


@pytest.fixture
async def claims(kafka: MemoryKafka, clock: FakeClock) -> AsyncIterator[ClaimsLog]:
    async with ClaimsLog(kafka, clock).open() as log:
        await log.caught_up()
        yield log


def foreign(epoch: int, claim_id: str = "foreign") -> Claim:
    return Claim(key=KEY, epoch=epoch, owner="other", claim_id=claim_id, live_url=None, started_us=epoch)


async def write(kafka: MemoryKafka, claim: Claim | None) -> None:
    value = None if claim is None else encode(claim)
    async with kafka.producer(ProducerProfile.RECORDS) as producer:
        await producer.send(Outgoing(topic=CLAIMS.name, key=KEY, value=value, headers=(), timestamp_ms=0))


async def test_the_first_claim_of_a_key_has_the_time_as_its_epoch(claims: ClaimsLog, clock: FakeClock) -> None:
    claim = await claims.claim(KEY, owner="ingest-0", live_url="ws://127.0.0.1:8082/api/v1/live")
    assert claim.epoch == clock.now_us()
    assert claims.current(KEY) == claim
    assert not claims.superseded(claim)


async def test_what_is_no_claim_is_counted_and_leaves_the_claim_that_stands(
    claims: ClaimsLog, kafka: MemoryKafka
) -> None:
    before = REGISTRY.get_sample_value("safealley_claims_unreadable_total")
    claim = await claims.claim(KEY, owner="ingest-0", live_url=None)
    async with kafka.producer(ProducerProfile.RECORDS) as producer:
        await producer.send(Outgoing(topic=CLAIMS.name, key=KEY, value=b'{"x": 1}', headers=(), timestamp_ms=0))
    await settle()

    assert before is not None
    assert REGISTRY.get_sample_value("safealley_claims_unreadable_total") == before + 1
    assert claims.current(KEY) == claim


async def test_a_claim_is_higher_than_one_from_a_clock_ahead(
    claims: ClaimsLog, kafka: MemoryKafka, clock: FakeClock
) -> None:  # fmt: skip
    await write(kafka, foreign(clock.now_us() + 5_000_000))
    await settle()
    claim = await claims.claim(KEY, owner="ingest-0", live_url=None)
    assert claim.epoch == clock.now_us() + 5_000_001


async def test_a_higher_claim_fences_and_a_lower_one_does_not(claims: ClaimsLog, kafka: MemoryKafka) -> None:
    claim = await claims.claim(KEY, owner="ingest-0", live_url=None)
    await write(kafka, foreign(claim.epoch - 1, "lower"))
    await write(kafka, foreign(claim.epoch, "equal, but later in the log"))
    await settle()
    assert not claims.superseded(claim)
    await write(kafka, foreign(claim.epoch + 1))
    await settle()
    assert claims.superseded(claim)
    assert claims.current(KEY) == foreign(claim.epoch + 1)


async def test_a_claim_overtaken_before_it_stood_in_the_log_is_made_again(
    kafka: MemoryKafka, clock: FakeClock
) -> None:  # fmt: skip
    async with ClaimsLog(kafka, clock).open() as claims:
        await claims.caught_up()
        overtaking = foreign(clock.now_us() + 100)
        # Written without letting the reader run, so that `claim` cannot know of it.
        kafka.append(Outgoing(topic=CLAIMS.name, key=KEY, value=encode(overtaking), headers=(), timestamp_ms=0))
        claim = await claims.claim(KEY, owner="ingest-0", live_url=None)
    assert claim.epoch == overtaking.epoch + 1
    assert len(kafka.records(CLAIMS.name)) == 3


async def test_two_processes_that_claim_at_once_end_with_different_epochs(
    kafka: MemoryKafka, clock: FakeClock
) -> None:  # fmt: skip
    async with ClaimsLog(kafka, clock).open() as one, ClaimsLog(kafka, clock).open() as two:
        await one.caught_up()
        await two.caught_up()
        first, second = await asyncio.gather(
            one.claim(KEY, owner="a", live_url=None), two.claim(KEY, owner="b", live_url=None)
        )
        await settle()
        assert first.epoch != second.epoch
        assert one.current(KEY) == two.current(KEY)
        assert one.superseded(first) != two.superseded(second)


async def test_a_lost_acknowledgement_makes_two_records_and_one_claim(claims: ClaimsLog, kafka: MemoryKafka) -> None:
    kafka.lose_next_acknowledgement()
    claim = await claims.claim(KEY, owner="ingest-0", live_url=None)
    await settle()
    assert len(kafka.records(CLAIMS.name)) == 2
    assert claims.current(KEY) == claim
    assert not claims.superseded(claim)


async def test_changes_are_told_once_each(claims: ClaimsLog, kafka: MemoryKafka) -> None:
    heard: list[Claim] = []
    claims.on_change(heard.append)
    claim = await claims.claim(KEY, owner="ingest-0", live_url=None)
    await write(kafka, claim)
    await write(kafka, foreign(claim.epoch - 1))
    await settle()
    assert heard == [claim]


async def test_without_kafka_it_opens_and_refuses_claims_until_the_log_is_read(
    kafka: MemoryKafka, clock: FakeClock
) -> None:  # fmt: skip
    kafka.away = True
    async with ClaimsLog(kafka, clock).open() as claims:
        await settle()
        with pytest.raises(RetryLater):
            await claims.claim(KEY, owner="ingest-0", live_url=None)
        kafka.away = False
        await clock.advance(10)
        await claims.caught_up()
        await claims.claim(KEY, owner="ingest-0", live_url=None)


async def test_an_epoch_rises_across_a_log_that_went_back(claims: ClaimsLog, kafka: MemoryKafka) -> None:
    first = await claims.claim(KEY, owner="ingest-0", live_url=None)
    for partition in range(4):
        kafka.truncate(Place(CLAIMS.name, partition), 0)
    await settle()
    second = await claims.claim(KEY, owner="ingest-0", live_url=None)
    assert second.epoch > first.epoch


async def test_a_process_that_stood_still_reads_all_claims_anew(
    claims: ClaimsLog, kafka: MemoryKafka, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, read = kafka.whole, 0

    async def counted(*topics: str) -> Any:
        nonlocal read
        read += 1
        return await whole(*topics)

    monkeypatch.setattr(kafka, "whole", counted)
    await clock.advance(1)
    assert read == 0
    clock._elapsed_us += 60_000_000  # stopped and resumed: time went on, nobody ran
    await clock.advance(1)
    assert read == 1
    await claims.caught_up()


async def test_an_unreadable_claim_is_passed_over(claims: ClaimsLog, kafka: MemoryKafka) -> None:
    kafka.append(Outgoing(topic=CLAIMS.name, key=KEY, value=b"{", headers=(), timestamp_ms=0))
    claim = await claims.claim(KEY, owner="ingest-0", live_url=None)
    assert claims.current(KEY) == claim


async def test_a_tombstone_forgets_the_key(claims: ClaimsLog, kafka: MemoryKafka) -> None:
    await claims.claim(KEY, owner="ingest-0", live_url=None)
    await write(kafka, None)
    await settle()
    assert claims.current(KEY) is None


async def test_a_mistake_in_a_callback_ends_the_one_who_opened(kafka: MemoryKafka, clock: FakeClock) -> None:
    def broken(claim: Claim) -> None:
        raise PoisonMessage(claim.key)

    claims = ClaimsLog(kafka, clock)
    claims.on_change(broken)

    async def opened() -> None:
        async with claims.open():
            await write(kafka, foreign(1))
            await asyncio.Event().wait()

    with pytest.raises(PoisonMessage):
        await opened()
