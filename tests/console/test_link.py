"""The gateway goes away and comes back; nothing is lost and nothing is pretended."""

import pytest
from playwright.sync_api import expect

from tests.console.conftest import Open
from tests.console.fake_gateway import FakeGateway

LINK_HERTZ = (262, 196)
LISTEN = """
  globalThis.heard = [];
  const start = OscillatorNode.prototype.start;
  OscillatorNode.prototype.start = function (...at) { heard.push(this.frequency.value); start.apply(this, at); };
"""


def test_a_lost_link_is_shown_and_resumed_from_the_cursor(open_console: Open, gateway: FakeGateway) -> None:
    page = open_console()
    old = gateway.press("bell-12", priority="medium", alarm_class="analytics")
    page.locator(f"#row-{old}").wait_for()
    gateway.go_down()
    expect(page.locator(".link-lost")).to_contain_text("연결 끊김")
    missed = gateway.press("bell-07")
    gateway.come_back()
    expect(page.locator(f"#row-{missed}")).to_be_visible()
    expect(page.locator(".link-lost")).to_have_count(0)
    expect(page.locator(f"#row-{old}")).to_be_visible()
    resumed = gateway.seen.hellos[-1].cursor
    assert resumed is not None
    assert resumed.at == {"0": 1}


def test_a_command_given_offline_waits_visibly_and_is_sent_once(open_console: Open, gateway: FakeGateway) -> None:
    page = open_console()
    alert_id = gateway.press("bell-07")
    page.locator(".headline").wait_for()
    gateway.go_down()
    page.keyboard.press("F2")
    expect(page.locator(f"#row-{alert_id} .cell-state")).to_have_text("전송 대기")
    assert gateway.alert(alert_id).version == 1
    gateway.come_back()
    expect(page.locator(f"#row-{alert_id} .cell-state")).to_have_text("확인 demo-operator-1")
    assert gateway.alert(alert_id).version == 2


def test_a_reload_takes_the_list_and_the_cursor_along(open_console: Open, gateway: FakeGateway) -> None:
    page = open_console()
    alert_id = gateway.press("bell-07")
    page.locator(f"#row-{alert_id}").wait_for()
    page.reload()
    expect(page.locator(f"#row-{alert_id}")).to_be_visible()
    page.locator(".link.live").wait_for()
    cursor = gateway.seen.hellos[-1].cursor
    assert cursor is not None
    assert cursor.at == {"0": 1}


def test_an_ended_session_leads_to_sign_in_over_the_last_state(open_console: Open, gateway: FakeGateway) -> None:
    page = open_console()
    alert_id = gateway.press("bell-07")
    page.locator(f"#row-{alert_id}").wait_for()
    gateway.end_sessions()
    expect(page.locator(".sign-in .lead")).to_contain_text("세션이 끝났습니다")
    expect(page.locator(f"#row-{alert_id}")).to_be_visible()
    expect(page.locator(".whole")).to_have_attribute("inert", "")


def test_a_link_that_says_nothing_for_12_s_is_lost(open_console: Open, gateway: FakeGateway) -> None:
    page = open_console(own_clock=True)
    gateway.fall_silent()
    page.clock.fast_forward(11_000)
    expect(page.locator(".link-lost")).to_have_count(0)
    page.clock.fast_forward(2_000)
    expect(page.locator(".link-lost")).to_be_visible()
    expect(page.locator(".link.lost")).to_contain_text("연결 끊김")


def test_a_list_sent_anew_replaces_the_old_one_whole(open_console: Open, gateway: FakeGateway) -> None:
    page = open_console()
    gone = gateway.press("bell-12", priority="low", alarm_class="health")
    stays = gateway.press("bell-12", priority="medium", alarm_class="analytics")
    page.locator(f"#row-{gone}").wait_for()
    gateway.forget_and_resync(gone)
    expect(page.locator(f"#row-{gone}")).to_have_count(0)
    expect(page.locator(f"#row-{stays}")).to_be_visible()
    expect(page.locator(".link.live")).to_be_visible()
    assert len(gateway.seen.hellos) == 1


def test_a_hole_in_the_frames_makes_the_page_ask_again_from_its_cursor(
    open_console: Open, gateway: FakeGateway
) -> None:
    page = open_console()
    alert_id = gateway.press("bell-07")
    page.locator(f"#row-{alert_id}").wait_for()
    gateway.lose_a_frame()
    gateway.wait_for(lambda: len(gateway.seen.hellos) == 2)
    cursor = gateway.seen.hellos[-1].cursor
    assert cursor is not None
    assert cursor.at == {"0": 1}
    page.locator(".link.live").wait_for()


def test_a_command_given_offline_is_given_up_after_a_minute_and_says_so(
    open_console: Open, gateway: FakeGateway
) -> None:
    page = open_console(own_clock=True)
    alert_id = gateway.press("bell-07")
    page.locator(".headline").wait_for()
    gateway.go_down()
    page.locator(".link-lost").wait_for()
    page.keyboard.press("F2")
    expect(page.locator(f"#row-{alert_id} .cell-state")).to_have_text("전송 대기")
    page.clock.fast_forward(61_000)
    expect(page.locator(f"#row-{alert_id} .cell-state")).to_contain_text("다시 누르십시오")
    gateway.come_back()
    page.locator(".link.live").wait_for()
    assert gateway.alert(alert_id).version == 1
    page.keyboard.press("F2")
    expect(page.locator(f"#row-{alert_id} .cell-state")).to_have_text("확인 demo-operator-1")


@pytest.mark.parametrize("muted", [False, True])
def test_a_lost_link_is_heard_even_while_alerts_are_muted(
    open_console: Open, gateway: FakeGateway, muted: bool
) -> None:
    page = open_console(script=LISTEN)
    if muted:
        page.keyboard.press("F3")
        page.locator(".sound.muted").wait_for()
    gateway.press("bell-07")
    page.locator(".headline").wait_for()
    gateway.go_down()
    page.wait_for_function("low => low.every(hertz => heard.includes(hertz))", arg=list(LINK_HERTZ))
    expect(page.locator(".link-lost")).to_be_visible()
    assert page.evaluate("heard.includes(988)") is not muted


def test_signing_out_ends_the_session_and_leaves_nothing_of_it_in_the_page(
    open_console: Open, gateway: FakeGateway
) -> None:
    page = open_console()
    alert_id = gateway.press("bell-07")
    page.locator(f"#row-{alert_id}").wait_for()
    page.get_by_role("button", name="로그아웃").click()
    page.locator(".roles").wait_for()
    expect(page.locator(f"#row-{alert_id}")).to_have_count(0)
    assert page.evaluate("sessionStorage.getItem('safealley.kept')") is None
    assert page.context.cookies() == []
    page.reload()
    page.locator(".roles").wait_for()


def test_nobody_signs_out_over_a_command_that_is_still_on_its_way(open_console: Open, gateway: FakeGateway) -> None:
    page = open_console()
    gateway.press("bell-07")
    page.locator(".headline").wait_for()
    gateway.decide_later()
    page.keyboard.press("F2")
    expect(page.get_by_role("button", name="로그아웃")).to_be_disabled()
    gateway.decide_now()
    expect(page.get_by_role("button", name="로그아웃")).to_be_enabled()
