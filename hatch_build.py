"""Puts the built console into the wheel, as services/gateway/static; refuses one that is older than its sources.

Nothing is copied in the checkout: there the gateway serves web/dist itself. Without web/dist the wheel has no
page, and says so while it is built.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

INPUTS = ("src", "build.mjs", "package.json", "package-lock.json", "tsconfig.json")
"""What web/build.mjs hashes, in its order."""
SERVED = (".html", ".json", ".js", ".css", ".svg", ".gz")
PACKAGED = "services/gateway/static"
BUILD = "cd web && npm ci --ignore-scripts && npm run build"


class ConsoleHook(BuildHookInterface):
    """Run by hatchling for each wheel."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Add the page's files to the wheel; an editable one serves the checkout's."""
        if version == "editable":
            return
        files = page_files(Path(self.root) / "web")
        if not files:
            self.app.display_warning(f"the wheel has no console: web/dist is not there; build it: {BUILD}")
        build_data["force_include"].update({str(file): f"{PACKAGED}/{file.name}" for file in files})


def page_files(web: Path) -> list[Path]:
    """Return the files of the built page, none where it is not built.

    Raises:
        RuntimeError: it was built from other sources than those that are there.
    """
    facts = web / "dist" / "build.json"
    if not facts.is_file():
        return []
    if json.loads(facts.read_text(encoding="utf-8"))["source_sha256"] != source_sha256(web):
        raise RuntimeError(f"web/dist was built from other sources than web/ holds; build it again: {BUILD}")
    return [file for file in sorted(facts.parent.iterdir()) if file.suffix in SERVED]


def source_sha256(web: Path) -> str:
    """Return the hash that web/build.mjs writes into build.json."""
    whole = hashlib.sha256()
    for top in INPUTS:
        for file in _files(web / top):
            whole.update(f"{file.relative_to(web).as_posix()}\0".encode())
            whole.update(hashlib.sha256(file.read_bytes()).digest())
    return whole.hexdigest()


def _files(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    return [file for entry in sorted(path.iterdir(), key=lambda one: one.name) for file in _files(entry)]
