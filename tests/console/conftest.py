"""Debian's Chromium, a fake gateway and signed-in pages for the tests of the console."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import pytest
from playwright.sync_api import Browser, BrowserContext, BrowserType, Page, expect, sync_playwright

from tests.console.fake_gateway import FakeGateway

ROOT: Final = Path(__file__).resolve().parents[2]
CHROMIUM: Final = "/usr/bin/chromium"
DIST: Final = ROOT / "web" / "dist"
AXE: Final = ROOT / "web" / "node_modules" / "axe-core" / "axe.min.js"
DEADLINE_MS: Final = 15_000
ARGUMENTS: Final = ("--no-sandbox", "--disable-dev-shm-usage")

Open = Callable[..., Page]


def missing() -> str | None:
    """Return what is missing for these tests, with the cure."""
    if not Path(CHROMIUM).exists():
        return "no /usr/bin/chromium: apt-get install chromium fonts-nanum"
    if not (DIST / "index.html").is_file():
        return "the page is not built: cd web && npm ci --ignore-scripts && npm run build"
    return None


@pytest.fixture(scope="session")
def chromium() -> Iterator[BrowserType]:
    reason = missing()
    if reason:
        pytest.skip(f"console tests need Chromium and the built page: {reason}")
    expect.set_options(timeout=DEADLINE_MS)
    with sync_playwright() as playwright:
        yield playwright.chromium


@pytest.fixture(scope="session")
def browser(chromium: BrowserType) -> Iterator[Browser]:
    """One for all files: each test opens a context of its own in it."""
    browser = chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
    yield browser
    browser.close()


@pytest.fixture
def gateway() -> Iterator[FakeGateway]:
    fake = FakeGateway(DIST)
    fake.start()
    yield fake
    fake.stop()


@pytest.fixture
def open_console(browser: Browser, gateway: FakeGateway) -> Iterator[Open]:
    """Open a window of its own, signed in with a role; fails the test on an error of the page."""
    contexts: list[BrowserContext] = []
    errors: list[str] = []

    def open_it(
        role: str | None = "operator",
        *,
        lang: str = "ko",
        width: int = 1920,
        height: int = 1080,
        still: bool = False,
        script: str = "",
        own_clock: bool = False,
    ) -> Page:
        """`script` runs before the page; `own_clock` lets the test put the page's clock on."""
        context = browser.new_context(
            viewport={"width": width, "height": height},
            locale="ko-KR",
            timezone_id="UTC",
            reduced_motion="reduce" if still else "no-preference",
        )
        context.set_default_timeout(DEADLINE_MS)
        context.add_init_script(f"if (!localStorage['safealley.lang']) localStorage['safealley.lang'] = '{lang}'")
        if script:
            context.add_init_script(script)
        if own_clock:
            context.clock.install()
        contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("console", lambda message: errors.append(message.text) if "Content Security" in message.text else None)
        page.goto(gateway.origin)
        if role is not None:
            number = ("operator", "supervisor", "records_officer", "police_liaison", "auditor", "admin").index(role)
            page.locator(".roles button").nth(number).click()
            page.locator(".link.live").wait_for()
        return page

    yield open_it
    for context in contexts:
        context.close()
    assert errors == []
