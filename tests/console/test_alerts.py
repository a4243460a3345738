"""An operator answers alerts by keyboard, beside a colleague who does the same."""

from typing import get_args

import pytest
from playwright.sync_api import Page, Route, expect

from services.contracts.alarm import AlarmClass
from services.contracts.alert import DispositionCode
from tests.console.conftest import Open
from tests.console.fake_gateway import FakeGateway
from tests.console.test_recorded import kst


def acknowledged(open_console: Open, gateway: FakeGateway) -> tuple[Page, str]:
    """An operator has acknowledged a press: the page, and the alert's id."""
    page = open_console()
    alert_id = gateway.press()
    page.locator(".headline").wait_for()
    page.keyboard.press("F2")
    page.locator(f"#row-{alert_id}.acked").wait_for()
    return page, alert_id


def test_an_emergency_opens_itself_and_is_answered_and_closed_by_keyboard(
    open_console: Open, gateway: FakeGateway
) -> None:
    page = open_console()
    alert_id = gateway.press("bell-07")
    expect(page.locator("#incident-title")).to_contain_text("비상벨 눌림")
    expect(page.locator(".headline .where")).to_contain_text("성북로 안심골목 7호")
    page.keyboard.press("F2")
    expect(page.locator(f"#row-{alert_id} .cell-state")).to_have_text("확인 demo-operator-1")
    page.keyboard.press("F6")
    page.locator(".causes").wait_for()
    page.keyboard.press("Digit3")
    expect(page.locator(".nothing")).to_contain_text("종결: 실수로 누름")
    disposition = gateway.alert(alert_id).disposition
    assert disposition is not None
    assert disposition.code == "Mistaken"


@pytest.mark.parametrize(
    ("alarm_class", "words"), [("bell", "미확인 · 버튼 복귀됨"), ("analytics", "미확인 · 신호 복귀됨")]
)
def test_an_unanswered_alert_whose_device_went_back_still_says_that_nobody_answered(
    open_console: Open, gateway: FakeGateway, alarm_class: AlarmClass, words: str
) -> None:
    page = open_console()
    alert_id = gateway.press(alarm_class=alarm_class)
    gateway.go_back(alert_id)
    expect(page.locator(f"#row-{alert_id}.waiting .cell-state")).to_have_text(words)


def test_a_recommended_112_code_is_not_taken_for_a_report(open_console: Open, gateway: FakeGateway) -> None:
    page = open_console()
    gateway.press()
    expect(page.locator(".headline .address")).to_contain_text("권장 112 코드 1 · 112 미신고")


def test_a_hangul_input_method_does_not_take_the_keys(open_console: Open, gateway: FakeGateway) -> None:
    page = open_console()
    alert_id = gateway.press()
    page.locator(".headline").wait_for()
    page.evaluate(
        "dispatchEvent(new KeyboardEvent('keydown', {code: 'F2', key: 'Process', isComposing: true, bubbles: true}))"
    )
    page.evaluate("document.body.dispatchEvent(new KeyboardEvent('keydown', {code: 'F2', key: 'ㅁ', bubbles: true}))")
    expect(page.locator(f"#row-{alert_id}.acked")).to_be_visible()
    assert gateway.alert(alert_id).version == 2


def test_of_two_operators_the_second_is_told_who_was_first_and_when(open_console: Open, gateway: FakeGateway) -> None:
    first, second = open_console(), open_console()
    alert_id = gateway.press()
    for page in (first, second):
        page.locator(".headline").wait_for()
    # The second console still sees the alert unacknowledged: its request is let go after the first one's answer.
    held: list[Route] = []
    second.route("**/ack", lambda route: held.append(route))  # noqa: PLW0108 - Playwright inspects the handler
    with second.expect_request("**/ack"):
        second.keyboard.press("F2")
    first.keyboard.press("F2")
    first.locator(".acked").first.wait_for()
    held[0].continue_()
    for place in (f"#row-{alert_id}", ".next-step"):
        expect(second.locator(place)).to_contain_text("이미 확인됨: demo-operator-1")
    expect(second.locator(".next-step")).to_contain_text(":")
    assert gateway.alert(alert_id).people.acked_by == "demo-operator-1"


def test_a_closing_that_came_second_names_who_closed(open_console: Open, gateway: FakeGateway) -> None:
    first, second = open_console(), open_console()
    alert_id = gateway.press()
    first.locator(".headline").wait_for()
    first.keyboard.press("F2")
    for page in (first, second):
        page.locator(f"#row-{alert_id}.acked").wait_for()
        page.keyboard.press("F6")
        page.locator(".causes").wait_for()
    held: list[Route] = []
    second.route("**/dispose", lambda route: held.append(route))  # noqa: PLW0108 - Playwright inspects the handler
    with second.expect_request("**/dispose"):
        second.keyboard.press("Digit1")
    first.keyboard.press("Digit2")
    first.locator(".nothing").wait_for()
    held[0].continue_()
    expect(second.locator(f"#row-{alert_id} .cell-state")).to_contain_text("이미 종결됨: demo-operator-1")


def test_a_role_that_may_not_answer_sees_no_button(open_console: Open, gateway: FakeGateway) -> None:
    page = open_console("police_liaison")
    gateway.press()
    expect(page.locator(".sentence")).to_contain_text("이 역할은 확인·종결할 수 없습니다")
    expect(page.locator("button.primary")).to_have_count(0)


def test_new_alerts_do_not_move_the_row_an_operator_works_on(open_console: Open, gateway: FakeGateway) -> None:
    page = open_console()
    alert_id = gateway.press("bell-12", priority="high", alarm_class="audio")
    page.locator(f"#row-{alert_id}").click()
    before = page.locator(f"#row-{alert_id}").bounding_box()
    newer = gateway.press("bell-07")
    expect(page.locator(".pill")).to_contain_text("새 경보 1건")
    expect(page.locator(".pill")).to_contain_text("성북로 안심골목 7호")
    assert page.locator(f"#row-{alert_id}").get_attribute("aria-selected") == "true"
    assert page.locator(f"#row-{alert_id}").evaluate("e => e.style.transform") == "translateY(0px)"
    assert before is not None
    page.keyboard.press("F8")
    expect(page.locator(f"#row-{newer}")).to_have_attribute("aria-selected", "true")
    expect(page.locator(".pill")).to_have_count(0)


def test_of_many_alerts_only_a_window_is_in_the_page(open_console: Open, gateway: FakeGateway) -> None:
    for _ in range(300):
        gateway.press("bell-12", priority="low", alarm_class="health")
    page = open_console()
    expect(page.locator(".list-head")).to_contain_text("전체 300건")
    assert page.locator(".row").count() <= 60
    page.keyboard.press("End")
    expect(page.locator("[aria-posinset='300']")).to_be_in_viewport()


def test_an_emergency_is_receipted_as_delivered_painted_and_sounded(open_console: Open, gateway: FakeGateway) -> None:
    page = open_console()
    alert_id = gateway.press()
    page.locator(".headline").wait_for()
    wanted = {(alert_id, "delivered"), (alert_id, "painted"), (alert_id, "sounded")}
    gateway.wait_for(lambda: wanted <= set(gateway.seen.receipts))


def test_the_bar_counts_unanswered_alerts_by_the_names_of_their_grades(
    open_console: Open, gateway: FakeGateway
) -> None:
    page = open_console()
    gateway.press()
    expect(page.locator(".counts")).to_have_text("미확인:긴급 1건·높음 0건")


def test_the_bar_says_the_state_of_the_sound_as_text_and_offers_the_action_as_a_button(open_console: Open) -> None:
    page = open_console()
    expect(page.locator("span.sound")).to_have_text("소리 켜짐")
    page.get_by_role("button", name="2분 음소거").click()
    expect(page.locator("span.sound")).to_contain_text("음소거 중")
    page.get_by_role("button", name="소리 다시 켜기").click()
    expect(page.locator("span.sound")).to_have_text("소리 켜짐")


def test_while_muted_nothing_is_receipted_as_sounded(open_console: Open, gateway: FakeGateway) -> None:
    page = open_console()
    page.keyboard.press("F3")
    expect(page.locator(".sound.muted")).to_contain_text("남음")
    alert_id = gateway.press()
    gateway.wait_for(lambda: (alert_id, "painted") in gateway.seen.receipts)
    assert (alert_id, "sounded") not in gateway.seen.receipts


def test_a_command_that_takes_long_is_shown_as_accepted_until_its_result(
    open_console: Open, gateway: FakeGateway
) -> None:
    page = open_console()
    alert_id = gateway.press()
    page.locator(".headline").wait_for()
    gateway.decide_later()
    page.keyboard.press("F2")
    expect(page.locator(f"#row-{alert_id} .cell-state")).to_have_text("접수됨, 결과 대기")
    page.keyboard.press("F2")  # it is on its way already
    gateway.decide_now()
    expect(page.locator(f"#row-{alert_id} .cell-state")).to_have_text("확인 demo-operator-1")
    assert len(gateway.seen.command_keys) == 1


def test_a_late_refusal_is_told_in_words(open_console: Open, gateway: FakeGateway) -> None:
    page = open_console()
    alert_id = gateway.press()
    page.locator(".headline").wait_for()
    gateway.decide_later()
    page.keyboard.press("F2")
    page.locator(f"#row-{alert_id}", has_text="접수됨").wait_for()
    gateway.decide_now("stale")
    expect(page.locator(f"#row-{alert_id} .cell-state")).to_contain_text("거절됨: 그사이 경보가 바뀌었습니다")


def test_of_two_answered_late_the_second_learns_who_was_first(open_console: Open, gateway: FakeGateway) -> None:
    first, second = open_console(), open_console()
    alert_id = gateway.press()
    gateway.decide_later()
    for page in (first, second):
        page.locator(".headline").wait_for()
        page.keyboard.press("F2")
        page.locator(f"#row-{alert_id}", has_text="접수됨").wait_for()
    gateway.decide_now()
    expect(first.locator(f"#row-{alert_id} .cell-state")).to_have_text("확인 demo-operator-1")
    expect(second.locator(f"#row-{alert_id} .cell-state")).to_contain_text("이미 확인됨: demo-operator-1")


def test_an_alert_pressed_again_still_says_when_it_was_pressed_first(open_console: Open, gateway: FakeGateway) -> None:
    page = open_console()
    alert_id = gateway.press(ago_s=125)
    page.locator(".headline").wait_for()
    gateway.press_again(alert_id)
    expect(page.locator(".headline-age")).to_contain_text(
        f"2번째 발생 · 처음 {kst(gateway.alert(alert_id).received_us)}"
    )


def test_enter_after_f6_says_nothing_of_an_emergency(open_console: Open, gateway: FakeGateway) -> None:
    page, alert_id = acknowledged(open_console, gateway)
    page.keyboard.press("F6")
    page.locator(".causes:focus").wait_for()
    page.keyboard.press("Enter")
    page.keyboard.press("Digit2")
    page.locator(f"#row-{alert_id}.closed").wait_for()
    disposition = gateway.alert(alert_id).disposition
    assert disposition is not None
    assert disposition.code == get_args(DispositionCode)[1]


def test_a_digit_typed_right_after_f6_chooses_a_cause(open_console: Open, gateway: FakeGateway) -> None:
    page, alert_id = acknowledged(open_console, gateway)
    # Both keys arrive before the browser has painted, as on a busy screen.
    page.evaluate("""async () => {
      const press = code => document.activeElement.dispatchEvent(new KeyboardEvent('keydown', {code, bubbles: true}));
      press('F6');
      for (let i = 0; i < 10; i++) await null;
      press('Digit2');
    }""")
    page.locator(f"#row-{alert_id}.closed").wait_for()
