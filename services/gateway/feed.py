"""Reads `alerts` and `streams` into the views, and tells who waits for a change.

Alerts have a reader of their own: nothing else may delay them (kafka.md 1.4). No group: each replica
needs everything.
"""

import asyncio
from collections.abc import Awaitable, Callable
from random import Random
from typing import Final

import structlog

from services.contracts.errors import ContractError
from services.contracts.topics import ALERTS, STREAMS
from services.gateway.city import City
from services.gateway.metrics import GatewayMetrics
from services.gateway.view import AlertView, Held
from services.runtime.errors import OffsetsLost, PoisonMessage, RetryLater
from services.runtime.kafka_port import Kafka, Place, Reader, Record, Start
from services.runtime.retry import BackOff
from services.runtime.service import ServiceContext

POLL_S: Final = 0.5
BACK_OFF: Final = BackOff(first_s=0.5, most_s=5.0)
RECOVERED_NS: Final = 60_000_000_000
"""A follower that went on this long had recovered: its next failure is a first one."""
STALE_S: Final = 60.0
"""Opening a reader without a broker takes 30 s."""

log = structlog.get_logger()


async def follow_alerts(
    kafka: Kafka, view: AlertView, changed: Callable[[Held], None], context: ServiceContext, metrics: GatewayMetrics,
    *, restored: asyncio.Event,
) -> None:  # fmt: skip
    """Keep the view up; `changed` is called for each record once the log has been read to its end.

    A failure of Kafka is waited out, and the reading goes on where it stood.
    """
    positions: dict[Place, int | Start] = {}

    async def follow() -> None:
        whole = await kafka.whole(ALERTS.name)
        for place in whole:
            view.start_at(place.partition, 0)
        async with kafka.reader({**whole, **positions}) as reader:
            while not context.stopping.is_set():
                context.beat("alerts")
                if not restored.is_set() and reader.caught_up():
                    log.info("feed.restored", alerts=len(view))
                    restored.set()
                for record in await _poll(reader):
                    held = _apply(record, view, metrics)
                    if held is not None and restored.is_set():
                        changed(held)
                positions.update(reader.positions())
                metrics.records_fenced.set(view.fenced)

    await _kept_up("alerts", follow, context)


async def follow_streams(kafka: Kafka, city: City, context: ServiceContext, metrics: GatewayMetrics) -> None:
    """Keep stream states up; a failure of Kafka is waited out."""

    async def follow() -> None:
        async with kafka.reader(await kafka.whole(STREAMS.name)) as reader:
            while not context.stopping.is_set():
                context.beat("streams")
                for record in await _poll(reader):
                    try:
                        city.apply(record)
                    except ContractError as error:
                        _refused(record, error, metrics)

    await _kept_up("streams", follow, context)


async def _kept_up(name: str, follow: Callable[[], Awaitable[None]], context: ServiceContext) -> None:
    """Follow until the service stops, again after each failure of Kafka or of a topic without a leader."""
    random = Random()  # noqa: S311 - jitter is no secret
    attempt = 0
    while not context.stopping.is_set():
        begun_ns = context.clock.monotonic_ns()
        try:
            await follow()
        except (RetryLater, PoisonMessage) as error:
            at_once = context.clock.monotonic_ns() - begun_ns < RECOVERED_NS
            attempt = attempt + 1 if at_once else 1
            log.warning("feed.waits", feed=name, attempt=attempt, reason=str(error))
            # Alive, and waiting: a restart would bring nothing sooner.
            context.beat(name, stale_s=STALE_S)
            await context.clock.sleep(BACK_OFF.wait_s(attempt, random))


async def _poll(reader: Reader) -> list[Record]:
    try:
        return list(await reader.poll(timeout_s=POLL_S))
    except OffsetsLost as error:
        # A compacted topic began later than we stood: the reader goes on at its beginning.
        log.warning("feed.offsets_lost", topic=error.topic, partition=error.partition)
        return []


def _apply(record: Record, view: AlertView, metrics: GatewayMetrics) -> Held | None:
    try:
        return view.apply(record)
    except ContractError as error:
        _refused(record, error, metrics)
        return None


def _refused(record: Record, error: ContractError, metrics: GatewayMetrics) -> None:
    metrics.records_refused.labels(record.topic.split(".")[0]).inc()
    log.error(
        "feed.record_refused", topic=record.topic, partition=record.partition, offset=record.offset, reason=str(error)
    )
