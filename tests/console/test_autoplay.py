"""A browser with a screen keeps a page silent until somebody touched it; the console must not pretend otherwise.

Chromium without a head has no such rule, so that this runs under Xvfb.
"""

import os
import shutil
import subprocess
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, BrowserType, expect

from tests.console.conftest import ARGUMENTS, CHROMIUM, DEADLINE_MS
from tests.console.fake_gateway import FakeGateway


@pytest.fixture(scope="module")
def screen() -> Iterator[str]:
    if shutil.which("Xvfb") is None:
        pytest.skip("no Xvfb for a browser with a screen: apt-get install xvfb")
    read_end, write_end = os.pipe()
    server = subprocess.Popen(
        ["Xvfb", "-displayfd", str(write_end), "-screen", "0", "1400x900x24", "-nolisten", "tcp"],
        pass_fds=[write_end],
        stderr=subprocess.DEVNULL,
    )
    os.close(write_end)
    with os.fdopen(read_end) as number:
        display = number.readline().strip()
    yield f":{display}"
    server.terminate()
    server.wait(10)


@pytest.fixture(scope="module")
def headed(chromium: BrowserType, screen: str) -> Iterator[Browser]:
    environ: dict[str, str | float | bool] = {**os.environ, "DISPLAY": screen}
    browser = chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS, headless=False, env=environ)
    yield browser
    browser.close()


def test_a_page_nobody_touched_says_that_it_is_silent_and_one_key_makes_it_heard(
    headed: Browser, gateway: FakeGateway
) -> None:
    context = headed.new_context()
    context.set_default_timeout(DEADLINE_MS)
    context.request.post(f"{gateway.origin}/api/v1/session", data={"role": "operator"})
    page = context.new_page()
    page.goto(gateway.origin)
    page.locator(".link.live").wait_for()
    alert_id = gateway.press("bell-07")
    page.locator(f"#row-{alert_id}").wait_for()
    expect(page.locator(".fault.sound-off")).to_be_visible()
    gateway.wait_for(lambda: (alert_id, "painted") in gateway.seen.receipts)
    assert (alert_id, "sounded") not in gateway.seen.receipts
    page.keyboard.press("ArrowDown")
    gateway.wait_for(lambda: (alert_id, "sounded") in gateway.seen.receipts)
    expect(page.locator(".fault.sound-off")).to_have_count(0)
    context.close()
