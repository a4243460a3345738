"""Clients that do not do as they are told."""

import asyncio

import pytest

from services.runtime.errors import RetryLater
from services.runtime.kafka import translate


class Deaf:
    """A client whose stop swallows a cancellation, as aiokafka's does while its broker is away."""

    def __init__(self) -> None:
        self.heard = asyncio.Event()

    async def start(self) -> None:
        """Nothing to start."""

    async def stop(self) -> None:
        while not self.heard.is_set():
            try:
                await self.heard.wait()
            except asyncio.CancelledError:
                continue


async def test_a_client_that_swallows_its_cancellation_is_abandoned(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(translate, "STOP_S", 0.01)
    client = Deaf()
    await asyncio.wait_for(translate.stop(client, "deaf"), 5)
    client.heard.set()
    await asyncio.gather(*translate._ending)


class SlowClient:
    """Starts when told to; knows whether its start was cut off."""

    def __init__(self) -> None:
        self.may_start = asyncio.Event()
        self.happened: list[str] = []

    async def start(self) -> None:
        try:
            await self.may_start.wait()
        except asyncio.CancelledError:
            self.happened.append("cut off")
            raise
        self.happened.append("started")

    async def stop(self) -> None:
        self.happened.append("stopped")


async def test_a_start_nobody_waits_for_ends_by_itself_and_is_stopped() -> None:
    client = SlowClient()
    opening = asyncio.create_task(translate.start(client, "reader"))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    opening.cancel()
    await asyncio.sleep(0)
    client.may_start.set()
    with pytest.raises(asyncio.CancelledError):
        await opening
    assert client.happened == ["started", "stopped"]


async def test_a_start_that_does_not_end_is_cut_off_at_the_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(translate, "START_S", 0.01)
    monkeypatch.setattr(translate, "LEFT_S", 0.01)
    client = SlowClient()
    with pytest.raises(RetryLater):
        await translate.start(client, "reader")
    assert client.happened == ["cut off", "stopped"]


class CancelsItself(SlowClient):
    """A client whose stop waits for a task that it cancelled, as aiokafka's fetcher does with its broker away."""

    async def stop(self) -> None:
        task = asyncio.create_task(self.may_start.wait())
        task.cancel()
        await task


async def test_a_client_that_cancels_its_own_stop_does_not_cancel_us() -> None:
    await translate.stop(CancelsItself(), "reader")
