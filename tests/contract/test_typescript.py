"""The page's types are the Structs' (console.md 8.8)."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_regenerating_the_types_of_the_page_leaves_no_diff() -> None:
    command = [sys.executable, str(ROOT / "web" / "generate_contracts.py"), "--check"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
