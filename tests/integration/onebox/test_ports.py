"""Reservations against the kernel: who may bind, who may not."""

import asyncio
import socket

import pytest

from services.onebox.ports import reserve
from services.runtime.errors import SettingsError


async def test_a_child_can_listen_on_a_reserved_port_and_nobody_else_can_take_it() -> None:
    with reserve({"gateway": 0}) as held:
        port = held.ports["gateway"]
        with socket.socket() as other, pytest.raises(OSError, match="in use"):
            other.bind(("127.0.0.1", port))
        server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", port)
        server.close()
        await server.wait_closed()


def test_all_busy_ports_are_named_at_once_with_the_cure() -> None:
    with socket.create_server(("127.0.0.1", 0)) as first, socket.create_server(("127.0.0.1", 0)) as second:
        one, two = first.getsockname()[1], second.getsockname()[1]
        with pytest.raises(SettingsError, match=rf"port {one} \(gateway\), {two} \(archive\) .*; cure: .*--ports free"):
            reserve({"gateway": one, "archive": two, "live": 0})


def test_many_reserved_ports_are_all_different() -> None:
    with reserve({str(number): 0 for number in range(50)}) as held:
        assert len(set(held.ports.values())) == 50
