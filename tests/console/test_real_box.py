"""The page against the real thing: one box with real Kafka, services, archive and simulators in Debian's Chromium.

An operator answers a press by keyboard with a live picture beside it; a supervisor plays the last hour across
a hole that a killed ingest left. Every request to another origin is cut, so that what works here works in a
control room without one.
"""

import os
import signal
from collections.abc import Callable, Iterator
from typing import Final

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, Route, expect

from services.contracts.timeline import TimelineItem
from services.runtime.errors import RetryLater
from services.runtime.identity import ROLES
from tests.clips import clip_of
from tests.console.moving import live, moves, note_covers
from tests.console.real_box import US, RealBox, real_box
from tests.console.test_recorded import go_to, kst

DEADLINE_MS: Final = 20_000

Open = Callable[[str], Page]


@pytest.fixture(scope="module")
def box(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealBox]:
    """`browser` comes first: without it there is nothing to start a box for."""
    assert browser.is_connected()
    clip = clip_of("h265", tmp_path_factory.mktemp("clip"))
    try:
        with real_box(tmp_path_factory.mktemp("box"), clip=clip) as started:
            yield started
    except RetryLater as error:
        pytest.skip(f"a real broker: {error}")


@pytest.fixture
def open_real(browser: Browser, box: RealBox) -> Iterator[Open]:
    """Open a window of its own, signed in through the page, with every other origin out of reach."""
    contexts: list[BrowserContext] = []
    errors: list[str] = []
    elsewhere: list[str] = []
    origin = box.endpoints.gateway

    def guard(route: Route) -> None:
        if route.request.url.startswith(origin):
            route.continue_()
        else:
            elsewhere.append(route.request.url)
            route.abort()

    def open_it(role: str) -> Page:
        context = browser.new_context(viewport={"width": 1920, "height": 1080}, locale="ko-KR", timezone_id="UTC")
        context.set_default_timeout(DEADLINE_MS)
        context.route("**/*", guard)
        contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("console", lambda message: errors.append(message.text) if "Content Security" in message.text else None)
        page.goto(origin)
        page.locator(".roles button").nth(ROLES.index(role)).click()
        page.locator(".link.live").wait_for()
        return page

    yield open_it
    for context in contexts:
        context.close()
    assert (errors, elsewhere) == ([], [])


def _open_alert(page: Page) -> str:
    page.locator(".headline").wait_for()
    return page.locator(".headline").get_attribute("data-alert") or ""


def _answer(page: Page, alert_id: str) -> None:
    """Acknowledge and dispose by keyboard."""
    page.keyboard.press("F2")
    expect(page.locator(f"#row-{alert_id} .cell-state")).to_have_text("확인 demo-operator")
    page.keyboard.press("F6")
    page.locator(".causes").wait_for()
    page.keyboard.press("Digit5")
    expect(page.locator(f"#row-{alert_id}.closed")).to_be_visible()


def test_a_press_is_seen_moving_answered_by_keyboard_and_the_next_press_is_a_new_alert(
    box: RealBox, open_real: Open
) -> None:
    page = open_real("operator")
    box.press("bell-1")
    expect(page.locator("#incident-title")).to_contain_text("비상벨 눌림")
    expect(page.locator(".headline .where")).to_contain_text("망원 안심골목")
    alert_id = _open_alert(page)
    live(page)
    assert moves(page)
    age = page.locator(".tile .age").get_attribute("data-age")
    assert age is not None
    assert float(age) < 3
    _answer(page, alert_id)
    box.press("bell-1")
    page.locator(f".headline:not([data-alert='{alert_id}'])").wait_for()
    second = _open_alert(page)
    _answer(page, second)
    box.wait_until(lambda: "dispositioned" in _changes(box, second), 20)
    assert {"painted", "sounded", "acked", "dispositioned"} <= _changes(box, alert_id)


def test_an_h265_camera_says_why_and_shows_a_still(box: RealBox, open_real: Open) -> None:
    page = open_real("operator")
    box.press("bell-1")
    alert_id = _open_alert(page)
    page.get_by_role("button", name="cam-clip").click()
    expect(page.locator(".tile .why")).to_contain_text("H.265 영상을 재생하지 못해")
    page.wait_for_function(
        "() => { const c = document.querySelector('.tile canvas');"
        " const d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data;"
        " return c.width > 300 && d.some((value, at) => at % 4 !== 3 && value > 60); }"
    )
    expect(page.locator(".tile .chip").first).to_have_text("정지 화면")
    expect(page.locator(".tile .cover")).to_have_count(0)
    _answer(page, alert_id)


def test_playback_of_real_footage_crosses_the_gap_a_killed_ingest_left(box: RealBox, open_real: Open) -> None:
    box.wait_until(lambda: _footage_us(box) > 8 * US, 60)
    killed_us = box.clock.now_us()
    os.kill(box.endpoints.processes["ingest"], signal.SIGKILL)
    box.wait_until(lambda: _footage_us(box, since_us=killed_us) > 6 * US, 90)
    hole = _hole(box, killed_us)
    assert hole.cause == "ingest_restart"
    page = open_real("supervisor")
    box.press("bell-1")
    page.locator("#recorded-title", has_text="cam-1").wait_for()
    page.locator(".lane").wait_for()
    go_to(page, hole.from_us - 4 * US)
    note_covers(page)
    page.locator(".play").click()
    page.wait_for_function("() => document.querySelector('.playback video').currentTime > 0")
    assert moves(page, ".playback")
    page.wait_for_function("words => covers.some(one => one.told.includes(words))", arg="수집 서버 재시작")
    expect(page.locator(".playback .cover")).to_have_count(0)
    after = kst(hole.to_us + 2 * US)
    page.wait_for_function(
        "after => document.querySelector('output.head').textContent.slice(11, 19) >= after", arg=after
    )
    assert moves(page, ".playback")
    assert page.evaluate("covers.length") == 1


def _changes(box: RealBox, alert_id: str) -> set[str]:
    return {event.change for event in box.alert_events() if event.alert_id == alert_id}


def _footage_us(box: RealBox, since_us: int = 0) -> int:
    """How much footage there is that began since then."""
    return sum(
        item.to_us - item.from_us
        for item in box.timeline("cam-1").items
        if item.state in {"recorded", "open"} and item.from_us >= since_us
    )


def _hole(box: RealBox, at_us: int) -> TimelineItem:
    return next(
        item for item in box.timeline("cam-1").items if item.state == "gap" and item.to_us > at_us > item.from_us - US
    )
