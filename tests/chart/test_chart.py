"""The chart renders the four services from the settings they read, and refuses bad values by name.

The committed render is checked without Helm; with Helm (`./run test` builds it where Go is) it must
also be what the chart renders today.
"""

import copy
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate  # type: ignore[import-untyped]
import pytest
from msgspec import Struct
from ruamel.yaml import YAML

from services.alerting.settings import AlertingSettings
from services.archive.settings import ArchiveSettings
from services.gateway.settings import GatewaySettings
from services.ingest.settings import IngestSettings
from services.runtime.settings import load

ROOT = Path(__file__).parents[2]
CHART = ROOT / "helm"
GOLDEN = CHART / "ci/golden/prod-external.yaml"
VALUES = CHART / "ci/prod-external-values.yaml"
KUBERNETES = "1.36"
SETTINGS: dict[str, type[Struct]] = {
    "alerting": AlertingSettings,
    "archive": ArchiveSettings,
    "gateway": GatewaySettings,
    "ingest-main": IngestSettings,
    "ingest-riverside": IngestSettings,
}
yaml = YAML(typ="safe")


def objects() -> list[dict[str, Any]]:
    return [found for found in yaml.load_all(GOLDEN.read_text()) if found]


def pods() -> Iterator[tuple[str, dict[str, Any]]]:
    for found in objects():
        if found["kind"] in ("Deployment", "StatefulSet"):
            yield found["metadata"]["name"], found["spec"]["template"]["spec"]


def test_every_object_is_one_that_kubernetes_takes() -> None:
    for found in objects():
        kubernetes_validate.validate(copy.deepcopy(found), KUBERNETES, strict=True)


@pytest.mark.parametrize("component", SETTINGS)
def test_a_service_reads_the_settings_the_chart_writes(component: str, tmp_path: Path) -> None:
    written = next(
        found["data"]["settings.yaml"]
        for found in objects()
        if found["kind"] == "ConfigMap" and found["metadata"]["name"] == f"city-{component}"
    )
    file = tmp_path / "settings.yaml"
    file.write_text(written)

    settings: Any = load(SETTINGS[component], file=file, environ={"SAFEALLEY_NAME": "pod-7"})

    assert settings.kafka.bootstrap == "kafka-0.city.example:9092,kafka-1.city.example:9092"
    assert settings.name == "pod-7"


def test_there_is_a_workload_for_each_of_the_four_services() -> None:
    commands = {pod["containers"][0]["command"][2] for _, pod in pods()}

    assert commands == {f"services.{name}" for name in ("ingest", "alerting", "gateway", "archive")}


def test_every_pod_is_restricted() -> None:
    for name, pod in pods():
        container = pod["containers"][0]
        assert pod["securityContext"]["runAsNonRoot"], name
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, name
        assert not pod["automountServiceAccountToken"], name
        assert container["securityContext"]["readOnlyRootFilesystem"], name
        assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}, name
        assert not container["securityContext"]["allowPrivilegeEscalation"], name


def test_no_media_pod_has_a_cpu_limit_and_every_pod_has_the_malloc_settings() -> None:
    for name, pod in pods():
        container = pod["containers"][0]
        assert "cpu" not in container["resources"]["limits"], f"{name}: throttling drops frames"
        assert {"MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_", "MALLOC_TOP_PAD_"} <= {
            variable["name"] for variable in container["env"]
        }, name


def test_secrets_are_mounted_and_never_in_the_environment() -> None:
    for name, pod in pods():
        for variable in pod["containers"][0]["env"]:
            assert "secretKeyRef" not in str(variable), name


def test_a_press_is_kept_on_a_volume_that_outlives_the_pod() -> None:
    sets = [found for found in objects() if found["kind"] == "StatefulSet"]

    assert len(sets) == 2
    assert all(found["spec"]["volumeClaimTemplates"][0]["metadata"]["name"] == "spool" for found in sets)


@pytest.fixture(scope="module")
def helm() -> str:
    found = shutil.which("helm", path=f"{ROOT / '.cache/go/bin'}:{os.environ.get('PATH', '')}")
    if found is None:
        pytest.skip("chart: Helm is not here; ./run test builds it where Go >= 1.26 is installed")
    return found


def test_the_committed_render_is_what_the_chart_renders(helm: str) -> None:
    assert render(helm).stdout == GOLDEN.read_text(), (
        f"run: helm template city helm -f {VALUES.relative_to(ROOT)} --kube-version {KUBERNETES}"
        f" > {GOLDEN.relative_to(ROOT)}"
    )


@pytest.mark.parametrize(
    ("setting", "named"),
    [
        ("kafka.bootstrap=", "kafka.bootstrap"),
        ("identity.issuer=", "identity.issuer"),
        ("secretsSecret=", "secretsSecret"),
        ("archive.replicas=2", "archive.replicas"),
        ("ingest.pools[0].cameraCidrs=null", "cameraCidrs"),
        ("gateway.origins=null", "gateway.origins"),
        ("gateway.replica=3", "replica"),
        ("image.digest=latest", "digest"),
    ],
)
def test_bad_values_fail_the_render_and_are_named(helm: str, setting: str, named: str) -> None:
    failed = render(helm, "--set", setting)

    assert failed.returncode != 0
    assert named in failed.stderr


def test_a_setting_of_a_service_passes_through(helm: str) -> None:
    rendered = render(helm, "--set", "archive.settings.guaranteed_days=30")

    assert "guaranteed_days: 30" in rendered.stdout


def render(helm: str, *more: str) -> subprocess.CompletedProcess[str]:
    command = [helm, "template", "city", str(CHART), "-f", str(VALUES), "--kube-version", KUBERNETES, *more]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
