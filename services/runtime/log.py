"""Logs: one JSON object per line on stderr, from structlog, `logging`, warnings and crashes alike.

`log = structlog.get_logger()`; `log.info("writer.segment_stored", camera_id=..., segment_bytes=...)`.
The last step before the line leaves is `redact`, on the rendered bytes, after exceptions are text.
"""

import logging
import re
import sys
import threading
from collections.abc import Callable, MutableMapping
from types import TracebackType
from typing import Any, BinaryIO, Final

import msgspec
import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from services.runtime.metrics import version

HIDDEN: Final = "***"

_FOREIGN_LEVELS: Final = {
    # A line per request is written by http_server.py, without the query.
    "aiohttp.access": logging.CRITICAL + 1,
    "aiokafka": logging.WARNING,
    "asyncio": logging.WARNING,
}

# --- redaction (operations.md 7.5) ------------------------------------------------------------

_GREEDY_SCHEMES: Final = (b"rtsp", b"rtsps", b"rtmp", b"rtmps", b"srt", b"mqtt", b"mqtts", b"rtp", b"udp")
# A line is JSON: a quote ends a text, \n \r \t are white space, any other escape belongs to the word.
# It begins with letters that stand still, so that the search for it is quick; the scheme is looked up behind it.
_URL: Final = re.compile(rb'://((?:[^\s"\\]|\\[^nrt])+)')
_SCHEME: Final = re.compile(rb"[A-Za-z][A-Za-z0-9+.\-]*\Z")
_AUTHORITY_END: Final = re.compile(rb"[/?#\\]")
# A port is digits; what else follows the colon of an authority is a password, even with a slash in it.
_USER_WITH_PASSWORD: Final = re.compile(rb"[^/?#@:\[\\]+:(?!\d{1,5}(?:[/?#\\,;.)>']|$))")
_ENCODED_URL: Final = re.compile(rb'(%3A%2F%2F)[^\s"\\&]*%40', re.IGNORECASE)

_NAMES: Final = (
    rb"password|passwd|passphrase|pwd|secret|token|api[_-]?key|signature|credential|nonce"
    rb"|x-amz-(?:signature|credential|security-token)"
)
_HEADERS: Final = rb"(?:proxy-)?authorization|(?:set-)?cookie|x-auth-token"
_SHORT: Final = rb"user|username|usr|pass|sig|auth|pw|key"
_QUERY: Final = re.compile(rb"([?&;](?:" + _SHORT + rb')=)((?:[^&\s"\\#]|\\[^nrt])*)', re.IGNORECASE)
_JSON_VALUE: Final = rb'":)(?:"(?:[^"\\]|\\.)*"|-?\d[\d.eE+\-]*)'
_JSON_FIELD: Final = re.compile(rb"((?:" + _NAMES + rb")" + _JSON_VALUE, re.IGNORECASE)
_JSON_HEADER: Final = re.compile(rb"((?:" + _HEADERS + rb")" + _JSON_VALUE, re.IGNORECASE)
_HEADER: Final = re.compile(
    rb"((?:" + _HEADERS + rb""")(?:\\"|')?(?:\s*[:=]\s*|\s*,\s*(?=b?(?:'|\\"))))((?:[^"\\]|\\[^nr])*)""", re.IGNORECASE
)
_PAIR: Final = re.compile(
    rb"((?:" + _NAMES + rb""")(?:\\"|')?(?:\s*[:=]\s*|\s*,\s*(?=b?(?:'|\\"))))"""
    rb"""(b?'(?:[^'"\\]|\\[^nr])*'|b?\\"(?:[^"\\]|\\[^nr"])*\\"|(?:[^&\s"\\]|\\[^nrt])+)""",
    re.IGNORECASE,
)
_ELEMENT: Final = re.compile(
    rb'(<(?:\w+:)?(?:Username|Password|Nonce)\b(?:[^>"\\]|\\.)*>)(?:[^<"\\]|\\.)*', re.IGNORECASE
)
_BEARER: Final = re.compile(rb"\b((?:Bearer|Basic)\s+)[A-Za-z0-9._~+/=\-]{6,}", re.IGNORECASE)
_JWT: Final = re.compile(rb"\beyJ[A-Za-z0-9_\-]{6,}\.[A-Za-z0-9_\-]+\.[A-Za-z0-9_\-]*")
# Which words call for which patterns. The search for a word is 30 times cheaper than a pattern's.
_NAMED_WORDS: Final = (b"pass", b"pwd", b"token", b"secret", b"key", b"signature", b"credential", b"nonce")
_HEADER_WORDS: Final = (b"auth", b"cookie", b"bearer", b"basic ", b"eyj")
_QUERY_WORDS: Final = (b"user", b"usr=", b"sig=", b"pw=")
_STARS: Final = HIDDEN.encode()


def redact(line: bytes) -> bytes:
    """Return a rendered line without user info of URLs, passwords, tokens and signed queries.

    When in doubt it hides: a host behind an `@` survives, a word after a password's name does not.
    """
    if b"://" in line and b"@" in line:
        line = _URL.sub(_without_user_info, line)
    low = line.lower()
    if b"%40" in low:
        line = _ENCODED_URL.sub(rb"\1***%40", line)
    if _has(low, _NAMED_WORDS):
        line = _JSON_FIELD.sub(rb'\1"***"', line)
        line = _PAIR.sub(rb"\1***", line)
        line = _QUERY.sub(rb"\1***", line)
        line = _ELEMENT.sub(rb"\1***", line)
    elif _has(low, _QUERY_WORDS):
        line = _QUERY.sub(rb"\1***", line)
        line = _ELEMENT.sub(rb"\1***", line)
    if _has(low, _HEADER_WORDS):
        line = _JSON_HEADER.sub(rb'\1"***"', line)
        line = _HEADER.sub(rb"\1***", line)
        line = _QUERY.sub(rb"\1***", line)
        line = _BEARER.sub(rb"\1***", line)
        line = _JWT.sub(_STARS, line)
    return line


def _has(low: bytes, words: tuple[bytes, ...]) -> bool:
    for word in words:  # noqa: SIM110 - any() with a generator costs as much as all the searches together
        if word in low:
            return True
    return False


def redact_text(text: str) -> str:
    """Return a text fit to be shown: in an answer, an error or a terminal."""
    # In a line a backslash begins an escape and a quote ends a text; in a text they are letters.
    escaped = msgspec.json.encode(text)
    hidden: str = msgspec.json.decode(redact(escaped), type=str)
    return hidden


def _without_user_info(found: re.Match[bytes]) -> bytes:
    rest: bytes = found[1]
    start = found.start()
    scheme = _SCHEME.search(found.string[max(0, start - 16) : start])
    at = rest.rfind(b"@")
    if at < 0:
        return b"://" + rest
    if (scheme and scheme[0].lower() in _GREEDY_SCHEMES) or _USER_WITH_PASSWORD.match(rest):
        return b"://" + _STARS + rest[at:]
    end = _AUTHORITY_END.search(rest)
    authority, path = (rest[: end.start()], rest[end.start() :]) if end else (rest, b"")
    at = authority.rfind(b"@")
    if at >= 0:
        authority = _STARS + authority[at:]
    # file:///x?from=rtsp://u:p@h holds a second URL.
    return b"://" + authority + (_URL.sub(_without_user_info, path) if b"://" in path else path)


# --- the pipeline -----------------------------------------------------------------------------


def configure(service: str, *, out: BinaryIO | None = None, level: int = logging.INFO) -> None:
    """Send every log, warning and crash of this process through one pipeline to stderr."""
    stream: Any = out or _Stderr()
    chain = _chain(service)
    structlog.configure(
        processors=[*chain, _render],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.BytesLoggerFactory(stream),
        # A stderr that was put there by a test goes away again; a cached logger would not notice.
        cache_logger_on_first_use=out is None and sys.stderr is sys.__stderr__,
    )
    _route_logging(stream, chain, level)
    _route_crashes()


class _Stderr:
    """Whatever stderr is when a line is written."""

    def write(self, line: bytes) -> int:
        return sys.stderr.buffer.write(line)

    def flush(self) -> None:
        sys.stderr.flush()


def _chain(service: str) -> list[Processor]:
    def add_service(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
        event["service.name"] = service
        event["service.version"] = release
        return event

    release = version()
    return [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="timestamp"),
        add_service,
        structlog.processors.format_exc_info,
    ]


def _render(_logger: WrappedLogger, _method: str, event: EventDict) -> bytes:
    return redact(_encode(event))


_FIRST: Final = ("timestamp", "level", "event")
_encoder = msgspec.json.Encoder(enc_hook=repr)


def _encode(event: MutableMapping[str, Any]) -> bytes:
    line = {name: event[name] for name in _FIRST if name in event}
    for name, value in event.items():
        # msgspec would write bytes as base64, behind which nothing can be found or hidden.
        line[name] = f"<{len(value)} bytes>" if isinstance(value, bytes | bytearray | memoryview) else value
    try:
        return _encoder.encode(line)
    except (TypeError, ValueError, UnicodeError, RecursionError):
        return _encoder.encode({name: _text(value) for name, value in line.items()})


def _text(value: object) -> str:
    """Return any value as UTF-8 text: lone surrogates and odd keys must not lose a line."""
    return str(value).encode("utf-8", "backslashreplace").decode()


class _Handler(logging.Handler):
    """Takes a record of the `logging` module into our pipeline."""

    def __init__(self, stream: BinaryIO, chain: list[Processor]) -> None:
        super().__init__()
        self._logger = structlog.BytesLogger(stream)
        self._chain = chain

    def emit(self, record: logging.LogRecord) -> None:
        method = record.levelname.lower()
        event: Any = {"event": record.getMessage(), "logger": record.name}
        if record.exc_info:
            event["exc_info"] = record.exc_info
        for processor in self._chain:
            event = processor(self._logger, method, event)
        self._logger.msg(_render(self._logger, method, event))


def _route_logging(stream: BinaryIO, chain: list[Processor], level: int) -> None:
    root = logging.getLogger()
    root.handlers[:] = [_Handler(stream, chain)]
    root.setLevel(level)
    for name, foreign_level in _FOREIGN_LEVELS.items():
        logging.getLogger(name).setLevel(max(level, foreign_level))
    logging.captureWarnings(capture=True)


def _route_crashes() -> None:
    """Let no traceback reach stderr past redaction."""
    crashed: Callable[..., Any] = structlog.get_logger().critical

    def at_top(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        if issubclass(kind, KeyboardInterrupt):
            sys.exit(130)
        crashed("process.crashed", exc_info=(kind, error, trace))

    def in_thread(what: threading.ExceptHookArgs) -> None:
        if what.exc_value is not None:
            crashed("thread.crashed", exc_info=(what.exc_type, what.exc_value, what.exc_traceback))

    def unraisable(what: Any) -> None:
        crashed("object.failed_unseen", exc_info=what.exc_value, where=what.err_msg)

    sys.excepthook = at_top
    threading.excepthook = in_thread
    sys.unraisablehook = unraisable
