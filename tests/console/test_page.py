"""The page as it is delivered: words, size, origin, lock. These need no browser but the last."""

import json
from typing import Any, get_args

import pytest

from services.contracts import alarm, alert, gap, timeline
from services.runtime.identity import ROLES
from tests.console.conftest import DIST, ROOT, Open
from tests.console.fake_gateway import FakeGateway

WEB = ROOT / "web"
START_GZ_BYTES_MAX = 60 * 1024
WORDS: dict[str, tuple[str, ...]] = {
    "priority": get_args(alert.Priority),
    "state": get_args(alert.IsaState),
    "class": get_args(alarm.AlarmClass),
    "disposition": get_args(alert.DispositionCode),
    "gap": get_args(gap.GapCause),
    "timeline": get_args(timeline.TimelineState),
    "refusal": tuple(word for word in get_args(alert.CommandResult) if word != "applied"),
    "role": ROLES,
    "duty": ROLES,
    "live_err": ("unknown_camera", "forbidden", "not_recording", "no_still", "overload"),
}


def _words(lang: str) -> dict[str, str]:
    words: dict[str, str] = json.loads((WEB / "src" / "i18n" / f"{lang}.json").read_text(encoding="utf-8"))
    return words


def test_both_dictionaries_have_the_same_keys_and_places() -> None:
    ko, en = _words("ko"), _words("en")
    assert sorted(ko) == sorted(en)
    assert [key for key in ko if ko[key].count("{") != en[key].count("{") or not ko[key] or not en[key]] == []


@pytest.mark.parametrize("group", sorted(WORDS))
def test_every_closed_word_of_the_contracts_has_words(group: str) -> None:
    assert [word for word in WORDS[group] if f"{group}.{word}" not in _words("ko")] == []


def test_the_lock_file_names_no_host() -> None:
    assert '"resolved"' not in (WEB / "package-lock.json").read_text(encoding="utf-8")


def test_what_the_console_starts_with_stays_in_its_budget() -> None:
    if not (DIST / "build.json").is_file():
        pytest.skip("the page is not built: cd web && npm ci --ignore-scripts && npm run build")
    facts: dict[str, Any] = json.loads((DIST / "build.json").read_text(encoding="utf-8"))
    assert facts["start_gz_bytes"] <= START_GZ_BYTES_MAX


def test_the_page_asks_no_other_origin(open_console: Open, gateway: FakeGateway) -> None:
    page = open_console(None)
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.reload()
    page.locator(".roles").wait_for()
    assert asked
    assert [url for url in asked if not url.startswith(gateway.origin)] == []


def test_the_page_has_an_icon_of_its_own(open_console: Open, gateway: FakeGateway) -> None:
    page = open_console(None)
    address = page.locator("link[rel=icon]").get_attribute("href")
    answer = page.request.get(f"{gateway.origin}{address}")
    assert answer.status == 200
    assert answer.headers["content-type"].startswith("image/svg+xml")
