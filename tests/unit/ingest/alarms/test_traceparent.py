"""The trace context of a press is the caller's where it is valid."""

import pytest

from services.ingest.alarms.traceparent import given_or_new

VALID = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def test_a_valid_context_is_kept() -> None:
    assert given_or_new(VALID) == VALID


@pytest.mark.parametrize(
    "header",
    [None, "", "x", VALID.upper(), "ff" + VALID[2:], VALID.replace("0af7651916cd43dd8448eb211c80319c", "0" * 32)],
)
def test_anything_else_becomes_a_new_valid_one(header: str | None) -> None:
    made = given_or_new(header)

    assert made != header
    assert given_or_new(made) == made
