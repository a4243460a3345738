"""The `safealley` command: what to start, what to ask, what to check. Work is done elsewhere.

A service is imported only when its command is asked for, so `safealley ingest --help` needs no other
service's libraries. Exit status: 0 done, 1 failed, 2 wrong arguments or settings.
"""

import asyncio
import inspect
import logging
import re
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import msgspec
from cyclopts import App, CycloptsError, Parameter
from rich.console import Console

from services.runtime.endpoints import read_endpoints
from services.runtime.errors import PoisonMessage, RetryLater, SettingsError
from services.runtime.log import redact_text
from services.runtime.metrics import version

Ports = Literal["default", "free"]
Flag = Annotated[bool, Parameter(negative="")]

FAILED: Final = 1
WRONG: Final = 2
INTERRUPTED: Final = 130

DATA: Final = Path(".data")
_USER_INFO: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://.*@")


class _Endpoints(msgspec.Struct, frozen=True):
    """What `devices` needs of endpoints.json."""

    kafka: str


app = App(
    name="safealley",
    version=version,
    help="Central video and alarm ingestion for Safe Alleys: cameras, bells and lights in; alerts and evidence out.",
    help_format="plaintext",
    version_flags=["--version"],
    suppress_keyboard_interrupt=False,  # main() turns it into a status
)
devices = App(
    name="devices",
    help="The registry of sites and devices, from a YAML file.\n\nExample: safealley devices validate city.yaml",
    help_format="plaintext",
)
app.command(devices)


@app.command
def up(*, data: Path = DATA, kafka: str | None = None, ports: Ports = "default") -> int:
    """Run everything on this machine: Kafka (unless given) and the four services, watched.

    Example: safealley up --data /srv/safealley

    Parameters
    ----------
    data
        Where everything is kept; endpoints.json in it tells every address.
    kafka
        HOST:PORT of a Kafka that runs already; none is started then.
    ports
        "default" as documented, "free" all chosen by the kernel.
    """
    _refuse_password("--kafka", kafka)
    return _call("services.onebox.up", "run_up", data=data, kafka=kafka, ports=ports)


@app.command
def demo(
    *,
    data: Path = DATA,
    kafka: str | None = None,
    ports: Ports | None = None,
    cameras: int | None = None,
    clip: Path | None = None,
    camera: str | None = None,
    credentials: Path | None = None,
    check: Flag = False,
    json: Flag = False,
) -> int:
    """Run a demo city: simulated cameras, bells and lights over their real protocols.

    Example: safealley demo --cameras 8
    Example: safealley demo --camera rtsp://192.0.2.7/stream1 --credentials camera.json
    Example: safealley demo --check --json

    Parameters
    ----------
    data
        Where everything is kept; endpoints.json in it tells every address.
    kafka
        HOST:PORT of a Kafka that runs already and has no real city's registry; none is started then.
    ports
        "default" as documented, "free" all chosen by the kernel; with --check free, so that a demo may run beside it.
    cameras
        How many simulated cameras: 4, with --check 2.
    clip
        A recording of your own, shown as one more camera, again and again.
    camera
        RTSP address of a camera of your own, without a password in it.
    credentials
        A JSON file with username and password of --camera.
    check
        Press a bell, follow it through every link, take out footage, compare, and stop.
    json
        With --check: one object in place of lines.
    """
    _refuse_password("--camera", camera)
    _refuse_password("--kafka", kafka)
    if cameras is not None and cameras < 0:
        raise SettingsError(f"--cameras is {cameras}: it must be 0 or more")
    if credentials is not None and camera is None:
        raise SettingsError("--credentials belongs to a camera: add --camera rtsp://HOST/PATH")
    for option, file in (("--clip", clip), ("--credentials", credentials)):
        if file is not None and not file.is_file():
            raise SettingsError(f"{option} {file}: no such file")
    if check:
        if camera is not None:
            raise SettingsError("--check compares with a file: use --clip FILE in place of --camera")
        if kafka is not None:
            raise SettingsError("--check starts a Kafka of its own, to leave nothing in another: leave out --kafka")
        if cameras == 0 and clip is None:
            raise SettingsError("--check follows a camera: --cameras must be 1 or more, or give --clip FILE")
        return _call(
            "services.onebox.check",
            "run_check",
            data=data,
            as_json=json,
            clip=clip,
            cameras=2 if cameras is None else cameras,
            ports=ports or "free",
        )
    if json:
        raise SettingsError("--json belongs to --check: add it")
    return _call(
        "services.onebox.demo",
        "run_demo",
        data=data,
        ports=ports or "default",
        kafka=kafka,
        cameras=4 if cameras is None else cameras,
        clip=clip,
        camera=camera,
        credentials=credentials,
    )


@app.command
def ingest(*, settings: Path | None = None) -> int:
    """Run ingest: cameras, bells and lights in.

    Example: safealley ingest --settings ingest.yaml

    Parameters
    ----------
    settings
        A YAML file; the environment (SAFEALLEY_KAFKA__BOOTSTRAP) stands above it.
    """
    return _service("ingest", settings)


@app.command
def alerting(*, settings: Path | None = None) -> int:
    """Run alerting: decides, remembers, escalates.

    Example: safealley alerting --settings alerting.yaml

    Parameters
    ----------
    settings
        A YAML file; the environment (SAFEALLEY_KAFKA__BOOTSTRAP) stands above it.
    """
    return _service("alerting", settings)


@app.command
def gateway(*, settings: Path | None = None) -> int:
    """Run the gateway: between Kafka and people.

    Example: safealley gateway --settings gateway.yaml

    Parameters
    ----------
    settings
        A YAML file; the environment (SAFEALLEY_KAFKA__BOOTSTRAP) stands above it.
    """
    return _service("gateway", settings)


@app.command
def archive(*, settings: Path | None = None) -> int:
    """Run the archive: evidence for auditors.

    Example: safealley archive --settings archive.yaml

    Parameters
    ----------
    settings
        A YAML file; the environment (SAFEALLEY_KAFKA__BOOTSTRAP) stands above it.
    """
    return _service("archive", settings)


@devices.command(name="apply")
def devices_apply(
    file: Path,
    /,
    *,
    data: Path | None = None,
    kafka: str | None = None,
    dry_run: Flag = False,
    prune: Flag = False,
    json: Flag = False,
) -> int:
    """Make the registry what the file says.

    Example: safealley devices apply city.yaml --dry-run

    Parameters
    ----------
    file
        Sites and devices, YAML.
    data
        The directory that `up` or `demo` was given, .data: its endpoints.json tells the Kafka.
    kafka
        HOST:PORT of the city's Kafka, above --data; without either 127.0.0.1:9092.
    dry_run
        Say what would change, and change nothing.
    prune
        Take out what the file does not name.
    json
        One object in place of lines.
    """
    return _call(
        "services.ingest.registry_writer",
        "apply_file",
        file,
        kafka_bootstrap=_kafka_of(kafka, data),
        dry_run=dry_run,
        prune=prune,
        as_json=json,
    )


@devices.command(name="list")
def devices_list(*, data: Path | None = None, kafka: str | None = None, json: Flag = False) -> int:
    """Show the registry as every service reads it.

    Example: safealley devices list --json

    Parameters
    ----------
    data
        The directory that `up` or `demo` was given, .data: its endpoints.json tells the Kafka.
    kafka
        HOST:PORT of the city's Kafka, above --data; without either 127.0.0.1:9092.
    json
        One list in place of lines.
    """
    bootstrap = _kafka_of(kafka, data)
    return _call("services.ingest.registry_writer", "list_devices", kafka_bootstrap=bootstrap, as_json=json)


@devices.command(name="validate")
def devices_validate(file: Path, /, *, json: Flag = False) -> int:
    """Check a file without touching anything.

    Example: safealley devices validate city.yaml

    Parameters
    ----------
    file
        Sites and devices, YAML.
    json
        One object in place of a line.
    """
    return _call("services.ingest.registry_writer", "validate_file", file, as_json=json)


@app.command
def press(bell: str, /, *, data: Path = DATA) -> int:
    """Press a bell of the demo through ingest's own door.

    Example: safealley press bell-1

    Parameters
    ----------
    bell
        The bell's id, as in endpoints.json.
    data
        The directory that `up` or `demo` was given.
    """
    return _call("services.simulators.press", "press_from_endpoints", bell, endpoints=data / "endpoints.json")


@app.command
def doctor(*, data: Path = DATA, json: Flag = False) -> int:
    """Tell what this machine lacks, line by line, with the cure.

    Example: safealley doctor

    Parameters
    ----------
    data
        Where `up` would keep everything: its disk is looked at.
    json
        One object in place of lines.
    """
    return _call("services.onebox.doctor", "run_doctor", data=data, as_json=json)


@app.command
def completion(shell: Literal["bash", "zsh", "fish"] = "bash", /) -> int:
    """Print the script that completes this command in a shell.

    Example: safealley completion bash > ~/.local/share/bash-completion/completions/safealley

    Parameters
    ----------
    shell
        bash, zsh or fish.
    """
    sys.stdout.write(app.generate_completion(shell=shell))
    return 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return the status to exit with. Errors are one sentence on stderr."""
    # Kafka's client would print its own account of a failure beside our sentence.
    logging.getLogger("aiokafka").addHandler(logging.NullHandler())
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        status = app(words, exit_on_error=False, print_error=False, result_action="return_value")
    except (CycloptsError, SettingsError) as error:
        return _say(_sentence(error), WRONG)
    except (RetryLater, PoisonMessage, TimeoutError) as error:
        return _say(_sentence(error), FAILED)
    except KeyboardInterrupt:
        return INTERRUPTED
    return status if isinstance(status, int) else 0


def _service(name: str, settings: Path | None) -> int:
    if settings is not None and not settings.is_file():
        raise SettingsError(f"--settings {settings}: no such file")
    return _call(f"services.{name}.__main__", "main", settings)


def _call(module: str, function: str, *arguments: object, **options: object) -> int:
    """Import what does the work, only now, and run it."""
    try:
        work: Callable[..., Any] = getattr(import_module(module), function)
    except ModuleNotFoundError as error:
        raise _missing(module, error) from error
    result = work(*arguments, **options)
    if inspect.iscoroutine(result):
        result = asyncio.run(result)
    return int(result or 0)


def _missing(module: str, error: ModuleNotFoundError) -> SettingsError:
    """Say which extra brings a library that is not installed; a missing module of ours is our mistake."""
    if (error.name or "").partition(".")[0] == "services":
        return SettingsError(f"this release has no {error.name}: install safealley again, whole")
    extra = module.split(".")[1]
    return SettingsError(f"{error.name} is not installed: pip install 'safealley[{extra}]'")


def _refuse_password(option: str, url: str | None) -> None:
    """Everybody on this machine can read a command line; the password is not repeated here either."""
    if url is not None and (_USER_INFO.search(url) or "@" in url):
        raise SettingsError(
            f"{option} has user info in it, which `ps` shows to everybody: "
            "leave it out and put it into a file (--credentials FILE)"
        )


def _kafka_of(kafka: str | None, data: Path | None) -> str:
    """Return the Kafka that was named, else that of the box of this directory, else the documented one."""
    _refuse_password("--kafka", kafka)
    if kafka is not None:
        return kafka
    endpoints = (data or DATA) / "endpoints.json"
    if data is None and not endpoints.exists():
        return "127.0.0.1:9092"
    return read_endpoints(endpoints, _Endpoints).kafka


def _sentence(error: Exception) -> str:
    return redact_text(" ".join(str(error).split())) or type(error).__name__


def _say(sentence: str, status: int) -> int:
    Console(stderr=True, soft_wrap=True, highlight=False, markup=False).print(f"safealley: {sentence}")
    return status


if __name__ == "__main__":
    raise SystemExit(main())
