"""Ports on loopback: is one free, give me a free one, and what to say when one is not."""

import socket
from collections.abc import Mapping

from services.runtime.errors import SettingsError

LOOPBACK = "127.0.0.1"


def is_free(port: int, host: str = LOOPBACK) -> bool:
    """Tell whether a server could listen here now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as servers do: old connections do not count
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


def free_ports(count: int, host: str = LOOPBACK) -> list[int]:
    """Return different ports that are free now; another program may still be faster."""
    probes = [socket.socket() for _ in range(count)]
    try:
        for probe in probes:
            probe.bind((host, 0))
        return [probe.getsockname()[1] for probe in probes]
    finally:
        for probe in probes:
            probe.close()


def refuse_busy(wanted: Mapping[str, int]) -> None:
    """Check all ports at once, so that one message names all that are busy.

    Raises:
        SettingsError: some port is taken.
    """
    busy = [f"{port} ({what})" for what, port in wanted.items() if not is_free(port)]
    if busy:
        raise SettingsError(
            f"port {', '.join(busy)} on {LOOPBACK} is taken by another program; "
            f"cure: stop it (`ss -ltnp` shows which it is), or use --ports free"
        )
