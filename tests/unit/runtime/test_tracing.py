import pytest

from services.runtime.tracing import new_trace, parse

SPEC = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


def test_a_context_reads_back_as_it_was_written() -> None:
    for sampled in (False, True):
        context = new_trace(sampled=sampled)
        assert parse(str(context)) == context


def test_the_example_of_the_specification_is_read() -> None:
    context = parse(SPEC)
    assert context is not None
    assert (context.trace_id, context.span_id, context.sampled) == (SPEC[3:35], SPEC[36:52], True)


def test_a_child_stays_in_its_trace() -> None:
    context = new_trace(sampled=True)
    child = context.child()
    assert (child.trace_id, child.sampled) == (context.trace_id, True)
    assert child.span_id != context.span_id


def test_a_later_version_may_say_more() -> None:
    assert parse("01" + SPEC[2:] + "-more") is not None


@pytest.mark.parametrize(
    "text",
    [
        None, "", "garbage", SPEC.upper(), SPEC[:-1], SPEC + "-more", "ff" + SPEC[2:],
        "00-" + "0" * 32 + SPEC[35:], SPEC[:36] + "0" * 16 + "-01",
    ],
)  # fmt: skip
def test_what_is_no_traceparent_is_none(text: str | None) -> None:
    assert parse(text) is None
