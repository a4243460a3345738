"""What one box takes from the environment; everything else comes from the command line."""

import os
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
"""The checkout: `jgo.lock.toml`, `web/` and the caches stand there."""


def cache_directory() -> Path:
    """Return where downloads are kept between runs: SAFEALLEY_CACHE, else `.cache` of the checkout."""
    named = os.environ.get("SAFEALLEY_CACHE")
    return Path(named).expanduser() if named else REPOSITORY / ".cache"


def inherited_environment(*names: str) -> dict[str, str]:
    """Return those of the named variables that are set, for a child that shall see nothing else."""
    return {name: os.environ[name] for name in names if name in os.environ}


def environment_of_services() -> dict[str, str]:
    """Return the environment without settings: on one box the files that `up` writes are the only ones."""
    return {name: value for name, value in os.environ.items() if not name.startswith("SAFEALLEY_")}
