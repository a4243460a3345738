"""Write the JSON Schemas, the OpenAPI description and the topics: `python tests/contract/regenerate.py`."""

import json
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(Path(__file__).parent)]

from reference_docs import (  # type: ignore[import-not-found]  # noqa: E402 - the path comes first
    metrics_document,
    settings_document,
)
from topics_table import chart_topics, document  # type: ignore[import-not-found]  # noqa: E402 - the path comes first

from services.contracts.openapi import openapi  # noqa: E402 - the path comes first
from services.contracts.schema import schemas  # noqa: E402 - the path comes first

SCHEMAS = ROOT / "services/contracts/schemas"
OPENAPI = ROOT / "docs/reference/openapi.json"
TOPICS = ROOT / "docs/reference/topics.md"
CHART_TOPICS = ROOT / "helm/files/topics.json"


def openapi_text() -> str:
    """Return the description as it is committed."""
    return json.dumps(openapi("v1"), indent=1, sort_keys=True, ensure_ascii=False) + "\n"


def main() -> None:
    """Write what is new, delete what is gone."""
    wanted = schemas()
    for stale in {path.name for path in SCHEMAS.glob("*.json")} - wanted.keys():
        (SCHEMAS / stale).unlink()
    for name, text in wanted.items():
        (SCHEMAS / name).write_bytes(text)
    OPENAPI.parent.mkdir(parents=True, exist_ok=True)
    OPENAPI.write_text(openapi_text())
    TOPICS.write_text(document())
    TOPICS.with_name("settings.md").write_text(settings_document())
    TOPICS.with_name("metrics.md").write_text(metrics_document())
    CHART_TOPICS.write_text(chart_topics())


if __name__ == "__main__":
    main()
