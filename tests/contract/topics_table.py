"""The topics as a document and as the chart needs them."""

import json

from services.contracts.topics import DEAD_LETTER_PARTITIONS, TOPICS, Topic, dead_letter_settings

PARTIES = ("registry", "ingest", "alerting", "gateway", "archive", "outcome-watch")


def chart_topics() -> str:
    """Return the topics of a city as the chart's job creates them."""
    topics = [{"name": t.name, "partitions": t.city_partitions, "settings": t.city_settings()} for t in TOPICS]
    topics += [
        {"name": t.dead_letters, "partitions": DEAD_LETTER_PARTITIONS, "settings": dead_letter_settings()}
        for t in TOPICS
    ]
    return json.dumps(topics, indent=1) + "\n"


def document() -> str:
    """Return docs/reference/topics.md."""
    lines = [
        "# Topics",
        "",
        "Generated from `services/contracts/topics.py` by `python tests/contract/regenerate.py`.",
        "",
        "| topic | key | types | kept | partitions in a city |",
        "|---|---|---|---|---|",
        *(_row(topic) for topic in TOPICS),
        "",
        "Each has a dead-letter topic `<topic>.dlq`, kept 7 days.",
        "",
        "## Who may read and write",
        "",
        f"| topic | {' | '.join(PARTIES)} |",
        f"|---|{'---|' * len(PARTIES)}",
        *(f"| `{topic.name}` | {' | '.join(_access(topic, party) for party in PARTIES)} |" for topic in TOPICS),
        "",
    ]
    return "\n".join(lines)


def _row(topic: Topic) -> str:
    types = ", ".join(f"`{body.TYPE.removeprefix('kr.safealley.')}`" for body in topic.types)  # type: ignore[attr-defined]
    kept = "compacted" if topic.compacted else f"{topic.retention_ms // 3_600_000} h"
    return f"| `{topic.name}` | {topic.key} | {types} | {kept} | {topic.city_partitions} |"


def _access(topic: Topic, party: str) -> str:
    return " ".join(
        word for word, parties in (("read", topic.consumers), ("write", topic.producers)) if party in parties
    )
