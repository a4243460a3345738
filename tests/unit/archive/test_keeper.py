"""What Kafka does to the keeper ends nothing."""

import asyncio
from concurrent.futures import ThreadPoolExecutor

from services.archive.alarms import SystemAlarms
from services.archive.keeper import RETRY_S, TOPICS, Keeper
from services.contracts.topics import AUDIT, STREAMS
from services.runtime.dead_letter import DeadLetters
from services.runtime.errors import RetryLater
from services.runtime.kafka_port import GroupProfile, Outgoing, ProducerProfile, TopicSpec
from tests.unit.archive.conftest import FaultyConsumer, Rig

GROUP = "archive.records"


async def test_a_broker_that_does_not_say_where_the_log_begins_is_asked_again_once_a_second(rig: Rig) -> None:
    names = (STREAMS.name, STREAMS.dead_letters, AUDIT.name)
    await rig.kafka.create_topics([TopicSpec(name=name, partitions=1, settings={}) for name in names])
    await rig.send(Outgoing(topic=STREAMS.name, key="cam-1", value=b"?", headers=(), timestamp_ms=1))
    stopping = asyncio.Event()
    with ThreadPoolExecutor(1) as pool:
        async with rig.kafka.producer(ProducerProfile.RECORDS) as producer:
            keeper = Keeper(
                catalog=rig.catalog,
                pool=pool,
                alarms=SystemAlarms(producer, clock=rig.clock, name="archive-0"),
                dead_letters=DeadLetters(producer, clock=rig.clock, version="0", limits=None),
                clock=rig.clock,
                metrics=rig.metrics,
            )
            async with rig.kafka.group(GROUP, TOPICS, GroupProfile.ARCHIVE_RECORDS, keeper) as inner:
                consumer = FaultyConsumer(inner)
                consumer.poll_errors = [RetryLater("beginning_offsets: TimeoutError")] * 3
                running = asyncio.create_task(keeper.run(consumer, stopping, lambda: None))
                await rig.turn(0)
                assert len(consumer.poll_errors) == 2
                await rig.turn(RETRY_S)
                assert len(consumer.poll_errors) == 1
                await rig.until(lambda: sum(rig.kafka.committed(GROUP).values()) == 1)
                stopping.set()
                await rig.turn()
                await running
