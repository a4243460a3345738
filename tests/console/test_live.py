"""The picture of the nearest camera: moving, or honest about why not."""

from playwright.sync_api import expect

from tests.console.conftest import Open
from tests.console.fake_gateway import FakeGateway
from tests.console.moving import live, moves


def test_the_nearest_camera_shows_a_moving_picture_with_its_age(open_console: Open, gateway: FakeGateway) -> None:
    page = open_console()
    alert_id = gateway.press("bell-07")
    live(page)
    assert moves(page)
    age = page.locator(".tile .age").get_attribute("data-age")
    assert age is not None
    assert float(age) < 3
    assert [(sub.camera, sub.purpose) for sub in gateway.seen.subs] == [("cam-07a", alert_id)]


def test_a_camera_that_stops_is_covered_and_never_looks_live(open_console: Open, gateway: FakeGateway) -> None:
    page = open_console()
    gateway.press("bell-07")
    live(page)
    gateway.freeze("cam-07a")
    expect(page.locator(".tile .cover")).to_contain_text("멈춘 영상")
    expect(page.locator(".tile .chip.live")).to_have_count(0)
    gateway.thaw("cam-07a")
    expect(page.locator(".tile .chip.live")).to_be_visible()
    expect(page.locator(".tile .cover")).to_have_count(0)


def test_a_gap_is_told_in_words(open_console: Open, gateway: FakeGateway) -> None:
    page = open_console()
    gateway.press("bell-07")
    live(page)
    gateway.tell_gap("cam-07a", "network_loss")
    expect(page.locator(".tile .cover")).to_contain_text("영상 없음: 통신 끊김")


def test_an_h265_camera_says_why_and_shows_a_still(open_console: Open, gateway: FakeGateway) -> None:
    page = open_console()
    gateway.press("bell-12")
    expect(page.locator(".tile .why")).to_contain_text("H.265 영상을 재생하지 못해")
    expect(page.locator(".tile .chip").first).to_have_text("정지 화면")
    page.wait_for_function(
        "() => { const c = document.querySelector('.tile canvas');"
        " const d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data;"
        " return c.width === 640 && d.some((value, at) => at % 4 !== 3 && value > 200); }"
    )
    assert [sub.want for sub in gateway.seen.subs] == ["video", "still"]


def test_another_camera_is_one_press_away(open_console: Open, gateway: FakeGateway) -> None:
    page = open_console()
    gateway.press("bell-07")
    live(page)
    page.get_by_role("button", name="cam-07b").click()
    expect(page.locator(".tile .why")).to_be_visible()


def test_a_role_without_live_pictures_is_told_so_and_asks_for_none(open_console: Open, gateway: FakeGateway) -> None:
    page = open_console("admin")
    gateway.press("bell-07")
    expect(page.locator(".not-allowed").first).to_contain_text("실시간 영상을 볼 수 없습니다")
    assert gateway.seen.subs == []
