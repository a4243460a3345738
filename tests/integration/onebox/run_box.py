"""A box with stub services, for tests that kill `up` itself: `python run_box.py DIR`."""

import sys
from collections.abc import Mapping
from pathlib import Path

from rich.console import Console

from services.onebox.box import OneBox
from services.onebox.layout import Layout
from services.onebox.programs import Program
from services.onebox.up import run_box
from services.runtime.clock import SystemClock

STUB = Path(__file__).with_name("stub_service.py")


def stubs(_: Layout, ports: Mapping[str, int]) -> list[Program]:
    """Return two services that do nothing."""
    return [
        Program(name=name, command=[sys.executable, str(STUB), str(port)], ops_port=port)
        for name, port in (("ingest", ports["ingest ops"]), ("archive", ports["archive ops"]))
    ]


if __name__ == "__main__":
    console = Console()
    box = OneBox(Path(sys.argv[1]), ports="free", services=stubs, clock=SystemClock(), say=console.print)
    sys.exit(run_box(box, console))
