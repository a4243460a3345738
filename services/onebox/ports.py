"""Ports on loopback, held from before the first start until the end.

A reservation binds each port and never listens. Linux lets our children listen on it all the same,
since both sides set SO_REUSEADDR (asyncio, uvloop and Java do), but gives it to nobody else: no
other program takes it between our choice and a child's start, or while a child is restarted.
"""

import errno
import socket
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, Self

from services.runtime.errors import SettingsError

LOOPBACK: Final = "127.0.0.1"


class Reservation:
    """Named ports; `with` gives them back."""

    def __init__(self, sockets: Mapping[str, socket.socket]) -> None:
        self._sockets = dict(sockets)
        self.ports: Mapping[str, int] = MappingProxyType({name: s.getsockname()[1] for name, s in sockets.items()})

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    def release(self) -> None:
        """Give the ports back; a child that listens keeps its own."""
        for held in self._sockets.values():
            held.close()


def reserve(wanted: Mapping[str, int]) -> Reservation:
    """Hold these ports; 0 is any free one, chosen by the kernel.

    Raises:
        SettingsError: names every port that another program has, and the cure.
    """
    held: dict[str, socket.socket] = {}
    busy: list[str] = []
    for name, port in wanted.items():
        held[name] = bound = socket.socket()
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            bound.bind((LOOPBACK, port))
        except OSError as error:
            busy.append(f"{port} ({name}{'' if error.errno == errno.EADDRINUSE else f': {error.strerror}'})")
    if not busy:
        return Reservation(held)
    for bound in held.values():
        bound.close()
    raise SettingsError(
        f"port {', '.join(busy)} on {LOOPBACK} is taken by another program; "
        f"cure: stop it (`ss -ltnp` shows which it is), or use --ports free"
    )
