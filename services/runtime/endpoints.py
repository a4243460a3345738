"""Reads what a running box says of itself: `DIR/endpoints.json`, which onebox writes."""

from pathlib import Path
from typing import TypeVar

import msgspec

from services.runtime.errors import SettingsError

T = TypeVar("T")


def read_endpoints(file: Path, into: type[T]) -> T:
    """Return the part of the file that `into` names.

    Raises:
        SettingsError: no box runs there, or the file cannot be read.
    """
    try:
        return msgspec.json.decode(file.read_bytes(), type=into)
    except FileNotFoundError:
        raise SettingsError(f"{file} is not there: start `safealley demo` or `up` first, or name its --data") from None
    except (OSError, msgspec.DecodeError):
        # Both texts could quote the file, and it holds tokens.
        raise SettingsError(f"{file} cannot be read: start `safealley demo` or `up` again") from None
