"""The last hour of a camera: its gaps with their causes, and playback across them."""

from datetime import datetime, timedelta, timezone

from playwright.sync_api import Page, expect

from tests.console.conftest import Open
from tests.console.fake_gateway import US, FakeGateway

KST = timezone(timedelta(hours=9))


def kst(at_us: int) -> str:
    return datetime.fromtimestamp(at_us / US, KST).strftime("%H:%M:%S")


def go_to(page: Page, at_us: int) -> None:
    page.get_by_label("시각으로 이동").fill(kst(at_us))
    page.get_by_role("button", name="이동", exact=True).click()
    expect(page.locator("output.head")).to_contain_text(kst(at_us))


def test_playback_goes_across_a_gap_and_keeps_wall_time(open_console: Open, gateway: FakeGateway) -> None:
    page = open_console("supervisor")
    alert_id = gateway.press("bell-07")
    page.locator(".lane").wait_for()
    hole = gateway.holes[0]
    starts_us, ends_us = (gateway.started_us - int(s * US) for s in (hole.from_s, hole.to_s))
    go_to(page, starts_us - 2 * US)
    page.locator(".play").click()
    page.wait_for_function("() => document.querySelector('.playback video').currentTime > 0")
    expect(page.locator(".playback .cover")).to_contain_text("영상 없음: 통신 끊김")
    expect(page.locator(".playback .cover")).to_have_count(0)
    page.wait_for_function(
        "after => document.querySelector('output.head').textContent.slice(11, 19) >= after", arg=kst(ends_us + US)
    )
    assert kst(ends_us) <= page.locator("output.head").inner_text()[11:19] <= kst(ends_us + 10 * US)
    assert set(gateway.seen.purposes) == {alert_id}


def test_seeking_back_into_a_gap_does_not_freeze_the_player(open_console: Open, gateway: FakeGateway) -> None:
    page = open_console("supervisor")
    gateway.press("bell-07")
    page.locator(".lane").wait_for()
    hole = gateway.holes[0]
    starts_us, ends_us = (gateway.started_us - int(s * US) for s in (hole.from_s, hole.to_s))
    go_to(page, ends_us + 4 * US)
    page.locator(".play").click()
    page.wait_for_function("() => document.querySelector('.playback video').readyState >= 3")
    go_to(page, starts_us + 5 * US)
    expect(page.locator(".playback .cover")).to_be_visible()
    page.wait_for_function(
        "after => document.querySelector('output.head').textContent.slice(11, 19) >= after", arg=kst(ends_us + US)
    )


def test_the_strip_is_a_slider_and_the_gaps_are_a_table(open_console: Open, gateway: FakeGateway) -> None:
    page = open_console("supervisor", lang="en")
    gateway.press("bell-07")
    slider = page.get_by_role("slider")
    slider.focus()
    before = int(slider.get_attribute("aria-valuenow") or 0)
    page.keyboard.press("ArrowLeft")
    expect(slider).to_have_attribute("aria-valuenow", str(before - 5))
    assert "KST" in (slider.get_attribute("aria-valuetext") or "")
    expect(page.locator(".gaps tbody tr")).to_have_count(2)
    expect(page.locator(".gaps tbody tr").nth(1)).to_contain_text("network loss")


def test_an_operator_is_told_who_may_see_the_last_hour(open_console: Open, gateway: FakeGateway) -> None:
    page = open_console()
    gateway.press("bell-07")
    expect(page.locator(".pictures .not-allowed")).to_contain_text("팀장과 개인정보 보호 담당자만")


def test_an_auditor_names_a_case_before_any_footage(open_console: Open, gateway: FakeGateway) -> None:
    page = open_console("auditor")
    gateway.press("bell-07")
    page.get_by_label("감사 사건 번호").fill("감사-2026-17")
    assert gateway.seen.purposes == []
    page.get_by_role("button", name="이 번호로 열람").click()
    page.locator(".lane").wait_for()
    assert gateway.seen.purposes == ["감사-2026-17"]


def test_h265_footage_says_why_it_is_not_played(open_console: Open, gateway: FakeGateway) -> None:
    page = open_console("supervisor")
    gateway.press("bell-12")
    expect(page.locator(".deck .why")).to_contain_text("H.265 녹화를 재생하지 못합니다")
    expect(page.locator(".play")).to_be_disabled()
