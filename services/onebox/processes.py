"""Child processes of one box: started, their output kept in bounded files, ended within a deadline.

A child never outlives us: the kernel kills it when the thread that started it ends (Linux,
PR_SET_PDEATHSIG), so `start` is called from a thread that lives as long as the child should.
Output passes a thread per child, not the event loop: a busy or absent loop must not block a child.
"""

import asyncio
import ctypes
import os
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, Final

PR_SET_PDEATHSIG: Final = 1
LOG_BYTES_MAX: Final = 8 * 1024 * 1024
LINES_KEPT: Final = 40
PUMP_GRACE_S: Final = 1.0
_LIBC: Final = ctypes.CDLL(None) if sys.platform == "linux" else None  # loaded before any fork


class BoundedLog:
    """A file and one older half: together at most `bytes_max`. Written by one thread."""

    def __init__(self, path: Path, *, bytes_max: int = LOG_BYTES_MAX) -> None:
        self._path = path
        self._half_bytes = bytes_max // 2
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file: IO[bytes] = path.open("ab", buffering=0)
        self._bytes = self._file.tell()

    def write(self, line: bytes) -> None:
        """Append a line; a full disk loses lines, never the child that says them."""
        if self._bytes + len(line) > self._half_bytes:
            self._turn()
        try:
            self._bytes += self._file.write(line) or 0
        except OSError:
            self._bytes = self._half_bytes  # turn at the next line, which frees the older half

    def _turn(self) -> None:
        self._file.close()
        self._path.replace(self._path.with_name(f"{self._path.name}.1"))
        self._file = self._path.open("ab", buffering=0)
        self._bytes = 0

    def close(self) -> None:
        self._file.close()


class Child:
    """One run of one program."""

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        *,
        log: Path,
        environ: Mapping[str, str],
        directory: Path | None = None,
        on_line: Callable[[str], None] | None = None,
    ) -> None:
        self.name = name
        self.exited = threading.Event()
        self.last_lines: deque[str] = deque(maxlen=LINES_KEPT)
        self._on_line = on_line
        self._log = BoundedLog(log)
        self._lock = threading.Lock()
        self._at_exit: list[Callable[[], object]] = []
        self._process = subprocess.Popen(  # noqa: S603 - the command is ours, no shell takes part
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=dict(environ),
            cwd=directory,
            start_new_session=True,  # Ctrl-C reaches us alone; we stop the children in order
            preexec_fn=_die_with(os.getpid()),  # noqa: PLW1509 - prctl and getppid only, resolved before the fork
        )
        self._pump = threading.Thread(target=self._read, name=f"log-{name}", daemon=True)
        self._pump.start()
        threading.Thread(target=self._await_end, name=f"exit-{name}", daemon=True).start()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        return self._process.poll()

    def signal(self, number: signal.Signals) -> None:
        """Send a signal; a child that has ended is no error."""
        self._process.send_signal(number)

    def wait_exit(self, timeout_s: float) -> bool:
        """Block until the child has ended or the deadline passes; tell whether it has ended."""
        return self.exited.wait(timeout_s)

    async def exit(self) -> int:
        """Wait for the end and return the status."""
        loop = asyncio.get_running_loop()
        done = asyncio.Event()

        def wake() -> None:
            if not loop.is_closed():
                loop.call_soon_threadsafe(done.set)

        self.when_exited(wake)
        await done.wait()
        return self._process.wait()

    def when_exited(self, call: Callable[[], object]) -> None:
        """Call from another thread when the child has ended; at once when it has already."""
        with self._lock:
            if not self.exited.is_set():
                self._at_exit.append(call)
                return
        call()

    def end(self, grace_s: float) -> bool:
        """SIGTERM, then SIGKILL after the grace; tell whether SIGTERM was enough."""
        self.signal(signal.SIGTERM)
        if self.wait_exit(grace_s):
            return True
        self.signal(signal.SIGKILL)
        self.exited.wait()
        return False

    async def end_within(self, grace_s: float) -> bool:
        """Do as `end` does, without blocking the loop."""
        self.signal(signal.SIGTERM)
        try:
            await asyncio.wait_for(self.exit(), grace_s)
        except TimeoutError:
            self.signal(signal.SIGKILL)
            await self.exit()
            return False
        return True

    @property
    def last_line(self) -> str:
        """What it said last, stack frames left out."""
        said = [line for line in self.last_lines if line and not line.startswith(("\t", " "))]
        return said[-1] if said else "nothing"

    def _read(self) -> None:
        output = self._process.stdout
        if output is None:  # pragma: no cover - it is a pipe
            return
        with output:
            for raw in iter(lambda: output.readline(1 << 16), b""):
                self._log.write(raw)
                line = raw.decode(errors="replace").rstrip()
                self.last_lines.append(line)
                if self._on_line is not None:
                    self._on_line(line)
        self._log.close()

    def _await_end(self) -> None:
        self._process.wait()
        self._pump.join(PUMP_GRACE_S)  # a grandchild may hold the pipe open; the child has ended all the same
        with self._lock:
            self.exited.set()
        for call in self._at_exit:
            call()


def _die_with(parent: int) -> Callable[[], None] | None:
    """Return what the child does between fork and exec: ask to be killed with its parent."""
    if _LIBC is None:
        return None
    prctl, getppid, leave = _LIBC.prctl, os.getppid, os._exit

    def ask() -> None:
        prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if getppid() != parent:  # it died before we asked
            leave(1)

    return ask
