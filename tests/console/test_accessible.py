"""Everybody can use it: axe, contrast, motion, Hangul that is not cut."""

import io

import av
import pytest
from playwright.sync_api import Page, expect

from tests.console.conftest import AXE, Open
from tests.console.fake_gateway import FakeGateway

CUT = """() => [...document.querySelectorAll('h1,h2,h3,p,span,button,strong,td,th,output,legend,label,a,small')]
  .filter(e => e.checkVisibility() && !e.children.length && e.textContent.trim())
  .filter(e => !e.closest('.heard-only,.skip'))
  .filter(e => { const s = getComputedStyle(e);
     return e.scrollHeight > e.clientHeight + 2 && s.overflowY !== 'visible' && e.clientHeight > 0
       || e.scrollWidth > e.clientWidth + 1 && s.overflowX !== 'visible' && e.clientWidth > 0; })
  .map(e => e.className + ': ' + e.textContent)"""


SMALL = """() => [...document.querySelectorAll('#app *')]
  .filter(e => e.checkVisibility() && !e.closest('svg,.heard-only,.skip'))
  .filter(e => [...e.childNodes].some(n => n.nodeType === Node.TEXT_NODE && n.data.trim()))
  .filter(e => parseFloat(getComputedStyle(e).fontSize) < 16)
  .map(e => e.className + ': ' + e.textContent)"""


def _violations(page: Page) -> list[str]:
    if not AXE.is_file():
        pytest.skip("axe-core is not installed: cd web && npm ci --ignore-scripts")
    page.evaluate(AXE.read_text(encoding="utf-8"))
    found = page.evaluate("async () => (await axe.run(document)).violations")
    return [f"{one['id']}: {one['nodes'][0]['target']} {one['nodes'][0].get('failureSummary', '')}" for one in found]


def _alerts(gateway: FakeGateway) -> None:
    gateway.press("bell-12", priority="low", alarm_class="health", ago_s=3000)
    gateway.press("cam-12a", priority="medium", alarm_class="analytics", ago_s=700)
    gateway.press("bell-12", priority="high", alarm_class="audio", ago_s=95)
    gateway.go_back(gateway.press("bell-07", ago_s=6))


def _all_is_shown(page: Page, gateway: FakeGateway, role: str) -> None:
    _alerts(gateway)
    page.locator(".tile[data-picture=video] .chip.live").wait_for()
    if role == "supervisor":
        page.locator(".lane").wait_for()


@pytest.mark.parametrize("lang", ["ko", "en"])
def test_axe_finds_nothing_on_sign_in(open_console: Open, lang: str) -> None:
    page = open_console(None, lang=lang)
    page.locator(".roles").wait_for()
    assert _violations(page) == []


@pytest.mark.parametrize("lang", ["ko", "en"])
def test_axe_finds_nothing_on_the_empty_list(open_console: Open, lang: str) -> None:
    assert _violations(open_console(lang=lang)) == []


@pytest.mark.parametrize("lang", ["ko", "en"])
def test_axe_finds_nothing_on_list_incident_and_timeline(open_console: Open, gateway: FakeGateway, lang: str) -> None:
    page = open_console("supervisor", lang=lang)
    _alerts(gateway)
    page.locator(".tile[data-picture=video] .chip.live").wait_for()
    page.locator(".lane").wait_for()
    assert _violations(page) == []
    page.locator("button.primary").click()
    page.get_by_role("button", name="F6").click()
    page.locator(".causes").wait_for()
    assert _violations(page) == []


@pytest.mark.parametrize("lang", ["ko", "en"])
@pytest.mark.parametrize(("width", "height"), [(1920, 1080), (1366, 768)])
@pytest.mark.parametrize("role", ["operator", "supervisor"])
def test_no_words_are_cut(
    open_console: Open, gateway: FakeGateway, role: str, width: int, height: int, lang: str
) -> None:
    page = open_console(role, width=width, height=height, lang=lang)
    _all_is_shown(page, gateway, role)
    assert page.evaluate(CUT) == []
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


@pytest.mark.parametrize("lang", ["ko", "en"])
def test_no_words_are_smaller_than_16_px_on_a_full_hd_screen(
    open_console: Open, gateway: FakeGateway, lang: str
) -> None:
    page = open_console("supervisor", lang=lang)
    _all_is_shown(page, gateway, "supervisor")
    assert page.evaluate(SMALL) == []


def test_nothing_flashes_when_motion_is_unwanted(open_console: Open, gateway: FakeGateway) -> None:
    page = open_console(still=True)
    gateway.press("bell-07")
    page.locator(".badge.flashing").first.wait_for()
    assert page.locator(".badge.flashing").first.evaluate("e => getComputedStyle(e).animationName") == "none"


def _red_px(page: Page, alert_id: str) -> int:
    """How much of an alert's badge is red on the screen now."""
    box = page.locator(f"#row-{alert_id} .cell-badge .badge").bounding_box()
    assert box is not None
    with av.open(io.BytesIO(page.screenshot(clip=box)), "r") as source:
        picture = next(source.decode(video=0)).to_ndarray(format="rgb24").astype(int)
    return int(((picture[..., 0] > 120) & (picture[..., 0] - picture[..., 2] > 90)).sum())


@pytest.mark.parametrize("phase_ms", [250, 750])
def test_an_unanswered_alert_is_the_more_emphatic_in_each_phase_of_its_flashing(
    open_console: Open, gateway: FakeGateway, phase_ms: int
) -> None:
    page = open_console()
    answered = gateway.press("bell-12")
    page.locator(".headline").wait_for()
    page.keyboard.press("F2")
    page.locator(f"#row-{answered}.acked").wait_for()
    waiting = gateway.press("bell-07")
    page.locator(".pill").wait_for()  # the list stands still while somebody works in it: new alerts are told there
    page.keyboard.press("F8")
    page.locator(f"#row-{waiting}[aria-selected=true]").wait_for()
    page.evaluate("at => document.getAnimations().forEach(a => { a.pause(); a.currentTime = at; })", phase_ms)
    assert _red_px(page, waiting) > _red_px(page, answered) > 0


def test_the_language_is_one_press_away_and_stays(open_console: Open) -> None:
    page = open_console()
    page.get_by_role("button", name="English").click()
    expect(page.locator("html")).to_have_attribute("lang", "en")
    expect(page.locator("#list-title")).to_have_text("Alerts")
    page.reload()
    expect(page.locator("#list-title")).to_have_text("Alerts")
