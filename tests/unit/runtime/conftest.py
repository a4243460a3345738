"""What the tests of `runtime` share."""

import logging
import sys
import threading
from collections.abc import Iterator

import pytest
import structlog


@pytest.fixture(autouse=True)
def _logging_as_found() -> Iterator[None]:
    """Put back what `log.configure` changes for the whole process."""
    root = logging.getLogger()
    found = (root.handlers[:], root.level, sys.excepthook, threading.excepthook, sys.unraisablehook)
    yield
    root.handlers[:], level, sys.excepthook, threading.excepthook, sys.unraisablehook = found
    root.setLevel(level)
    logging.captureWarnings(capture=False)
    structlog.reset_defaults()
