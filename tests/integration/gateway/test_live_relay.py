"""Live pictures through the gateway: ingest's live port on one side, windows of browsers on the other."""

import asyncio
from collections.abc import AsyncIterator, Callable

import aiohttp
import pytest
from aiohttp import web

from services.contracts import codec
from services.contracts.audit import Access
from services.gateway import live_relay
from tests.integration.audit_away import AuditAway
from tests.integration.gateway.rig import LivePort, Rig, port_of, until

LIVE = "/api/v1/live"


@pytest.fixture
async def live_port() -> LivePort:
    return LivePort()


@pytest.fixture
async def gateway(rig: Rig, live_port: LivePort) -> AsyncIterator[Rig]:
    """A gateway that knows one camera and where it is served."""
    rig.camera()
    async with port_of([web.get(LIVE, live_port.serve)]) as port:
        rig.claim("cam-1", port)
        async with rig.running():
            await until(lambda: rig.context.report()["alerts"] is not None)
            yield rig


def metric(rig: Rig, name: str, **labels: str) -> float:
    return rig.registry.get_sample_value(f"safealley_gateway_live_relay_{name}", labels) or 0.0


async def until_at(rig: Rig, condition: Callable[[], object]) -> None:
    """Wait for a condition that both sockets and time bring about."""
    async with asyncio.timeout(15):
        while not condition():
            await rig.clock.advance(0.25)
            await asyncio.sleep(0.005)


async def test_two_windows_share_one_upstream_and_each_gets_the_bytes_on_its_own_channel(
    gateway: Rig, live_port: LivePort
) -> None:
    one, two = await gateway.live(), await gateway.live()
    await one.sub(3)
    await one.until(payload=b"init")
    await two.sub(9)
    await two.until(payload=b"init")
    await live_port.fragment(1, key=True)

    assert (await one.until(seq=1))[-1] == {"ch": 3, "kind": 1, "seq": 1, "payload": b"f1......"}
    assert (await two.until(seq=1))[-1]["ch"] == 9
    assert len(live_port.sockets) == 1
    assert live_port.authorization == ["Bearer relay-token"]
    await one.socket.close()
    await two.socket.close()
    await until(lambda: not live_port.sockets)
    assert metric(gateway, "feeds") == 0


async def test_a_window_that_joins_gets_the_newest_picture_group_at_once(gateway: Rig, live_port: LivePort) -> None:
    first = await gateway.live()
    await first.sub(1)
    await first.until(payload=b"init")
    for seq, key in ((1, True), (2, False), (3, True), (4, False)):
        await live_port.fragment(seq, key=key)
    await first.until(seq=4)

    second = await gateway.live()
    await second.sub(2)
    seen = await second.until(seq=4)

    assert [one.get("codec") or one["payload"] for one in seen] == ["avc1.640028", b"init", b"f3......", b"f4......"]


async def test_a_slow_window_is_taken_down_to_the_next_key_picture_and_told_how_much_it_missed(
    gateway: Rig, live_port: LivePort
) -> None:
    """The slow window reads nothing; its neighbour gets every fragment meanwhile."""
    quick, slow = await gateway.live(), await gateway.live()
    slow.socket._response.connection.transport.pause_reading()  # type: ignore[union-attr]
    await quick.sub(1)
    await quick.until(payload=b"init")
    await slow.sub(1)
    await until(lambda: metric(gateway, "windows") == 2)
    size, seq = 1_000_000, 0
    while metric(gateway, "dropped_total") < 4:
        seq += 1
        await live_port.fragment(seq, key=seq % 8 == 1, size=size)
        assert (await quick.until(seq=seq))[-1]["seq"] == seq
        assert seq < 200
    while (seq := seq + 1) % 8 != 2:
        await live_port.fragment(seq, key=seq % 8 == 1, size=size)
        await quick.until(seq=seq)
    slow.socket._response.connection.transport.resume_reading()  # type: ignore[union-attr]

    seen = await slow.until(op="drop")
    after = await slow.next()
    got = [one["seq"] for one in seen if one.get("kind") == 1]
    assert got == list(range(1, len(got) + 1))
    assert (after["kind"], after["seq"] % 8) == (1, 1)
    assert seen[-1]["frames"] == after["seq"] - got[-1] - 1


async def test_a_live_port_that_goes_away_is_said_and_the_picture_comes_back_by_itself(
    rig: Rig, live_port: LivePort
) -> None:
    rig.camera()
    async with rig.running():
        async with port_of([web.get(LIVE, live_port.serve)]) as port:
            rig.claim("cam-1", port)
            window = await rig.live()
            await window.sub(1)
            await until_at(rig, lambda: live_port.sockets)
            await live_port.fragment(1, key=True)
            await window.until(seq=1)
        assert (await window.until(op="err"))[-1]["code"] == "not_recording"
        await rig.clock.advance(30)
        async with port_of([web.get(LIVE, live_port.serve)]) as port:
            rig.claim("cam-1", port)
            await until_at(rig, lambda: live_port.sockets)
            await live_port.fragment(2, key=True)
            seen = await window.until(seq=2)
        assert [one["codec"] for one in seen if one.get("op") == "init"] == ["avc1.640028"]


async def test_a_missing_relay_secret_is_asked_for_again_and_ends_no_feed(rig: Rig, live_port: LivePort) -> None:
    secret = rig.directory / "secrets" / "live-relay"
    secret.unlink()
    rig.camera()
    async with port_of([web.get(LIVE, live_port.serve)]) as port:
        rig.claim("cam-1", port)
        async with rig.running():
            window = await rig.live()
            await window.sub(1)
            assert (await window.next())["code"] == "not_recording"
            secret.write_text("relay-token")
            await until_at(rig, lambda: live_port.sockets)
            await window.until(payload=b"init")


async def test_a_session_that_ends_closes_the_window_with_4001(gateway: Rig, live_port: LivePort) -> None:
    window = await gateway.live(valid_s=60)
    await window.sub(1)
    await window.until(payload=b"init")
    await gateway.clock.advance(61)
    await live_port.fragment(1, key=True)

    assert (await window.until(closed=4001))[-1] == {"closed": 4001}


@pytest.mark.parametrize(
    "said",
    ["not json", '{"op":"sub"}', '{"op":"fly","ch":1}', '{"op":"unsub","ch":1,"later":' + "[" * 3000],
    ids=["no json", "no channel", "no such word", "nested deeply"],
)
async def test_a_window_that_breaks_the_protocol_is_closed(gateway: Rig, said: str) -> None:
    window = await gateway.live()
    await window.socket.send_str(said)
    assert await window.next() == {"closed": 4001}


@pytest.mark.parametrize(
    ("given", "camera", "code"),
    [
        ({"role": "auditor"}, "cam-1", "forbidden"),
        ({"role": "admin"}, "cam-1", "forbidden"),
        ({}, "no-such-camera", "unknown_camera"),
        ({"jurisdictions": ("26110",)}, "cam-1", "unknown_camera"),
    ],
    ids=["an auditor", "an admin", "an unknown camera", "another jurisdiction's camera"],
)
async def test_who_may_not_watch_is_told_so_and_the_look_is_written_down(
    gateway: Rig, given: dict[str, object], camera: str, code: str
) -> None:
    window = await gateway.live(**given)
    await window.sub(5, camera)
    assert await window.next() == {"op": "err", "ch": 5, "code": code}
    await until(lambda: gateway.kafka.records("audit"))
    (record,) = gateway.kafka.records("audit")
    body = codec.decode_event(record.headers, record.value).body
    assert isinstance(body, Access)
    assert (body.action, body.camera_id, body.result, body.reason) == ("live", camera, "denied", "wall")


async def test_who_was_refused_and_left_at_once_is_written_down_when_kafka_is_back(rig: Rig) -> None:
    kafka = AuditAway(rig.kafka)
    rig.camera()
    async with rig.running(kafka):
        window = await rig.live(role="admin")
        await window.sub(1)
        assert await window.next() == {"op": "err", "ch": 1, "code": "forbidden"}
        await window.socket.close()
        await until_at(rig, lambda: rig.registry.get_sample_value("safealley_gateway_live_relay_windows") == 0)
        assert not rig.kafka.records("audit")

        kafka.away = False
        await until_at(rig, lambda: rig.kafka.records("audit"))


async def test_a_channel_too_many_is_written_down_as_refused(gateway: Rig) -> None:
    window = await gateway.live()
    for number in range(live_relay.CHANNELS_MAX + 1):
        await window.sub(number, "cam-1")
    refusal = {"op": "err", "ch": live_relay.CHANNELS_MAX, "code": "overload"}
    assert (await window.until(**refusal))[-1] == refusal

    await until(lambda: len(gateway.kafka.records("audit")) > live_relay.CHANNELS_MAX)
    bodies = [codec.decode_event(record.headers, record.value).body for record in gateway.kafka.records("audit")]
    results = [body.result for body in bodies if isinstance(body, Access)]
    assert results == ["allowed"] * live_relay.CHANNELS_MAX + ["denied"]


async def test_no_picture_leaves_before_the_look_is_in_the_audit_log(
    rig: Rig, live_port: LivePort, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live_relay, "AUDIT_S", 0.05)
    kafka = AuditAway(rig.kafka)
    rig.camera()
    async with port_of([web.get(LIVE, live_port.serve)]) as port:
        rig.claim("cam-1", port)
        async with rig.running(kafka):
            gone = await rig.live()
            await gone.sub(1)
            assert await gone.next() == {"op": "err", "ch": 1, "code": "overload"}
            await gone.socket.close()
            lost = "safealley_gateway_access_log_given_up_total"
            await until(lambda: rig.registry.get_sample_value(lost, {"result": "allowed"}) == 1)
            window = await rig.live()
            await window.sub(1)
            assert await window.next() == {"op": "err", "ch": 1, "code": "overload"}
            assert live_port.authorization == []
            kafka.away = False
            await until_at(rig, lambda: live_port.sockets)
            assert len(rig.kafka.records("audit")) == 1
            assert (await window.until(payload=b"init"))[0]["codec"] == "avc1.640028"


async def test_an_upgrade_without_a_token_is_refused(gateway: Rig) -> None:
    with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
        await gateway.http.ws_connect(f"{gateway.url}{LIVE}")
    assert refused.value.status == 401


async def test_a_feed_that_fails_by_our_own_mistake_is_opened_anew_for_the_next_window(
    gateway: Rig, live_port: LivePort, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise KeyError("a mistake of ours")

    window = await gateway.live()
    await window.sub(1)
    await window.until(payload=b"init")
    with monkeypatch.context() as patch:
        patch.setattr(live_relay, "read_media", broken)
        await live_port.fragment(1, key=True)
        assert (await window.until(op="err"))[-1]["code"] == "not_recording"
    await window.sub(1)
    await window.until(payload=b"init")
