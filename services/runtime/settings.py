"""Strict settings: a file, then the environment over it; and the groups that several services share.

A key nobody knows is an error that names file, line and the nearest known key. The environment
spells a key in capitals, with two underscores between group and key: `SAFEALLEY_KAFKA__BOOTSTRAP`.
Secrets are no settings: a setting names their directory, `SecretStore` reads them when used.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final, TypeVar

import msgspec
from msgspec import Meta, Struct

from services.runtime import yaml_file
from services.runtime.errors import RetryLater, SettingsError
from services.runtime.yaml_file import Located, dotted, keys_at, nearest, path_hook

S = TypeVar("S", bound=Struct)

Port = Annotated[int, Meta(ge=0, le=65535, description="TCP port; 0: any free one, chosen by the kernel")]
Host = Annotated[str, Meta(min_length=1, description="address or name to listen on")]

SECRET_REF: Final = re.compile(r"[a-z0-9][a-z0-9._-]*")
SECRET_BYTES_MAX: Final = 64 * 1024
_NO_FILE: Final = Path("settings")
# Kubernetes names every Service of the namespace to every pod: SAFEALLEY_GATEWAY_PORT=tcp://...
_SERVICE_LINK: Final = re.compile(r"_SERVICE_(HOST|PORT(_\w+)?)$|_PORT(_\d+_(TCP|UDP|SCTP)(_\w+)?)?$")


class KafkaSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where Kafka is."""

    bootstrap: Annotated[
        str, Meta(pattern=r"^[^:,\s]+:\d+(,[^:,\s]+:\d+)*$", description="host:port, comma between")
    ] = "127.0.0.1:9092"


class OpsSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The port of /healthz /readyz /statusz /metrics, apart from product ports."""

    host: Host = "127.0.0.1"
    port: Port


class ListenSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A product port."""

    host: Host = "127.0.0.1"
    port: Port


class IdentitySettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Whose tokens are believed: the issuer's name, our own name, and the issuer's public keys."""

    issuer: str = "https://demo.safealley.invalid"
    audience: str = "safealley"
    jwks_file: Path = Path(".data/identity/jwks.json")


def load(into: type[S], *, file: Path | None, environ: Mapping[str, str], prefix: str = "SAFEALLEY_") -> S:
    """Read settings: defaults, under the file, under the environment.

    A group that is written in part keeps the defaults its service gives for the rest.

    Raises:
        SettingsError: names file, line and key, or the variable, and the cure.
    """
    located = yaml_file.read_mapping(file) if file is not None else yaml_file.parse("", _NO_FILE)
    values = located.value if isinstance(located.value, dict) else {}
    for variable in sorted(environ):
        path = _path_of(variable, prefix)
        if path is not None:
            _put(values, path, _from_text(variable, environ[variable], path, into), located)
    _add_defaults(values, into)
    try:
        return yaml_file.convert(located, into)
    except SettingsError as error:
        if file is not None:
            raise
        cure = f"write a settings file (--settings FILE) or set {prefix}<GROUP>__<KEY>"
        raise SettingsError(f"{str(error).replace('settings:1: ', 'settings: ', 1)}; {cure}") from None


class SecretStore:
    """A directory of secrets, a JSON or text file each, named by references. Read at every use."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def read(self, ref: str) -> dict[str, str]:
        """Return the fields of a JSON secret.

        Raises:
            SettingsError: the reference is none; it could lead out of the directory.
            RetryLater: the secret is not there (yet), or is no JSON object of texts. Never shows content.
        """
        text = self.read_text(ref)
        try:
            return msgspec.json.decode(text, type=dict[str, str])
        except (msgspec.DecodeError, UnicodeDecodeError):
            raise RetryLater(f'secret {ref!r} is no JSON object of texts: write {{"username": …}}') from None

    def read_text(self, ref: str) -> str:
        """Return a secret that is one text, without the line's end.

        Raises:
            SettingsError, RetryLater: as `read`.
        """
        if SECRET_REF.fullmatch(ref) is None:
            raise SettingsError(f"secret reference {ref!r} is not of the form {SECRET_REF.pattern}")
        try:
            with (self._directory / ref).open("rb") as file:
                content = file.read(SECRET_BYTES_MAX + 1)
            text = content.decode().strip()
        except FileNotFoundError:
            raise RetryLater(f"secret {ref!r} is missing: put a file of this name into secrets_dir") from None
        except OSError as error:
            raise RetryLater(f"secret {ref!r} cannot be read: {error.strerror}") from None
        except UnicodeDecodeError:
            raise RetryLater(f"secret {ref!r} is not UTF-8") from None
        if len(content) > SECRET_BYTES_MAX or not text:
            raise RetryLater(f"secret {ref!r} is empty or larger than {SECRET_BYTES_MAX} bytes")
        return text


def _path_of(variable: str, prefix: str) -> tuple[str, ...] | None:
    """Return the key a variable sets, or None when it is none of ours."""
    if not variable.startswith(prefix):
        return None
    if "__" not in variable and _SERVICE_LINK.search(variable):
        return None
    return tuple(variable.removeprefix(prefix).lower().split("__"))


def _from_text(variable: str, text: str, path: tuple[str, ...], into: type[Struct]) -> object:
    kind = _type_at(variable, path, into)
    try:
        if isinstance(kind, type) and issubclass(kind, Struct):
            return msgspec.json.decode(text, type=dict[str, Any])
        try:
            value = msgspec.convert(text, kind, strict=False, dec_hook=path_hook)
        except msgspec.ValidationError:
            # A list is comma-separated, or JSON like anything else that is no scalar.
            parts = msgspec.json.decode(text) if text[:1] in ("[", "{") else [part.strip() for part in text.split(",")]
            value = msgspec.convert(parts, kind, strict=False, dec_hook=path_hook)
        return msgspec.to_builtins(value, enc_hook=str)
    except msgspec.ValidationError as error:
        what = str(error).replace("`", "")
        if what.startswith("Invalid enum value"):
            what = "not one of the allowed words"
        raise SettingsError(f"{variable} in the environment: {what[:1].lower()}{what[1:]}") from None
    except msgspec.DecodeError:
        raise SettingsError(f"{variable} in the environment: not JSON") from None


def _type_at(variable: str, path: tuple[str, ...], into: type[Struct]) -> Any:
    kind: Any = into
    for depth, name in enumerate(path):
        is_group = isinstance(kind, type) and issubclass(kind, Struct)
        known = {one.encode_name: one.type for one in msgspec.structs.fields(kind)} if is_group else {}
        if name not in known:
            cure = nearest(name, keys_at(into, path[:depth]))
            raise SettingsError(f"{variable} in the environment: unknown setting {dotted(path)}: {cure}")
        kind = known[name]
    return kind


def _put(values: dict[str, Any], path: tuple[str, ...], value: object, located: Located) -> None:
    for depth, name in enumerate(path[:-1], start=1):
        values = values.setdefault(name, {})
        if not isinstance(values, dict):
            raise located.error("must be a group of keys", *path[:depth])
    values[path[-1]] = value


def _add_defaults(values: dict[str, Any], into: type[Struct]) -> None:
    """Fill a group that is written in part from the default its service gives for that group."""
    for known in msgspec.structs.fields(into):
        written = values.get(known.encode_name)
        if not isinstance(written, dict) or not isinstance(known.type, type) or not issubclass(known.type, Struct):
            continue
        default = known.default if known.default is not msgspec.NODEFAULT else None
        if default is None and known.default_factory is not msgspec.NODEFAULT:
            default = known.default_factory()
        if isinstance(default, Struct):
            _under(written, msgspec.to_builtins(default, enc_hook=str))
        _add_defaults(written, known.type)


def _under(written: dict[str, Any], defaults: dict[str, Any]) -> None:
    for name, value in defaults.items():
        if name not in written:
            written[name] = value
        elif isinstance(value, dict) and isinstance(written[name], dict):
            _under(written[name], value)
