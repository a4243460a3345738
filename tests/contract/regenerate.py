"""Write the JSON Schemas of the contracts: `python tests/contract/regenerate.py`."""

import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from services.contracts.schema import schemas  # noqa: E402 - the path comes first

SCHEMAS = ROOT / "services/contracts/schemas"


def main() -> None:
    """Write what is new, delete what is gone."""
    wanted = schemas()
    for stale in {path.name for path in SCHEMAS.glob("*.json")} - wanted.keys():
        (SCHEMAS / stale).unlink()
    for name, text in wanted.items():
        (SCHEMAS / name).write_bytes(text)


if __name__ == "__main__":
    main()
