"""Alerting on a real broker: the story of a press, restarts, two members, and how long a press takes."""

import asyncio
import statistics
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from services.alerting import app
from services.alerting.metrics import AlertingMetrics
from services.alerting.settings import AlertingSettings
from services.contracts import codec
from services.contracts.alarm import AlarmRaised, Condition, DeviceAtReceipt
from services.contracts.alert import Alert, AlertEvent, PartitionFence
from services.contracts.command import OperatorCommand, Target
from services.contracts.envelope import Envelope
from services.contracts.topics import ALARMS, ALERT_EVENTS, ALERTS, ONE_BOX_PARTITIONS, OPERATOR_COMMANDS, TOPICS
from services.runtime.clock import SystemClock
from services.runtime.errors import StoppedEarly
from services.runtime.kafka import AioKafka
from services.runtime.kafka_port import Outgoing, Place, Producer, ProducerProfile, Reader, Record, Start, TopicSpec
from services.runtime.service import ServiceContext

CLOCK = SystemClock()
DEADLINE_S = 40.0
PRESSES = 50


@dataclass
class Member:
    """One process of alerting, as far as a test needs one."""

    name: str
    context: ServiceContext
    metrics: AlertingMetrics
    task: "asyncio.Task[None]"

    def partitions(self) -> dict[str, dict[str, Any]]:
        found: dict[str, dict[str, Any]] = self.context.report()["alerting"]["partitions"]
        return found

    async def serves(self, count: int) -> None:
        await until(lambda: self.task.done() or self.serving() == count)
        assert not self.task.done(), self.task.exception()

    def serving(self) -> int:
        return sum(one["serving"] for one in self.partitions().values()) if self.context.readiness()[0] else -1

    async def stop(self) -> None:
        self.context.stopping.set()
        await asyncio.wait((self.task,), timeout=DEADLINE_S)
        self.task.result()

    async def kill(self) -> None:
        """End it as far as that is possible inside this process: nothing is drained."""
        self.task.cancel()
        await asyncio.wait((self.task,), timeout=DEADLINE_S)


@dataclass
class Cluster:
    """What stands beside alerting: who presses, who commands, and who reads along."""

    bootstrap: str
    producer: Producer
    reader: Reader
    site: str = field(default_factory=lambda: f"site-{uuid.uuid4().hex[:8]}")
    records: list[Record] = field(default_factory=list)
    alerts: dict[str, Alert] = field(default_factory=dict)
    events: list[tuple[Envelope, AlertEvent]] = field(default_factory=list)
    seen_ns: dict[str, int] = field(default_factory=dict)

    def start(self, name: str) -> Member:
        context = ServiceContext("alerting", clock=CLOCK)
        metrics = AlertingMetrics(CollectorRegistry())
        kafka = AioKafka(self.bootstrap, clock=CLOCK, client_id=name)
        run = app.run(AlertingSettings(name=name), kafka, context, metrics)
        return Member(name, context, metrics, asyncio.create_task(run, name=name))

    async def press(self, bell: str, event_id: str, *, site: str | None = None) -> None:
        root, now_us = site or self.site, CLOCK.now_us()
        body = AlarmRaised(
            alarm_class="bell", condition=Condition(topic="tns1:Device/Trigger/DigitalInput", active=True),
            device=DeviceAtReceipt(device_id=bell, site_id=root, jurisdiction="11440", lon=126.9, lat=37.5),
            device_time_us=now_us, clock_offset_ms=0, offline_period="none", status="Actual", via="http",
            received_us=now_us,
        )  # fmt: skip
        source = f"/city/11440/bells/{bell}"
        await self.send(ALARMS.name, root, body, Envelope(id=event_id, source=source, type=AlarmRaised.TYPE))

    async def command(self, alert: Alert, verb: Any) -> None:
        body = {"decision_version": alert.decision_version, **({"code": "Mistaken"} if verb == "dispose" else {})}
        command = OperatorCommand(
            command_id=str(uuid.uuid4()), actor="op-kim", role="operator", jurisdiction="11440", verb=verb,
            target=Target(kind="alert", id=alert.alert_id), body=body, body_sha256="0" * 64,
            decision_version=alert.decision_version, idempotency_key=str(uuid.uuid4()), issued_us=CLOCK.now_us(),
        )  # fmt: skip
        envelope = Envelope(id=command.command_id, source="/services/gateway-0", type=OperatorCommand.TYPE)
        await self.send(OPERATOR_COMMANDS.name, alert.root, command, envelope)

    async def send(self, topic: str, key: str, body: Any, envelope: Envelope) -> None:
        record = Outgoing(
            topic=topic, key=key, value=codec.encode(body), headers=envelope.to_headers(),
            timestamp_ms=CLOCK.now_us() // 1000,
        )  # fmt: skip
        await self.producer.send(record)

    async def read(self) -> None:
        """Read along, for ever."""
        while True:
            for record in await self.reader.poll(timeout_s=0.2):
                self.records.append(record)
                if record.value is None:
                    continue
                envelope, body = codec.decode_event(record.headers, record.value)
                if isinstance(body, Alert):
                    self.seen_ns.setdefault(f"{body.device.device_id}/{body.version}", CLOCK.monotonic_ns())
                    self.alerts[body.device.device_id] = body
                elif isinstance(body, AlertEvent):
                    self.events.append((envelope, body))

    async def alert(self, bell: str, condition: Callable[[Alert], bool] = lambda _: True) -> Alert:
        await until(lambda: bell in self.alerts and condition(self.alerts[bell]))
        return self.alerts[bell]

    def history(self, alert: Alert) -> list[str]:
        told = {envelope.id: f"{body.change} {body.state}" for envelope, body in self.events
                if body.alert_id == alert.alert_id}  # fmt: skip
        return list(told.values())

    def fences(self) -> list[tuple[int, int]]:
        """Return partition and epoch of each fence in `alerts`, in the order of the log."""
        found = []
        for record in self.records:
            if record.topic == ALERTS.name and record.value is not None:
                envelope, body = codec.decode_event(record.headers, record.value)
                if isinstance(body, PartitionFence):
                    found.append((body.partition, envelope.epoch or 0))
        return found


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while not condition():  # noqa: ASYNC110 - what is waited for happens in a broker
            await asyncio.sleep(0.02)


@pytest.fixture
async def cluster(kafka_bootstrap: str) -> AsyncIterator[Cluster]:
    kafka = AioKafka(kafka_bootstrap, clock=CLOCK, client_id="test")
    specs = [TopicSpec(name=one.dead_letters, partitions=ONE_BOX_PARTITIONS, settings={}) for one in TOPICS]
    for topic in TOPICS:
        settings = topic.one_box_settings(video_partition_bytes=64 << 20)
        specs.append(TopicSpec(name=topic.name, partitions=ONE_BOX_PARTITIONS, settings=settings))
    await kafka.create_topics(specs)
    starts: dict[Place, int | Start] = dict(await kafka.whole(ALERTS.name, ALERT_EVENTS.name, start=Start.END))
    async with kafka.producer(ProducerProfile.RECORDS) as producer, kafka.reader(starts) as reader:
        made = Cluster(kafka_bootstrap, producer, reader)
        reading = asyncio.create_task(made.read())
        yield made
        reading.cancel()
        await asyncio.wait((reading,))


@asynccontextmanager
async def running(cluster: Cluster, *names: str) -> AsyncIterator[list[Member]]:
    """Run members until the block ends; the first serves all before the second starts."""
    members: list[Member] = []
    async with AsyncExitStack() as stack:
        for name in names:
            member = cluster.start(name)
            stack.push_async_callback(member.kill)
            members.append(member)
            await until(lambda m=member: m.task.done() or m.context.readiness()[0])  # type: ignore[misc]
        yield members
        for member in members:
            if not member.task.done():
                await member.stop()


@pytest.mark.timeout(180)
async def test_press_alert_acknowledge_dispose_and_a_restart_that_knows_all_of_it(cluster: Cluster) -> None:
    async with running(cluster, "alerting-0") as (member,):
        await member.serves(ONE_BOX_PARTITIONS)
        await cluster.press("bell-a", "p-1")
        released = await cluster.alert("bell-a", lambda one: one.isa.state == "RTN_UNACK")
        await cluster.command(released, "ack")
        acked = await cluster.alert("bell-a", lambda one: one.isa.state == "ACKED")
        await cluster.command(acked, "dispose")
        closed = await cluster.alert("bell-a", lambda one: one.isa.state == "NORMAL")
        await cluster.press("bell-b", "p-2")
        await cluster.alert("bell-b")
    story = ["created UNACK", "cleared RTN_UNACK", "acked ACKED", "dispositioned NORMAL"]
    await until(lambda: cluster.history(closed) == story)

    async with running(cluster, "alerting-0") as (member,):
        await member.serves(ONE_BOX_PARTITIONS)
        other = await cluster.alert("bell-b", lambda one: one.isa.state == "RTN_UNACK")
        await cluster.press("bell-a", "p-1")
        await until(lambda: member.metrics.alarms.labels("bell", "seen_before")._value.get() == 1)
        await cluster.command(other, "ack")
        await cluster.alert("bell-b", lambda one: one.isa.state == "ACKED")
    assert cluster.history(closed) == story
    assert [change for change, *_ in (one.split() for one in cluster.history(other))] == ["created", "cleared", "acked"]


@pytest.mark.timeout(240)
async def test_two_members_share_the_partitions_and_the_later_owner_fences_the_earlier(cluster: Cluster) -> None:
    """Presses on sixteen sites; a second member joins, the first dies; every alert can still be answered."""
    sites = [f"{cluster.site}-{number}" for number in range(16)]
    async with running(cluster, "alerting-0") as (first,):
        await first.serves(ONE_BOX_PARTITIONS)
        for site in sites:
            await cluster.press(f"bell-{site}", "p-1", site=site)
        for site in sites:
            await cluster.alert(f"bell-{site}", lambda one: not one.isa.active)
        second = cluster.start("alerting-1")
        try:
            await until(lambda: first.serving() == second.serving() == ONE_BOX_PARTITIONS // 2)
            assert sorted([*first.partitions(), *second.partitions()]) == [str(n) for n in range(ONE_BOX_PARTITIONS)]
            moved = {int(index): one["epoch"] for index, one in second.partitions().items()}
            for site in sites[::2]:
                await cluster.command(cluster.alerts[f"bell-{site}"], "ack")
            for site in sites[::2]:
                await cluster.alert(f"bell-{site}", lambda one: one.isa.acked)
            await first.kill()
            await second.serves(ONE_BOX_PARTITIONS)
            for site in sites[1::2]:
                await cluster.command(cluster.alerts[f"bell-{site}"], "ack")
            for site in sites[1::2]:
                await cluster.alert(f"bell-{site}", lambda one: one.isa.acked)
            await cluster.press(f"bell-new-{cluster.site}", "p-1", site=sites[0])
            await cluster.alert(f"bell-new-{cluster.site}")
        finally:
            await second.stop()
    epochs: dict[int, list[int]] = {}
    for partition, epoch in cluster.fences():
        epochs.setdefault(partition, []).append(epoch)
    assert all(values == sorted(set(values)) for values in epochs.values())
    assert all(epochs[partition][-1] == epoch for partition, epoch in moved.items())
    for site in sites:
        alert = cluster.alerts[f"bell-{site}"]
        await until(lambda one=alert: cluster.history(one) == [  # type: ignore[misc]
            "created UNACK", "cleared RTN_UNACK", "acked ACKED"])  # fmt: skip


@pytest.mark.timeout(120)
async def test_how_long_a_press_takes_to_its_alert(cluster: Cluster, capsys: pytest.CaptureFixture[str]) -> None:
    """Printed, not asserted: the machine is shared. From the send to the record at a reader of `alerts`."""
    async with running(cluster, "alerting-0") as (member,):
        await member.serves(ONE_BOX_PARTITIONS)
        took_ms = []
        for number in range(PRESSES):
            bell = f"bell-{number}-{cluster.site}"
            begun_ns = CLOCK.monotonic_ns()
            await cluster.press(bell, f"p-{number}")
            await cluster.alert(bell)
            took_ms.append((cluster.seen_ns[f"{bell}/1"] - begun_ns) / 1e6)
    quantiles = statistics.quantiles(took_ms, n=100)
    with capsys.disabled():
        said = f"p50 {quantiles[49]:.1f} ms, p99 {quantiles[98]:.1f} ms"
        print(f"\npress to alert over {PRESSES} presses: {said}")  # noqa: T201 - the figure is what this test is for


async def test_a_start_without_a_broker_waits_and_can_be_stopped() -> None:
    context = ServiceContext("alerting", clock=CLOCK)
    kafka = AioKafka("127.0.0.1:9", clock=CLOCK, client_id="nobody")
    task = asyncio.create_task(app.run(AlertingSettings(), kafka, context, AlertingMetrics(CollectorRegistry())))
    await until(lambda: "Kafka" in context.readiness()[1])
    assert not task.done()
    context.stopping.set()
    await asyncio.wait((task,), timeout=10)
    with pytest.raises(StoppedEarly):
        task.result()
