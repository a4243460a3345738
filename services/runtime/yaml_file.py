"""Files that people write, as YAML: file, line and key in every error. The only importer of ruamel.yaml.

A reader that wants one Struct calls `read(path, into)`. One that wants to look at each entry by
itself reads the file once and converts the parts; the lines stay right:

    located = read_mapping(path)
    for index, entry in enumerate(located.entries("devices")):
        device = convert(entry, Device)             # devices.yaml:12: devices[3].kind: ...
        if device.device_id in seen:
            raise entry.error("a second device of this id", "device_id")

Not read: aliases and tags. A file is data, and an alias can make a short file endlessly long.
"""

import difflib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NoReturn, TypeVar

import msgspec
from msgspec import inspect
from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from services.contracts.units import IDENTIFIER
from services.runtime.errors import SettingsError

T = TypeVar("T")
KeyPath = tuple[str | int, ...]

FILE_BYTES_MAX: Final = 64 * 1024 * 1024
_NOT_YAML: Final = (
    "not YAML here or in the lines above; look for a bracket or quote left open, a missing ':' or '- ', "
    "a tab, or keys that do not stand under one another"
)
_PLAIN_ID: Final = "must be lower-case letters, digits, - and _, at most 64, a letter or digit first"
_CORE: Final = "tag:yaml.org,2002:"
_TYPED: Final = frozenset(f"{_CORE}{name}" for name in ("int", "float", "bool", "null"))
_WHERE = re.compile(r"^(?P<what>.*?)(?: - at `(?:key in )?(?P<path>\$[^`]*)`)?$", re.DOTALL)
_STEP = re.compile(r"\.([^.\[]+)|\[(\d+)\]|\[\.\.\.\]")
_UNKNOWN = re.compile(r"unknown field `([^`]*)`")
_MISSING = re.compile(r"missing required field `([^`]*)`")


@dataclass(frozen=True, slots=True, kw_only=True)
class Located:
    """A value of a file that still knows where each of its keys was written."""

    file: Path
    value: object
    where: KeyPath = ()
    lines: dict[KeyPath, int] = field(repr=False)

    def line(self, *at: str | int) -> int:
        """Return the line of a key below this value, or of its nearest parent that was written."""
        path = (*self.where, *at)
        while path and path not in self.lines:
            path = path[:-1]
        return self.lines.get(path, 1)

    def error(self, message: str, *at: str | int) -> SettingsError:
        """Return the error that names file, line and key."""
        key = dotted((*self.where, *at))
        return SettingsError(f"{self.file}:{self.line(*at)}: {f'{key}: ' if key else ''}{message}")

    def entries(self, key: str) -> Iterator["Located"]:
        """Yield each entry of the list at `key`; a key that is not written is an empty list.

        Raises:
            SettingsError: there is something else than a list.
        """
        found = self.value.get(key, []) if isinstance(self.value, dict) else None
        if not isinstance(found, list):
            raise self.error("must be a list: write one '- ' per entry", key)
        for index, value in enumerate(found):
            yield Located(file=self.file, value=value, where=(*self.where, key, index), lines=self.lines)


def read(path: Path, into: type[T]) -> T:
    """Read a file as one type.

    Raises:
        SettingsError: the file is missing, is no YAML, or breaks the type; file, line and key are named.
    """
    return convert(read_mapping(path), into)


def read_mapping(path: Path) -> Located:
    """Read a file whose top is a mapping; an empty file is an empty mapping.

    Raises:
        SettingsError: as `read`.
    """
    located = parse(_text(path), path)
    if not isinstance(located.value, dict):
        raise located.error("the file must be a mapping of keys: 'key: value'")
    return located


def parse(text: str, file: Path) -> Located:
    """Parse YAML text; `file` is what errors name."""
    lines: dict[KeyPath, int] = {}
    try:
        node = YAML(typ="safe", pure=True).compose(text)
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark is not None else 1
        # The mark's own text would quote the file, and a file may hold what no log may show.
        raise SettingsError(f"{file}:{line}: {_NOT_YAML}") from None
    except RecursionError:
        raise SettingsError(f"{file}: nested too deep: write it flatter") from None
    except YAMLError:
        raise SettingsError(f"{file}: not YAML: it holds a character that YAML does not allow") from None
    value = {} if node is None else _Plain(file, lines).value(node, ())
    return Located(file=file, value=value, lines=lines)


def convert(located: Located, into: type[T]) -> T:
    """Return a value as its type.

    Raises:
        SettingsError: a key is unknown, missing or of another type; never shows the value.
    """
    try:
        return msgspec.convert(located.value, into, dec_hook=path_hook)
    except msgspec.ValidationError as error:
        _translate(located, into, str(error))


def path_hook(kind: type, value: object) -> object:
    """Let a Struct have `Path` fields, which msgspec does not know."""
    if kind is Path and isinstance(value, str):
        return Path(value)
    raise NotImplementedError(f"expected {kind.__name__}")


def dotted(path: Sequence[str | int]) -> str:
    """Return a path as people write it: `devices[3].kind`."""
    return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path).removeprefix(".")


def nearest(name: str, known: Sequence[str]) -> str:
    """Return the cure for an unknown key: the nearest known one, or all of them."""
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    if close:
        return f"did you mean {close[0]!r}?"
    return f"the known keys are {', '.join(sorted(known))}" if known else "no key is known here"


def keys_at(into: object, path: Sequence[str | int]) -> list[str]:
    """Return the keys a type knows at a path."""
    return [
        known.encode_name
        for kind in _kinds_at(into, path)
        if isinstance(kind, inspect.StructType)
        for known in kind.fields
    ]


def _text(path: Path) -> str:
    try:
        if path.stat().st_size > FILE_BYTES_MAX:
            raise SettingsError(f"{path}: larger than {FILE_BYTES_MAX} bytes: split it")
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise SettingsError(f"{path}: no such file") from None
    except UnicodeDecodeError as error:
        raise SettingsError(f"{path}: not UTF-8 at byte {error.start}: save it as UTF-8") from None
    except OSError as error:
        raise SettingsError(f"{path}: cannot be read: {error.strerror}") from error


class _Plain:
    """Turns YAML nodes into plain Python and notes the line of each key."""

    def __init__(self, file: Path, lines: dict[KeyPath, int]) -> None:
        self._file = file
        self._lines = lines
        self._seen: set[int] = set()
        self._constructor = YAML(typ="safe", pure=True).constructor

    def value(self, node: Node, path: KeyPath) -> object:
        self._lines.setdefault(path, node.start_mark.line + 1)
        if id(node) in self._seen:
            raise self._error(node, path, "aliases are not read: write the value out")
        self._seen.add(id(node))
        if isinstance(node, MappingNode) and str(node.tag) == f"{_CORE}map":
            return self._mapping(node, path)
        if isinstance(node, SequenceNode) and str(node.tag) == f"{_CORE}seq":
            return [self.value(item, (*path, index)) for index, item in enumerate(node.value)]
        if isinstance(node, ScalarNode):
            return self._scalar(node, path)
        raise self._error(node, path, "tags such as '!!set' are not read: remove it")

    def _mapping(self, node: MappingNode, path: KeyPath) -> dict[str, object]:
        found: dict[str, object] = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, ScalarNode):
                raise self._error(key_node, path, "a key must be text")
            key = str(key_node.value)
            if key in found:
                first = self._lines[(*path, key)]
                raise self._error(key_node, (*path, key), f"written twice, first in line {first}: remove one")
            self._lines[(*path, key)] = key_node.start_mark.line + 1
            found[key] = self.value(value_node, (*path, key))
        return found

    def _scalar(self, node: ScalarNode, path: KeyPath) -> object:
        tag = str(node.tag)
        if tag in _TYPED:
            try:
                return self._constructor.construct_object(node)
            except (ValueError, YAMLError):
                raise self._error(node, path, "not a number: quote it if it is text") from None
        # A date stays the text it was written as: our instants are integers or RFC 3339.
        if tag in (f"{_CORE}str", f"{_CORE}timestamp"):
            return str(node.value)
        raise self._error(node, path, "tags such as '!!binary' are not read: remove it")

    def _error(self, node: Node, path: KeyPath, message: str) -> SettingsError:
        key = dotted(path)
        return SettingsError(f"{self._file}:{node.start_mark.line + 1}: {f'{key}: ' if key else ''}{message}")


def _translate(located: Located, into: object, message: str) -> NoReturn:
    """Say a validation error with file, line, key and cure. Values are never repeated."""
    found = _WHERE.match(message)
    what, at = (found["what"], _steps(found["path"])) if found else (message, ())
    if unknown := _UNKNOWN.search(what):
        name = unknown[1]
        raise located.error(f"unknown key: {nearest(name, keys_at(into, at))}", *at, name) from None
    if missing := _MISSING.search(what):
        raise located.error(f"the key {missing[1]!r} is missing: add it", *at) from None
    if what.startswith("Invalid enum value"):
        raise located.error(f"must be one of {', '.join(_allowed_at(into, at))}", *at) from None
    if IDENTIFIER in what:
        raise located.error(_PLAIN_ID, *at) from None
    raise located.error(what[:1].lower() + what[1:].replace("`", ""), *at) from None


def _steps(path: str | None) -> KeyPath:
    """Return `$.devices[3].kind` as steps, up to the first key of a free mapping, which msgspec does not name."""
    steps: list[str | int] = []
    for step in _STEP.finditer(path or ""):
        if step[0] == "[...]":
            break
        steps.append(step[1] if step[1] is not None else int(step[2]))
    return tuple(steps)


def _kinds_at(into: object, path: Sequence[str | int]) -> list[inspect.Type]:
    kinds = _alternatives(inspect.type_info(into))
    for step in path:
        below = (inner for kind in kinds for inner in _inside(kind, step))
        kinds = [alternative for kind in below for alternative in _alternatives(kind)]
    return kinds


def _inside(kind: inspect.Type, step: str | int) -> Iterator[inspect.Type]:
    if isinstance(kind, inspect.StructType):
        yield from (known.type for known in kind.fields if known.encode_name == step)
    elif isinstance(kind, inspect.CollectionType):
        yield kind.item_type
    elif isinstance(kind, inspect.DictType):
        yield kind.value_type


def _alternatives(kind: inspect.Type) -> list[inspect.Type]:
    if isinstance(kind, inspect.Metadata):
        return _alternatives(kind.type)
    if isinstance(kind, inspect.UnionType):
        return [inner for one in kind.types for inner in _alternatives(one)]
    return [kind]


def _allowed_at(into: object, path: Sequence[str | int]) -> list[str]:
    allowed: list[object] = []
    for kind in _kinds_at(into, path):
        if isinstance(kind, inspect.LiteralType):
            allowed.extend(kind.values)
        elif isinstance(kind, inspect.EnumType):
            allowed.extend(member.value for member in kind.cls)
    return [str(value) for value in allowed]
