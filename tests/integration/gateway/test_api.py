"""The HTTP doors, with alerting itself on the same cluster: who may, what is missing, who was first."""

import asyncio
import uuid
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
from prometheus_client import CollectorRegistry

from services.alerting import app as alerting
from services.alerting.metrics import AlertingMetrics
from services.alerting.settings import AlertingSettings
from services.contracts.alarm import AlarmRaised, Condition, DeviceAtReceipt
from services.contracts.envelope import Envelope
from services.runtime.http_server import SESSION_COOKIE
from services.runtime.service import ServiceContext
from tests.integration.gateway.rig import ORIGIN, Rig, until

STREAM = "/api/v1/alert-stream"


@pytest.fixture
async def city(rig: Rig) -> AsyncIterator[Rig]:
    """A gateway and the alerting that answers it."""
    context = ServiceContext("alerting", clock=rig.clock)
    metrics = AlertingMetrics(CollectorRegistry())
    task = asyncio.create_task(alerting.run(AlertingSettings(), rig.kafka, context, metrics))
    await until(lambda: context.readiness()[0])
    async with rig.running():
        yield rig
    context.stopping.set()
    async with asyncio.timeout(15):
        while not task.done():
            await rig.clock.advance(0.5)
            await asyncio.sleep(0.005)
    task.result()


async def pressed(rig: Rig, event_id: str = "p-1", *, bell: str = "bell-1") -> dict[str, Any]:
    """Press a bell, and return its alert as the gateway shows it."""
    now_us = rig.clock.now_us()
    body = AlarmRaised(
        alarm_class="bell", condition=Condition(topic="tns1:Device/Trigger/DigitalInput", active=True),
        device=DeviceAtReceipt(device_id=bell, site_id="mangwon", jurisdiction="11440", lon=126.9, lat=37.5),
        device_time_us=now_us, clock_offset_ms=0, offline_period="none", status="Actual", via="http",
        received_us=now_us,
    )  # fmt: skip
    source = f"/city/11440/bells/{bell}"
    rig.put("alarms", "mangwon", body, Envelope(id=event_id, source=source, type=AlarmRaised.TYPE))
    async with asyncio.timeout(15):
        while True:
            _, page, _ = await rig.ask("GET", "/api/v1/alerts")
            found = [one for one in page["items"] if one["device"]["device_id"] == bell]
            if found:
                return dict(found[0])


def key(**more: str) -> dict[str, str]:
    return {"Idempotency-Key": str(uuid.uuid4()), **more}


async def post(rig: Rig, alert: dict[str, Any], verb: str, **options: Any) -> tuple[int, Any, Any]:
    body = {"decision_version": alert["decision_version"], **options.pop("body", {})}
    headers = options.pop("headers", None) or key()
    return await rig.ask("POST", f"/api/v1/alerts/{alert['alert_id']}/{verb}", json=body, headers=headers, **options)


async def test_press_acknowledge_dispose(city: Rig) -> None:
    alert = await pressed(city)
    status, acked, _ = await post(city, alert, "ack")
    assert (status, acked["isa"]["acked"], acked["people"]["acked_by"]) == (200, True, "demo-operator")
    status, disposed, _ = await post(city, acked, "dispose", body={"code": "Mistaken", "note": "아이"})
    assert (status, disposed["isa"]["disposed"], disposed["disposition"]["note"]) == (200, True, "아이")


async def test_the_same_key_and_body_get_the_same_answer_and_another_body_422(city: Rig) -> None:
    alert = await pressed(city)
    headers = key()
    first = await post(city, alert, "ack", headers=headers)
    again = await post(city, alert, "ack", headers=headers)
    other = await post(city, {**alert, "decision_version": 7}, "ack", headers=headers)
    assert (first[0], again[0], other[0], other[1]["error"]) == (200, 200, 422, "other_body")
    assert len([one for one in city.kafka.records("operator-commands") if one.value and b'"ack"' in one.value]) == 1


async def test_two_operators_at_once_one_wins_and_the_other_is_told_who(city: Rig) -> None:
    alert = await pressed(city)
    lee = {**city.bearer(account="op-lee"), **key()}
    answers = await asyncio.gather(post(city, alert, "ack"), post(city, alert, "ack", role=None, headers=lee))
    assert sorted(one[0] for one in answers) == [200, 409]
    winner = next(one[1]["people"]["acked_by"] for one in answers if one[0] == 200)
    refusal = next(one[1] for one in answers if one[0] == 409)
    assert (refusal["winner"], refusal["alert"]["people"]["acked_by"]) == (winner, winner)


async def test_a_stale_disposition_and_one_before_the_acknowledgement_are_409(city: Rig) -> None:
    alert = await pressed(city)
    status, body, _ = await post(city, alert, "dispose", body={"code": "Mistaken"})
    assert (status, body["error"]) == (409, "illegal_arc")
    await post(city, alert, "ack")
    status, body, _ = await post(city, alert, "dispose", body={"code": "Mistaken"})
    assert (status, body["error"], body["winner"]) == (409, "stale", "demo-operator")


@pytest.mark.parametrize(
    ("options", "status"),
    [
        pytest.param({"role": None}, 401, id="nobody"),
        pytest.param({"role": None, "headers": {"Authorization": "Bearer x.y.z", **key()}}, 401, id="a false token"),
        pytest.param({"role": "auditor"}, 403, id="an auditor"),
        pytest.param({"role": "records_officer"}, 403, id="a records officer"),
        pytest.param({"headers": {"X-None": "1"}}, 422, id="no key"),
        pytest.param({"headers": {"Idempotency-Key": "7"}}, 422, id="a key that is no UUID"),
        pytest.param({"body": {"decision_version": None}}, 422, id="no decision version"),
        pytest.param({"body": {"unknown": 1}}, 422, id="an unknown field"),
    ],
)
async def test_who_may_not_and_what_is_missing(city: Rig, options: dict[str, Any], status: int) -> None:
    alert = await pressed(city)
    answered, problem, _ = await post(city, alert, "ack", **options)
    assert answered == status
    assert problem["detail"]
    assert "alert" not in problem
    assert not [one for one in city.kafka.records("operator-commands") if one.value and b'"ack"' in one.value]


@pytest.mark.parametrize("body", [{}, {"code": "Whatever"}, {"code": "Test", "note": "x" * 2001}],
                         ids=["no code", "no such code", "a note too long"])  # fmt: skip
async def test_a_disposition_needs_a_code_of_the_list(city: Rig, body: dict[str, Any]) -> None:
    alert = (await post(city, await pressed(city), "ack"))[1]
    assert (await post(city, alert, "dispose", body=body))[0] == 422


async def test_what_is_not_there_and_what_is_anothers_look_the_same(city: Rig) -> None:
    alert = await pressed(city)
    headers = {**city.bearer(jurisdictions=("26110",)), **key()}
    theirs = await post(city, alert, "ack", role=None, headers=headers)
    missing = await post(city, {**alert, "alert_id": "none"}, "ack")
    assert theirs[0] == missing[0] == 404
    assert theirs[1] == missing[1]
    assert (await city.ask("GET", "/api/v1/nothing"))[0] == 404
    assert (await city.ask("POST", f"/api/v1/alerts/{alert['alert_id']}/explode", json={}))[0] == 404
    _, page, _ = await city.ask("GET", "/api/v1/alerts", role=None, headers=headers)
    assert page["items"] == []


async def test_signing_in_sets_a_cookie_no_script_can_read_and_signing_out_takes_it_away(city: Rig) -> None:
    page = {"Origin": ORIGIN}
    status, body, headers = await city.ask(
        "POST", "/api/v1/session", role=None, json={"role": "supervisor"}, headers=page
    )
    cookie = headers["Set-Cookie"]
    assert (status, body["role"]) == (200, "supervisor")
    assert {"HttpOnly", "Secure", "SameSite=Strict", "Path=/"} <= set(cookie.split("; "))
    brought = {"Cookie": cookie.split(";")[0], **page}
    assert (await city.ask("GET", "/api/v1/session", role=None, headers=brought))[1]["role"] == "supervisor"
    status, _, headers = await city.ask("DELETE", "/api/v1/session", role=None, headers=brought)
    assert (status, f'{SESSION_COOKIE}=""' in headers["Set-Cookie"]) == (204, True)
    assert (await city.ask("POST", "/api/v1/session", role=None, json={"role": "mayor"}, headers=page))[0] == 422


@pytest.mark.parametrize(
    ("origin", "error"),
    [({"Origin": "http://evil.test"}, "origin_refused"), ({}, "origin_missing")],
    ids=["another page", "no origin"],
)
async def test_with_a_cookie_a_command_needs_our_own_page(city: Rig, origin: dict[str, str], error: str) -> None:
    alert = await pressed(city)
    cookie = {"Cookie": f"{SESSION_COOKIE}={city.issuer.issue('operator')}"}
    status, problem, _ = await post(city, alert, "ack", role=None, headers=key(**cookie, **origin))
    assert (status, problem["error"]) == (403, error)
    assert (await post(city, alert, "ack", role=None, headers=key(**cookie, Origin=ORIGIN)))[0] == 200


@pytest.mark.parametrize("path", [STREAM, "/api/v1/live"])
@pytest.mark.parametrize("origin", [{"Origin": "http://evil.test"}, {}], ids=["another page", "no origin"])
async def test_with_a_cookie_a_socket_needs_our_own_page(city: Rig, path: str, origin: dict[str, str]) -> None:
    cookie = {"Cookie": f"{SESSION_COOKIE}={city.issuer.issue('operator')}"}
    with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
        await city.http.ws_connect(f"{city.url}{path}", headers=cookie | origin)
    assert refused.value.status == 403
    ours = await city.http.ws_connect(f"{city.url}{path}", headers=cookie | {"Origin": ORIGIN})
    await ours.close()


async def test_a_bearer_token_from_another_page_is_refused_too(city: Rig) -> None:
    assert (await city.ask("GET", "/api/v1/alerts", headers={"Origin": "http://evil.test"}))[0] == 403


async def test_a_command_kafka_does_not_take_is_503_and_may_be_sent_again_with_its_key(city: Rig) -> None:
    alert = await pressed(city)
    headers = key()
    city.kafka.away = True
    status, problem, answered = await post(city, alert, "ack", headers=headers)
    assert (status, problem["error"], answered["Retry-After"]) == (503, "unavailable", "1")
    city.kafka.away = False
    assert (await post(city, alert, "ack", headers=headers))[0] == 200


async def test_a_command_nobody_answers_in_two_seconds_is_202_with_a_place_to_ask(rig: Rig) -> None:
    """No alerting runs: the command stands in its topic, and whoever sent it can ask what became of it."""
    async with rig.running():
        alert = rig.alert("a-1")
        async with asyncio.timeout(15):
            while (await rig.ask("GET", "/api/v1/alerts"))[1]["items"] == []:
                continue
        shown = {"alert_id": "a-1", "decision_version": alert.decision_version}
        status, _, headers = await post(rig, shown, "ack")
        assert status == 202
        assert (await rig.ask("GET", headers["Location"]))[0] == 202
