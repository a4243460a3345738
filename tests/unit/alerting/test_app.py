"""The whole service on the in-memory Kafka: what stands in the topics after a press, a command, a crash."""

from services.contracts import codec
from services.contracts.alarm import AlarmCleared, AlarmRaised
from services.contracts.alert import Alert, PartitionFence
from services.contracts.claim import Claim
from services.contracts.command import Receipt, ReceiptItem
from services.contracts.device import Device
from services.contracts.envelope import Envelope
from services.contracts.topics import TOPICS
from services.runtime.clock import settle
from services.runtime.kafka_port import Outgoing, Placed, TopicSpec
from tests.unit.alerting.alarms import alarm, command, device
from tests.unit.alerting.world import PARTITIONS, TRACE, World


async def test_a_press_becomes_an_alert_that_clears_itself_and_waits_for_an_answer(world: World) -> None:
    async with world.running():
        world.press("p-1")
        created = await world.alert()
        assert (created.isa.state, created.priority, created.code112, created.version) == ("UNACK", "emergency", 1, 1)
        cleared = await world.alert(lambda one: one.isa.state == "RTN_UNACK")
        assert (cleared.version, cleared.decision_version) == (2, 1)
    assert world.history() == ["created UNACK", "cleared RTN_UNACK"]
    assert world.events()[1][1].actor == "rule:momentary"


async def test_a_momentary_bell_clears_one_second_after_its_press_and_no_sooner(world: World) -> None:
    async with world.running():
        world.press("p-1")
        await world.alert()
        pressed_us = world.alerts()[-1].received_us
        await world.clock.advance((pressed_us + 999_000 - world.clock.now_us()) / 1e6)
        await settle(50)
        assert world.history() == ["created UNACK"]
        await world.clock.advance(0.002)
        await world.alert(lambda one: not one.isa.active)


async def test_press_acknowledge_dispose_and_a_second_press_makes_a_new_alert(world: World) -> None:
    async with world.running():
        world.press("p-1")
        first = await world.alert(lambda one: one.isa.state == "RTN_UNACK")
        world.say(command(first, "ack"))
        acked = await world.alert(lambda one: one.isa.state == "ACKED")
        assert (acked.people.assignee, acked.people.acked_by) == ("op-kim", "op-kim")
        world.say(command(acked, "dispose"))
        closed = await world.alert(lambda one: one.isa.state == "NORMAL")
        assert closed.disposition is not None
        assert closed.closed_us is not None
        world.press("p-2")
        second = await world.alert(lambda one: one.alert_id != first.alert_id)
        assert second.isa.state == "UNACK"
    assert world.history()[:4] == ["created UNACK", "cleared RTN_UNACK", "acked ACKED", "dispositioned NORMAL"]


async def test_the_answer_to_a_command_is_the_record_it_caused(world: World) -> None:
    async with world.running():
        world.press("p-1")
        alert = await world.alert()
        world.say(command(alert, "ack", command_id="c-77"))
        await world.alert(lambda one: one.isa.state == "ACKED")
    envelope, body = next(one for one in world.decoded("alerts") if one[0].causationid == "c-77")
    assert body.commands[-1].result == "applied"
    assert envelope.correlationid == "c-77"


async def test_every_record_carries_the_epoch_its_cause_and_the_trace(world: World) -> None:
    async with world.running():
        world.press("p-1")
        await world.alert()
    (event, body), *_ = world.events()
    state, alert = next(one for one in world.decoded("alerts") if isinstance(one[1], Alert))
    claims = {body.key: body for _, body in world.decoded("claims") if isinstance(body, Claim)}
    place = next(one for one in world.kafka.records("alerts") if one.key == alert.alert_id)
    assert event.epoch == state.epoch == claims[f"alerts/{place.partition}"].epoch
    assert (event.causationid, event.traceparent) == (state.causationid, state.traceparent) == ("p-1", TRACE)
    assert event.id == state.id == f"{alert.alert_id}/1"
    assert (event.partitionkey, body.reason) == ("mangwon", "new_occurrence")


async def test_the_event_stands_before_the_alert_and_the_fence_before_both(world: World) -> None:
    order: list[str] = []
    append = world.kafka.append

    def watched(record: Outgoing) -> Placed:
        order.append(f"{record.topic}:{'fence' if record.key.startswith('fence/') else 'body'}")
        return append(record)

    world.kafka.append = watched  # type: ignore[method-assign]
    async with world.running():
        assert [one for one in order if one.startswith("alert")] == ["alert-events:fence", "alert-events:fence",
                                                                     "alerts:fence", "alerts:fence"]  # fmt: skip
        order.clear()
        world.press("p-1")
        await world.alert()
        assert order == ["alarms:body", "alert-events:body", "alerts:body"]


async def test_a_repeated_alarm_is_dropped_also_after_a_restart_and_after_its_disposal(world: World) -> None:
    async with world.running():
        world.press("p-1")
        alert = await world.alert(lambda one: one.isa.state == "RTN_UNACK")
        world.say(command(alert, "ack"))
        acked = await world.alert(lambda one: one.isa.state == "ACKED")
        world.say(command(acked, "dispose"))
        await world.alert(lambda one: one.isa.state == "NORMAL")
    history = world.history()
    async with world.running():
        world.press("p-1")
        await world.until(lambda: world.metrics.alarms.labels("bell", "seen_before")._value.get() == 1)
    assert world.history() == history


async def test_a_restart_restores_the_state_and_its_timers(world: World) -> None:
    async with world.running():
        world.press("p-1")
        await world.alert()
    assert world.history() == ["created UNACK"]
    async with world.running():
        cleared = await world.alert(lambda one: not one.isa.active)
        assert cleared.version == 2
        assert len(world.newest()) == 1


async def test_a_command_answered_before_a_crash_is_not_answered_twice(world: World) -> None:
    async with world.running():
        world.press("p-1")
        alert = await world.alert(lambda one: one.isa.state == "RTN_UNACK")
        world.say(command(alert, "ack"))
        await world.alert(lambda one: one.isa.state == "ACKED")
    for place in list(world.kafka.offsets("alerting.commands")):
        del world.kafka.offsets("alerting.commands")[place]
    states = len(world.alerts())
    async with world.running():
        await world.until(lambda: world.metrics.commands.labels("ack", "replayed")._value.get() == 1)
    assert len(world.alerts()) == states


async def test_a_higher_claim_stops_the_writer_at_once(world: World) -> None:
    async with world.running():
        world.press("p-1")
        alert = await world.alert(lambda one: one.isa.state == "RTN_UNACK")
        for partition in range(PARTITIONS):
            claim = Claim(key=f"alerts/{partition}", epoch=world.clock.now_us() + 10**9, owner="other",
 claim_id=f"x{partition}",                           live_url=None, started_us=world.clock.now_us())  # fmt: skip
            world.put(
                "claims", claim.key, codec.encode(claim), Envelope(id=claim.claim_id, source="/x", type=Claim.TYPE)
            )
        await world.until(lambda: world.metrics.superseded._value.get() == PARTITIONS)
        written = len(world.alerts())
        world.say(command(alert, "ack"))
        await world.clock.advance(2)
        assert len(world.alerts()) == written
    async with world.running():
        await world.alert(lambda one: one.isa.state == "ACKED")


async def test_a_state_that_a_former_owner_writes_behind_us_is_written_over(world: World) -> None:
    async with world.running():
        world.press("p-1")
        ours = await world.alert(lambda one: one.isa.state == "RTN_UNACK")
        stale = next(one for one in world.kafka.records("alerts") if one.key == ours.alert_id)
        headers = tuple((name, b"5" if name == "ce_epoch" else value) for name, value in stale.headers)
        world.kafka.append(Outgoing(topic="alerts", key=ours.alert_id, value=stale.value, headers=headers,
                                    timestamp_ms=stale.timestamp_ms, partition=stale.partition))  # fmt: skip
        await world.until(lambda: world.alerts()[-1] == ours and len(world.alerts()) == 4)
        assert world.metrics.rewritten._value.get() == 1


async def test_what_does_not_keep_its_contract_goes_to_the_dead_letters_and_holds_up_nothing(world: World) -> None:
    async with world.running():
        world.put("alarms", "mangwon", b"{", Envelope(id="bad", source="/x", type=AlarmRaised.TYPE))
        world.put("alarms", "mangwon", None, Envelope(id="none", source="/x", type=AlarmRaised.TYPE))
        world.put("alarms", "mangwon", b"{}", Envelope(id="new", source="/x", type="kr.safealley.alarm.raised.v9"))
        world.press("p-1")
        await world.alert()
    assert len(world.kafka.records("alarms.dlq")) == 3
    assert sum(world.kafka.committed("alerting").values()) == 4


async def test_a_press_behind_any_number_of_unreadable_records_is_an_alert(world: World) -> None:
    async with world.running():
        for number in range(25):
            world.put("alarms", "mangwon", b"{", Envelope(id=f"bad-{number}", source="/x", type=AlarmRaised.TYPE))
        world.press("p-1")
        await world.alert()
    assert len(world.kafka.records("alarms.dlq")) == 25


async def test_offsets_that_are_gone_are_counted_told_and_read_from_the_beginning(world: World) -> None:
    async with world.running():
        world.press("p-1")
        await world.alert(lambda one: not one.isa.active)
    place = next(place for place, at in world.kafka.committed("alerting").items() if at == 1)
    world.press("p-2", body=alarm(at_us=world.clock.now_us(), topic="tns1:Device/Trigger/Other"))
    world.press("p-3", body=alarm(at_us=world.clock.now_us(), topic="tns1:Device/Trigger/Third"))
    world.kafka.drop_before(place, 2)
    async with world.running():
        await world.until(lambda: len(world.newest()) == 3)
        system = next(one for one in world.newest().values() if one.site_id == "system")
        assert (system.priority, system.condition.value) == ("high", {"token": f"alarms/{place.partition}", "lost": 1})


async def test_the_first_receipts_change_the_alert_and_each_is_an_event(world: World) -> None:
    async with world.running():
        world.press("p-1")
        alert = await world.alert(lambda one: not one.isa.active)
        for console in ("c-1", "c-2"):
            items = tuple(
                ReceiptItem(
                    tx=f"t-{console}", alert_id=alert.alert_id, version=1, kind=kind, at_us=7 if console == "c-1" else 8
                )
                for kind in ("delivered", "painted", "sounded")
            )
            world.say(Receipt(console_id=console, actor="op-kim", items=items), event_id=console)
        await world.until(lambda: len(world.events()) == 8)
        newest = world.alerts()[-1]
        assert (newest.first_painted_us, newest.first_sounded_us) == (7, 7)
        assert (newest.version, newest.decision_version) == (4, 1)
        assert len(world.alerts()) == 4


async def test_the_cameras_of_the_registry_are_the_evidence(world: World) -> None:
    for name, lat, sees in (("cam-near", 37.5562, ()), ("cam-sees", 37.5570, ("bell-1",)), ("cam-far", 37.6561, ())):
        camera = Device(
            device_id=name, kind="camera", site_id="mangwon", jurisdiction="11440", lon=126.9023, lat=lat, sees=sees
        )
        world.put("devices.main", name, codec.encode(camera), Envelope(id=name, source="/registry", type=Device.TYPE))
    async with world.running() as context:
        await world.until(lambda: context.report()["alerting"]["cameras"] == 3)
        world.press("p-1")
        alert = await world.alert()
        assert [(one.camera_id, one.rank) for one in alert.evidence] == [("cam-sees", 1), ("cam-near", 2)]
        assert (alert.received_us - alert.evidence[0].from_us, alert.evidence[0].to_us - alert.received_us) == (
            30_000_000, 300_000_000)  # fmt: skip


async def test_without_a_registry_the_press_is_an_alert_all_the_same() -> None:
    bare = World()
    names = [name for topic in TOPICS for name in (topic.name, topic.dead_letters) if topic.name != "devices.main"]
    await bare.kafka.create_topics([TopicSpec(name=name, partitions=PARTITIONS, settings={}) for name in names])
    async with bare.running():
        bare.press("p-1")
        assert (await bare.alert()).evidence == ()


async def test_the_status_names_partitions_epochs_and_what_is_active(world: World) -> None:
    async with world.running() as context:
        world.press("p-1")
        await world.alert()
        partitions = context.report()["alerting"]["partitions"]
        assert sorted(partitions) == ["0", "1"]
        assert sum(one["active"] for one in partitions.values()) == 1
        assert all(one["serving"] and one["epoch"] > 0 for one in partitions.values())


async def test_two_members_share_the_partitions_and_the_second_restores_what_the_first_wrote(world: World) -> None:
    async with world.running():
        roots = [f"site-{number}" for number in range(6)]
        for number, root in enumerate(roots):
            body = alarm(at_us=world.clock.now_us(), device=device(device_id=f"bell-{number}", site_id=root))
            world.press("p-1", root=root, body=body, source=f"bell-{number}")
        await world.until(
            lambda: len(world.newest()) == 6 and all(not one.isa.active for one in world.newest().values())
        )
        first = world.context
        second = world.start()
        await world.until(lambda: world.context.readiness()[0])
        taken = world.context.report()["alerting"]["partitions"]
        left = first.report()["alerting"]["partitions"]
        assert sorted([*taken, *left]) == ["0", "1"]
        for alert in world.newest().values():
            world.say(command(alert, "ack", command_id=f"c-{alert.root}"), root=alert.root)
        await world.until(lambda: all(one.isa.state == "ACKED" for one in world.newest().values()))
        world.context.stopping.set()
        await world.until(second.done)
        world.context = first
    fences = [one for one in world.decoded("alerts") if isinstance(one[1], PartitionFence)]
    assert len(fences) >= 3


async def test_a_clear_that_is_read_again_does_not_clear_the_next_occurrence(world: World) -> None:
    def say(event_id: str, *, active: bool) -> None:
        said = alarm(
            at_us=world.clock.now_us(), alarm_class="health", topic="tns1:VideoSource/SignalLoss", active=active
        )
        body = said if active else AlarmCleared(**{name: getattr(said, name) for name in said.__struct_fields__})
        world.press(event_id, body=body)

    async with world.running():
        say("h-1", active=True)
        await world.alert()
        say("h-2", active=False)
        await world.alert(lambda one: not one.isa.active)
        say("h-3", active=True)
        await world.alert(lambda one: one.isa.active and one.occurrence.n == 2)
        say("h-2", active=False)
        await world.until(lambda: world.metrics.alarms.labels("health", "seen_before")._value.get() == 1)
        assert world.alerts()[-1].isa.active
