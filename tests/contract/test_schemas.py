"""The committed JSON Schemas and the OpenAPI description are those of the Structs."""

import json
import runpy
from pathlib import Path

from services.contracts.openapi import openapi
from services.contracts.schema import schemas

SCHEMAS = Path(__file__).parents[2] / "services/contracts/schemas"


def test_regenerating_the_schemas_leaves_the_tree_unchanged() -> None:
    committed = {path.name: path.read_bytes() for path in SCHEMAS.glob("*.json")}

    assert committed == schemas(), "run: python tests/contract/regenerate.py"


def test_regenerating_the_openapi_description_leaves_it_unchanged() -> None:
    committed = (Path(__file__).parents[2] / "docs/reference/openapi.json").read_text()

    assert json.loads(committed) == json.loads(json.dumps(openapi("v1"))), "run: python tests/contract/regenerate.py"


def test_every_reference_of_the_openapi_description_resolves() -> None:
    description = openapi("v1")
    text = json.dumps(description)
    named = {part.split('"')[0] for part in text.split("#/components/schemas/")[1:]}

    assert named <= description["components"]["schemas"].keys()


def test_regenerating_the_table_of_topics_leaves_document_and_chart_unchanged() -> None:
    root = Path(__file__).parents[2]
    generated = runpy.run_path(str(Path(__file__).parent / "topics_table.py"))

    assert (root / "docs/reference/topics.md").read_text() == generated["document"]()
    assert (root / "helm/files/topics.json").read_text() == generated["chart_topics"]()


def test_regenerating_settings_and_metrics_leaves_the_documents_unchanged() -> None:
    reference = Path(__file__).parents[2] / "docs/reference"
    generated = runpy.run_path(str(Path(__file__).parent / "reference_docs.py"))

    assert (reference / "settings.md").read_text() == generated["settings_document"]()
    assert (reference / "metrics.md").read_text() == generated["metrics_document"]()
