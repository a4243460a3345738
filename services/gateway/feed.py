"""Reads `alerts`, `streams` and the registry into the views, and tells who waits for a change.

Alerts have a reader of their own: nothing else may delay them (kafka.md 1.4). No group: each replica
needs everything.
"""

from collections.abc import Callable

import structlog

from services.contracts.errors import ContractError
from services.contracts.topics import ALERTS, STREAMS, devices
from services.gateway.city import City
from services.gateway.metrics import GatewayMetrics
from services.gateway.view import AlertView, Held
from services.runtime.errors import OffsetsLost
from services.runtime.kafka_port import Kafka, Reader, Record, Start
from services.runtime.service import ServiceContext

POLL_S = 0.5

log = structlog.get_logger()


async def follow_alerts(
    kafka: Kafka, view: AlertView, changed: Callable[[Held], None], context: ServiceContext, metrics: GatewayMetrics
) -> None:
    """Keep the view up; `changed` is called for each record once the log has been read to its end."""
    starts = await kafka.whole(ALERTS.name)
    for place in starts:
        view.start_at(place.partition, 0)
    async with kafka.reader(starts) as reader:
        restored = False
        while not context.stopping.is_set():
            context.beat("alerts")
            for record in await _poll(reader):
                held = _apply(record, view, metrics)
                if held is not None and restored:
                    changed(held)
            metrics.records_fenced.set(view.fenced)
            if not restored and reader.caught_up():
                restored = True
                log.info("feed.restored", alerts=len(view))
                context.ready(ready=True)


async def follow_city(kafka: Kafka, city: City, pool: str, context: ServiceContext, metrics: GatewayMetrics) -> None:
    """Keep sites, devices and stream states up."""
    starts = {**await kafka.whole(devices(pool)), **await kafka.whole(STREAMS.name, start=Start.BEGINNING)}
    async with kafka.reader(starts) as reader:
        while not context.stopping.is_set():
            context.beat("city")
            for record in await _poll(reader):
                try:
                    city.apply(record)
                except ContractError as error:
                    _refused(record, error, metrics)


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
