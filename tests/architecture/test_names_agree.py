"""Code, documents and contracts name the same things (style: one name from file to screen)."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.contracts.topics import TOPICS

ROOT = Path(__file__).parents[2]
SERVICES = ("ingest", "alerting", "gateway", "archive")
ENDS = {
    # who or what stands at either end of a flow, and the two deeds that are no file
    "ingest": {"camera", "device", "POST", "gateway"},
    "alerting": {"due", "times", "devices", "commit"},
    "gateway": {"window", "devices", "POST", "receipts", "ingest's", "live", "port"},
    "archive": {"commit", "look", "audit", "playlist"},
}
LATER = {
    # what a later issue brings; a test fails once an entry is there
    "services/alerting/outcome_watch.py": "outcome watch",
    "services/archive/store/s3.py": "S3 with Object Lock",
    "helm/files/dashboards": "dashboards",
    "helm/files/rules": "alert rules and their runbooks",
    "services/ingest/Dockerfile": "images",
}
LATER_TOPICS = {
    # who the table says writes or reads a topic, and does not open it yet
    ("claims", "archive"): "nothing there asks yet who records",
    ("streams", "alerting"): "health alerts",
    ("alarms", "gateway"): "alarms raised by hand",
    ("alerts", "archive"): "reports",
    ("alert-events", "archive"): "the permanent alert history",
    ("device-commands", "ingest"): "lights and PTZ",
    ("device-commands", "alerting"): "lights and PTZ",
    ("device-commands", "gateway"): "lights and PTZ",
    ("audit", "alerting"): "no person looks at anything there yet",
}


@pytest.mark.parametrize("service", SERVICES)
def test_each_stage_an_app_names_is_a_file_a_topic_or_an_end(service: str) -> None:
    docstring = ast.get_docstring(ast.parse((ROOT / "services" / service / "app.py").read_text())) or ""
    flow = "\n".join(line for line in docstring.splitlines() if "->" in line or "<-" in line)
    words = set(re.findall(r"[A-Za-z_'][\w']*(?:-[a-z]+)*(?:\.<pool>)?", re.sub(r"\([^)]*\)|/api/\S*", "", flow)))
    files = {path.stem for path in (ROOT / "services" / service).rglob("*.py")}
    files |= {path.name for path in (ROOT / "services" / service).iterdir() if path.is_dir()}
    topics = {topic.name for topic in TOPICS} | {"devices.<pool>"}
    known = files | topics | ENDS[service] | {"then", "and", "or", "read", "meanwhile", "by", "every"}

    assert words - known == set()


def test_a_topic_is_opened_by_those_who_may_and_by_nobody_else() -> None:
    opened = {service: topics_named_by(service) for service in SERVICES}
    by_name = {topic.name: topic for topic in TOPICS}

    for service, names in opened.items():
        for name in names:
            assert service in by_name[name].producers | by_name[name].consumers, f"{service} opens {name}"
    unopened = {
        (topic.name, service)
        for topic in TOPICS
        for service in (topic.producers | topic.consumers) & opened.keys()
        if topic.name not in opened[service]
    }
    assert unopened == LATER_TOPICS.keys()


def topics_named_by(service: str) -> set[str]:
    """Return the topics whose constants a service imports."""
    constants = {topic.name.upper().replace("-", "_").split(".")[0]: topic.name for topic in TOPICS}
    # These are opened for a service by a module of runtime.
    through = {
        "services.runtime.access_log": "audit",
        "services.runtime.claims": "claims",
        "services.runtime.registry": "devices.main",
        "services.runtime.system_alarm": "alarms",
    }
    found: set[str] = set()
    for path in (ROOT / "services" / service).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.module in through:
                found.add(through[node.module])
            if isinstance(node, ast.ImportFrom) and node.module == "services.contracts.topics":
                names = {alias.name for alias in node.names}
                found |= {constants[name] for name in names if name in constants}
                found |= {"devices.main"} if "devices" in names else set()
    return found


@pytest.mark.parametrize("path", LATER)
def test_what_comes_later_is_not_here_yet(path: str) -> None:
    assert not (ROOT / path).exists(), f"{path} is here: take it off the list of later things and test it"


def test_every_service_has_the_same_eight_files() -> None:
    for service in SERVICES:
        folder = ROOT / "services" / service
        for name in ("__init__.py", "__main__.py", "app.py", "settings.py", "metrics.py", "api.py", "README.md"):
            assert (folder / name).is_file(), f"services/{service}/{name}"


def documents() -> list[Path]:
    folders = [ROOT / name for name in ("docs", "services", "helm", "web", "benchmarks")]
    found = [*ROOT.glob("*.md"), *(path for folder in folders for path in folder.rglob("*.md"))]
    return sorted(path for path in found if "node_modules" not in path.parts)


@pytest.mark.parametrize("document", documents(), ids=lambda path: str(path.relative_to(ROOT)))
def test_every_path_in_a_document_resolves(document: Path) -> None:
    text = document.read_text()
    if document.parent.name == "reference":
        text = ""  # generated from code, which has its own tests
    said = set(re.findall(r"`((?:[\w-]+/)+[\w.-]*|[\w-]+\.(?:py|sh|toml|yaml|md|json))`", text))
    links = {link.split("#")[0] for link in re.findall(r"\]\(([^)\s]+)\)", text) if "://" not in link}
    missing = {path for path in said | (links - {""}) if not resolves(path, document)}

    assert missing == set()


def resolves(path: str, document: Path) -> bool:
    if path.startswith(("/", "api/", "DIR/", "HOST/")) or path in IN_OTHER_WORDS or path in LATER:
        return True
    bases = [ROOT, document.parent, *document.parents[: len(document.relative_to(ROOT).parts)]]
    if any((base / path).exists() for base in bases):
        return True
    return "/" not in path and any(ROOT.glob(f"services/**/{path}"))


IN_OTHER_WORDS = {
    # file names that stand for something a program writes, or a standard's own
    "endpoints.json", "settings.yaml", "registry.yaml", "camera.json", "text/html", "application/json", "video/mp4",
    "index.html", "NNNN-title.md", "dist/", "results/", "city.yaml", "build.json", "jwks.json", "disk.json",
}  # fmt: skip


def test_each_lint_exception_has_its_reason() -> None:
    lines = (ROOT / "pyproject.toml").read_text().splitlines()
    begin = lines.index("ignore = [")
    end = lines.index("]", begin)

    assert [line for line in lines[begin + 1 : end] if "#" not in line] == []


def test_no_suppression_stands_without_its_reason() -> None:
    bare = [
        f"{path.relative_to(ROOT)}:{number}"
        for folder in ("services", "benchmarks")
        for path in (ROOT / folder).rglob("*.py")
        for number, line in enumerate(path.read_text().splitlines(), start=1)
        if re.search(r"# noqa(?!: [A-Z0-9, ]+ - )", line)
    ]

    assert bare == []


def test_unit_tests_never_sleep() -> None:
    sleeping = [
        str(path.relative_to(ROOT))
        for path in (ROOT / "tests/unit").rglob("*.py")
        if re.search(r"\btime\.sleep\(|asyncio\.sleep\((?!0\))", path.read_text())
    ]

    assert sleeping == []


QUEUES = {
    # where a queue has no maximum length of its own: what bounds it
    "services/alerting/lanes.py": "capacity_bytes of all lanes; nothing is read from Kafka above it",
    "services/archive/lane.py": "CLOSED_BYTES_MAX of its partition; nothing is read from it above that",
    "services/gateway/live_channels.py": "2 s of fragments, then down to the next key picture",
    "services/ingest/alarms/spool.py": "the size of its file, which is allocated at the start",
    "services/ingest/live_channel.py": "2 s of fragments, then down to the next key picture",
    "services/ingest/publisher.py": "capacity_bytes of all lanes; the oldest footage becomes a gap",
    "services/ingest/streams_log.py": "capacity_bytes; states are given up before gaps",
    "services/ingest/timing.py": "RATE_WINDOW_US of fragments",
    "services/runtime/credit.py": "one entry for each caller that waits",
    "services/runtime/dead_letter.py": "the window of records in which letters are counted",
    "services/runtime/kafka/producer.py": "the credit that its bytes hold until their deadline",
}
"""docs/decisions/0006: each queue is made for its work, and each has a bound."""


def test_each_queue_without_a_maximum_length_is_known_with_what_bounds_it() -> None:
    unbounded = r"\b(Queue|LifoQueue|PriorityQueue|SimpleQueue|deque)\((?!.*max(size|len)=)|default_factory=deque\b"
    found = {
        str(path.relative_to(ROOT))
        for service in (*SERVICES, "runtime")
        for path in (ROOT / "services" / service).rglob("*.py")
        if re.search(unbounded, path.read_text())
    }

    assert found == set(QUEUES)


SETS_A_METRIC = {"inc", "dec", "set", "set_function", "observe", "labels"}
MAKES_A_METRIC = {"Counter", "Gauge", "Histogram", "_counter", "_gauge"}


@pytest.mark.parametrize("service", [*SERVICES, "runtime"])
def test_every_metric_is_set_somewhere(service: str) -> None:
    """A metric that nobody sets reads as 0 for ever: worse than none."""
    folder = ROOT / "services" / service
    made = {name for node in nodes(folder / "metrics.py") for name in metrics_made(node)}
    users = (ROOT / "services" if service == "runtime" else folder).rglob("*.py")
    set_ones = {
        name_of(node.value)
        for path in users
        for node in nodes(path)
        if isinstance(node, ast.Attribute) and node.attr in SETS_A_METRIC
    }

    assert made
    assert made - set_ones == set()


def nodes(path: Path) -> Iterator[ast.AST]:
    return ast.walk(ast.parse(path.read_text()))


def metrics_made(node: ast.AST) -> set[str]:
    """Return the names that a statement gives to a metric it makes."""
    if not isinstance(node, ast.Assign | ast.AnnAssign) or not isinstance(node.value, ast.Call):
        return set()
    targets = node.targets if isinstance(node, ast.Assign) else [node.target]
    return {name_of(target) for target in targets} if name_of(node.value.func) in MAKES_A_METRIC else set()


def name_of(node: ast.expr) -> str:
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


BUFFERS = {
    # what buffers: the metric of its depth, the metric of its loss where it may lose
    "services/alerting/lanes.py": ("alerting_lanes_bytes",),
    "services/archive/lane.py": ("archive_pending_bytes",),
    "services/ingest/live_channel.py": ("ingest_live_bytes", "ingest_live_dropped_total"),
    "services/ingest/streams_log.py": ("ingest_publisher_records_buffered", "ingest_publisher_records_dropped_total"),
    "services/ingest/publisher.py": ("ingest_publisher_buffered_bytes", "ingest_publisher_dropped_bytes_total"),
    "services/ingest/alarms/spool.py": ("ingest_alarms_spool_bytes", "ingest_webhook_unkept_total"),
    "services/gateway/console_queue.py": ("gateway_alert_stream_queue_bytes", "gateway_alert_stream_resyncs_total"),
    "services/gateway/live_channels.py": ("gateway_live_relay_bytes", "gateway_live_relay_dropped_total"),
    "services/archive/scratch.py": ("archive_scratch_bytes", "archive_gaps_total"),
}


NO_DATA = {
    # queues that hold nothing anybody could miss
    "services/ingest/timing.py": "durations of fragments, to measure a rate",
    "services/runtime/credit.py": "callers that wait, with what they hold themselves",
    "services/runtime/dead_letter.py": "times of letters",
    "services/runtime/kafka/producer.py": "when the bytes of lost answers are free again",
}


def test_each_queue_has_its_depth_counted_or_holds_nothing_to_lose() -> None:
    assert QUEUES.keys() - BUFFERS.keys() == NO_DATA.keys()


@pytest.mark.parametrize("buffer", BUFFERS)
def test_a_bounded_buffer_has_a_metric_for_its_depth_and_where_it_may_lose_one_for_that(buffer: str) -> None:
    documented = (ROOT / "docs/reference/metrics.md").read_text()

    assert (ROOT / buffer).is_file()
    for metric in BUFFERS[buffer]:
        assert f"`safealley_{metric}`" in documented, metric
