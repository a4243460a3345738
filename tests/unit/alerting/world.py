"""A cluster in memory and alerting on it; the cluster outlives the process."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from prometheus_client import CollectorRegistry

from services.alerting import app
from services.alerting.metrics import AlertingMetrics
from services.alerting.settings import AlertingSettings
from services.contracts import codec
from services.contracts.alarm import AlarmRaised
from services.contracts.alert import Alert, AlertEvent
from services.contracts.command import OperatorCommand, Receipt
from services.contracts.envelope import Envelope
from services.contracts.topics import TOPICS
from services.runtime.clock import FakeClock, settle
from services.runtime.kafka_port import Outgoing, TopicSpec
from services.runtime.memory_kafka import MemoryKafka
from services.runtime.service import ServiceContext
from tests.unit.alerting.alarms import alarm

PARTITIONS = 2
TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


@dataclass
class World:
    """A cluster that outlives the process of alerting, and the process."""

    clock: FakeClock = field(default_factory=FakeClock)
    kafka: MemoryKafka = field(init=False)
    metrics: AlertingMetrics = field(init=False)
    context: ServiceContext = field(init=False)

    def __post_init__(self) -> None:
        self.kafka = MemoryKafka(clock=self.clock)

    async def create(self) -> None:
        names = [name for topic in TOPICS for name in (topic.name, topic.dead_letters)]
        await self.kafka.create_topics([TopicSpec(name=name, partitions=PARTITIONS, settings={}) for name in names])

    @asynccontextmanager
    async def running(self, kafka: Any = None) -> AsyncIterator[ServiceContext]:
        """Run alerting; leaving the block stops it in good order."""
        task = self.start(kafka)
        try:
            await self.until(lambda: self.context.readiness()[0] or task.done())
            yield self.context
            self.context.stopping.set()
            await self.until(task.done)
            task.result()
        finally:
            task.cancel()
            await self.until(task.done, step_s=0.5)

    def start(self, kafka: Any = None) -> asyncio.Task[None]:
        self.context = ServiceContext("alerting", clock=self.clock)
        self.metrics = AlertingMetrics(CollectorRegistry())
        return asyncio.create_task(app.run(AlertingSettings(), kafka or self.kafka, self.context, self.metrics))

    async def until(self, condition: Any, *, step_s: float = 0.01, steps: int = 400) -> None:
        for _ in range(steps):
            await settle(5)
            if condition():
                return
            await self.clock.advance(step_s)
        raise AssertionError("it did not come to be")

    def press(
        self, event_id: str, *, root: str = "mangwon", body: AlarmRaised | None = None, source: str = "bell-1"
    ) -> None:
        said = body or alarm(at_us=self.clock.now_us())
        envelope = Envelope(
            id=event_id,
            source=f"/city/11440/bells/{source}",
            type=type(said).TYPE,
            partitionkey=root,
            traceparent=TRACE,
        )
        self.put("alarms", root, codec.encode(said), envelope)

    def say(self, body: OperatorCommand | Receipt, *, root: str = "mangwon", event_id: str = "r-1") -> None:
        name = body.command_id if isinstance(body, OperatorCommand) else event_id
        envelope = Envelope(id=name, source="/services/gateway-0", type=type(body).TYPE, correlationid=name)
        self.put("operator-commands", root, codec.encode(body), envelope)

    def put(self, topic: str, key: str, value: bytes | None, envelope: Envelope) -> None:
        now_ms = self.clock.now_us() // 1000
        self.kafka.append(
            Outgoing(topic=topic, key=key, value=value, headers=envelope.to_headers(), timestamp_ms=now_ms)
        )

    def alerts(self) -> list[Alert]:
        """Every state ever written, in order."""
        return [body for _, body in self.decoded("alerts") if isinstance(body, Alert)]

    def newest(self) -> dict[str, Alert]:
        return {one.alert_id: one for one in self.alerts()}

    def events(self) -> list[tuple[Envelope, AlertEvent]]:
        return [(envelope, body) for envelope, body in self.decoded("alert-events") if isinstance(body, AlertEvent)]

    def history(self) -> list[str]:
        """Return the distinct events as `change state`: a replay writes the same ids."""
        seen = {envelope.id: f"{body.change} {body.state}" for envelope, body in self.events()}
        return list(seen.values())

    def decoded(self, topic: str) -> list[tuple[Envelope, Any]]:
        return [tuple(codec.decode_event(one.headers, one.value)) for one in self._valued(topic)]  # type: ignore[misc]

    def _valued(self, topic: str) -> list[Any]:
        return [one for one in self.kafka.records(topic) if one.value]

    async def alert(self, condition: Any = lambda _: True) -> Alert:
        """Wait until the newest state of the newest alert is so."""
        await self.until(lambda: self.alerts() and condition(self.alerts()[-1]))
        return self.alerts()[-1]


async def a_world() -> World:
    made = World()
    await made.create()
    return made
