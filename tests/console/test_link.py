"""The gateway goes away and comes back; nothing is lost and nothing is pretended."""

from playwright.sync_api import expect

from tests.console.conftest import Open
from tests.console.fake_gateway import FakeGateway


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
    page = open_console()
    gateway.fall_silent()
    expect(page.locator(".link-lost")).to_be_visible(timeout=20_000)
    expect(page.locator(".link.lost")).to_contain_text("연결 끊김")
