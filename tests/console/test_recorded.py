"""The last hour of a camera: its gaps with their causes, and playback across them."""

import re
from datetime import datetime, timedelta, timezone

from playwright.sync_api import Page, Route, expect

from tests.console.conftest import Open
from tests.console.fake_gateway import US, FakeGateway, Hole
from tests.console.moving import live, note_covers

KST = timezone(timedelta(hours=9))

RUNS_PX = """() => {
  const axis = document.querySelector('.axis').getBoundingClientRect();
  const runs = [];
  for (let x = Math.ceil(axis.left) + 1; x < axis.right - 1; x++) {
    const stripe = document.elementsFromPoint(x, axis.bottom - 4).find(e => e.classList.contains('stripe'));
    const kind = stripe?.classList[1] ?? 'nothing';
    if (runs.at(-1)?.[0] === kind) runs.at(-1)[1] += 1;
    else runs.push([kind, 1]);
  }
  return runs;
}"""
"""What the eye meets in the bar from left to right, and how many pixels of it."""
SHOWN_PX = f"""() => {{
  const sums = {{}};
  for (const [kind, px] of ({RUNS_PX})()) sums[kind] = (sums[kind] ?? 0) + px;
  return sums;
}}"""


LIES_ON_THE_PICTURE = """() => {
  const at = place => Object.values(document.querySelector(place).getBoundingClientRect().toJSON());
  const covers = String(at('.playback .cover')) === String(at('.playback video'));
  const words = document.querySelector('.playback figcaption').getBoundingClientRect();
  return covers && words.bottom <= document.querySelector('.playback video').getBoundingClientRect().top + 1;
}"""
"""The cover hides all of the recorded picture and nothing else, and the words above it are free."""


def kst(at_us: int) -> str:
    return datetime.fromtimestamp(at_us / US, KST).strftime("%H:%M:%S")


def hour_of_the_alert(open_console: Open, gateway: FakeGateway) -> Page:
    """A supervisor looks at an alert: the last hour of its nearest camera is there."""
    page = open_console("supervisor")
    gateway.press("bell-07")
    page.locator(".lane").wait_for()
    return page


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
    cover = page.locator(".playback .cover")
    expect(cover).to_contain_text("영상 없음: 통신 끊김")
    assert page.evaluate(LIES_ON_THE_PICTURE)
    expect(cover).to_have_count(0)
    page.wait_for_function(
        "after => document.querySelector('output.head').textContent.slice(11, 19) >= after", arg=kst(ends_us + US)
    )
    assert kst(ends_us) <= page.locator("output.head").inner_text()[11:19] <= kst(ends_us + 10 * US)
    assert set(gateway.seen.purposes) == {alert_id}


def test_a_time_that_cannot_be_shown_is_told_as_such(open_console: Open, gateway: FakeGateway) -> None:
    page = hour_of_the_alert(open_console, gateway)
    hole = gateway.holes[0]
    go_to(page, gateway.started_us - int((hole.from_s + hole.to_s) / 2 * US))
    expect(page.locator(".goto .wrong")).to_contain_text("영상 없음: 통신 끊김")
    before = page.locator("output.head").inner_text()
    page.get_by_label("시각으로 이동").fill(kst(gateway.started_us - 2 * 3600 * US))
    page.get_by_role("button", name="이동", exact=True).click()
    expect(page.locator(".goto .wrong")).to_contain_text("까지만 볼 수 있습니다")
    assert page.locator("output.head").inner_text() == before


def test_seeking_back_into_a_gap_does_not_freeze_the_player(open_console: Open, gateway: FakeGateway) -> None:
    page = hour_of_the_alert(open_console, gateway)
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


def test_the_time_of_the_live_picture_and_that_of_the_playback_are_each_named(
    open_console: Open, gateway: FakeGateway
) -> None:
    page = hour_of_the_alert(open_console, gateway)
    live(page)
    expect(page.locator(".stage .age")).to_have_text(re.compile(r"\d\d:\d\d:\d\d 화면 \(\d+\.\d초 전\)"))
    expect(page.locator(".controls p")).to_have_text(re.compile(r"녹화 재생 위치 \d{4}-\d\d-\d\d \d\d:\d\d:\d\d KST"))
    expect(page.locator("#recorded-title")).to_contain_text("녹화 다시 보기")
    expect(page.locator(".play")).to_contain_text("녹화 재생")


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


def test_a_gap_shorter_than_a_glance_stands_on_the_screen_long_enough_to_be_read(
    open_console: Open, gateway: FakeGateway
) -> None:
    gateway.holes.append(Hole(from_s=604, to_s=602, cause="chunk_lost"))
    page = hour_of_the_alert(open_console, gateway)
    starts_us, ends_us = (gateway.started_us - s * US for s in (604, 602))
    go_to(page, starts_us - 3 * US)
    note_covers(page)
    page.locator(".play").click()
    page.wait_for_function(
        "after => document.querySelector('output.head').textContent.slice(11, 19) >= after", arg=kst(ends_us + US)
    )
    covers = page.evaluate("covers")
    assert ["조각 유실" in one["told"] for one in covers] == [True]
    assert covers[0]["ms"] > 1_000


def test_the_playhead_stays_where_it_was_put_while_footage_is_on_its_way(
    open_console: Open, gateway: FakeGateway
) -> None:
    page = open_console("supervisor", own_clock=True)
    gateway.press("bell-07")
    page.locator(".lane").wait_for()
    at_us = gateway.started_us - 900 * US
    go_to(page, at_us)
    held: list[Route] = []
    page.route("**/*.m4s*", lambda route: held.append(route))  # noqa: PLW0108 - Playwright inspects the handler
    with page.expect_request("**/*.m4s*"):
        page.locator(".play").click()
    page.clock.run_for(3_000)
    expect(page.locator("output.head")).to_contain_text(kst(at_us))
    for route in held:
        route.continue_()
    page.unroute("**/*.m4s*")
    page.wait_for_function("() => document.querySelector('.playback video').readyState >= 3")
    assert kst(at_us) <= page.locator("output.head").inner_text()[11:19] <= kst(at_us + 5 * US)


def test_time_before_the_first_picture_of_a_camera_is_not_told_as_a_gap(
    open_console: Open, gateway: FakeGateway
) -> None:
    gateway.holes[1].detail = "before_first_record"
    page = hour_of_the_alert(open_console, gateway)
    expect(page.locator(".gaps tbody tr")).to_have_count(1)
    expect(page.locator(".lane .before")).to_have_count(1)
    expect(page.locator(".lane .gap")).to_have_count(1)


def test_a_minute_of_footage_is_seen_in_the_hour_before_which_nothing_was_recorded(
    open_console: Open, gateway: FakeGateway
) -> None:
    gateway.holes[:] = [Hole(from_s=3700, to_s=64, cause="not_scheduled", detail="before_first_record")]
    page = hour_of_the_alert(open_console, gateway)
    shown = page.evaluate(SHOWN_PX)
    assert shown["open"] > 8
    assert shown["recorded"] > 8
    expect(page.locator(".lane .before-words")).to_have_text("녹화 시작 전")
    expect(page.locator(".gaps-none")).to_contain_text(kst(gateway.started_us - 64 * US))


def test_footage_and_a_gap_of_a_second_are_each_seen_wherever_they_lie(
    open_console: Open, gateway: FakeGateway
) -> None:
    gateway.holes[:] = [
        Hole(from_s=2401, to_s=2400, cause="chunk_lost"),
        Hole(from_s=1500, to_s=1200, cause="network_loss"),
        Hole(from_s=1199, to_s=900, cause="network_loss"),
    ]
    page = hour_of_the_alert(open_console, gateway)
    runs = page.evaluate(RUNS_PX)
    assert [kind for kind, _ in runs][:7] == ["recorded", "gap", "recorded", "gap", "recorded", "gap", "recorded"]
    assert min(px for _, px in runs) >= 2


def test_the_legend_shows_what_the_bar_shows_and_the_mark_of_the_alert_lies_inside_it(
    open_console: Open, gateway: FakeGateway
) -> None:
    gateway.holes[1].detail = "before_first_record"
    page = hour_of_the_alert(open_console, gateway)
    in_bar, in_legend = (
        page.evaluate(
            "place => Object.fromEntries([...document.querySelectorAll(`${place} .stripe`)]"
            ".map(e => [e.classList[1], getComputedStyle(e).fill]))",
            place,
        )
        for place in (".lane", ".legend")
    )
    assert in_bar == in_legend
    assert len(set(in_bar.values())) == len(in_bar) == 5
    assert page.locator(".legend .badge").get_attribute("class") == page.locator(".lane .badge").get_attribute("class")
    lane, mark = page.locator(".lane").bounding_box(), page.locator(".lane .badge").bounding_box()
    assert lane is not None
    assert mark is not None
    head = page.locator(".playhead").bounding_box()
    assert head is not None
    assert head["x"] + head["width"] / 2 < mark["x"] + mark["width"] / 2, "playback begins before the alert"
    assert lane["x"] <= mark["x"]
    assert mark["x"] + mark["width"] <= lane["x"] + lane["width"]
    assert lane["y"] <= mark["y"]
    assert mark["y"] + mark["height"] <= lane["y"] + lane["height"]
