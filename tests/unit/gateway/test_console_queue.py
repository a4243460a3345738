"""What waits for one console is bounded, and an emergency is never merged away."""

from collections.abc import Callable
from typing import Any

import pytest

from services.contracts.alert import Alert
from services.gateway.console_queue import ConsoleQueue
from services.gateway.view import AlertView, Held
from services.runtime.kafka_port import Record


@pytest.fixture
def held(make_alert: Callable[..., Alert], make_record: Callable[..., Record]) -> Callable[..., Held]:
    view = AlertView()

    def make(**changes: Any) -> Held:
        held = view.apply(make_record(make_alert(**changes)))
        assert held is not None
        return held

    return make


def test_the_newest_version_of_an_alert_wins(held: Callable[..., Held]) -> None:
    queue = ConsoleQueue()

    queue.put(held(priority="low", version=1))
    queue.put(held(priority="low", version=2))

    assert [item.alert.version for item in queue.take().items] == [2]


def test_every_version_of_an_emergency_is_sent(held: Callable[..., Held]) -> None:
    queue = ConsoleQueue()

    queue.put(held(version=1))
    queue.put(held(version=2))

    assert [item.alert.version for item in queue.take().items] == [1, 2]


def test_an_emergency_overtakes_the_rest(held: Callable[..., Held]) -> None:
    queue = ConsoleQueue()
    queue.put(held(alert_id="l", priority="low"))
    queue.put(held(alert_id="e"))

    assert [item.alert.alert_id for item in queue.take().items] == ["e", "l"]


def test_a_frame_holds_at_most_64_and_says_whether_more_waits(held: Callable[..., Held]) -> None:
    queue = ConsoleQueue()
    for number in range(65):
        queue.put(held(alert_id=str(number), priority="low"))

    first, second = queue.take(), queue.take()

    assert (len(first.items), first.whole) == (64, False)
    assert (len(second.items), second.whole) == (1, True)


@pytest.mark.parametrize("bounds", [{"entries_max": 2}, {"bytes_max": 100}], ids=["entries", "bytes"])
def test_overflow_empties_the_queue_and_asks_for_a_snapshot(held: Callable[..., Held], bounds: dict[str, int]) -> None:
    queue = ConsoleQueue(**bounds)

    for number in range(3):
        queue.put(held(alert_id=str(number)))

    assert queue.overflowed
    assert (len(queue), queue.size_bytes, queue.urgent) == (0, 0, False)


def test_bytes_are_given_back(held: Callable[..., Held]) -> None:
    queue = ConsoleQueue()
    queue.put(held(priority="low"))
    queue.put(held(priority="low", version=2))
    queue.put(held())

    queue.take()

    assert (queue.size_bytes, queue.urgent) == (0, False)
