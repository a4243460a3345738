"""The committed JSON Schemas are those of the Structs."""

from pathlib import Path

from services.contracts.schema import schemas

SCHEMAS = Path(__file__).parents[2] / "services/contracts/schemas"


def test_regenerating_the_schemas_leaves_the_tree_unchanged() -> None:
    committed = {path.name: path.read_bytes() for path in SCHEMAS.glob("*.json")}

    assert committed == schemas(), "run: python tests/contract/regenerate.py"
