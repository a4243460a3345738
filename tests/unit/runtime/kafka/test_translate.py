"""Clients that do not do as they are told."""

import asyncio

import pytest

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
