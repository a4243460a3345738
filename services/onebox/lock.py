"""One `up` per data directory. The kernel gives the lock back when its holder ends, however that is."""

import fcntl
import os
from pathlib import Path
from typing import IO

from services.runtime.errors import SettingsError


def take(file: Path) -> IO[str]:
    """Take the lock and write our process id into it; closing the file gives it back.

    Raises:
        SettingsError: another process has it.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    opened = file.open("a+")
    try:
        fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        opened.close()
        raise _in_use(file, holder(file)) from None
    opened.truncate(0)
    opened.write(f"{os.getpid()}\n")
    opened.flush()
    return opened


def refuse_second(file: Path) -> None:
    """Look whether the lock can be had, before anything else is in the second one's way.

    Raises:
        SettingsError: another process has it.
    """
    if (pid := holder(file)) is not None:
        raise _in_use(file, pid)


def _in_use(file: Path, pid: int | None) -> SettingsError:
    return SettingsError(
        f"a box runs on {file.parent} already, with process id {pid or 'unknown'}; "
        "cure: use that one (endpoints.json there has its addresses), stop it, or give this one another --data DIR"
    )


def holder(file: Path) -> int | None:
    """Return the process id of who has the lock now, if anybody has."""
    try:
        with file.open() as opened:
            try:
                fcntl.flock(opened, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except OSError:
                return int(opened.read().strip() or 0) or None
    except (OSError, ValueError):
        return None
    return None
