"""W3C trace context: the `traceparent` header made, read and handed on. No SDK.

Forty lines of our own, since the asyncio instrumentation of OpenTelemetry leaks (kafka.md, guard 22).
Source: https://www.w3.org/TR/trace-context/ (version 00).
"""

import re
import secrets
from dataclasses import dataclass, replace
from typing import Final

_FORM: Final = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_NO_TRACE: Final = "0" * 32
_NO_SPAN: Final = "0" * 16
_SAMPLED: Final = 0x01


@dataclass(frozen=True, slots=True, kw_only=True)
class TraceContext:
    """Where a record or request stands in its trace."""

    trace_id: str
    span_id: str
    sampled: bool

    def __str__(self) -> str:
        return f"00-{self.trace_id}-{self.span_id}-{int(self.sampled):02x}"

    def child(self) -> "TraceContext":
        """Return the context of the next step of the same trace."""
        return replace(self, span_id=secrets.token_hex(8))


def new_trace(*, sampled: bool = False) -> TraceContext:
    """Return the context of a trace that begins here."""
    return TraceContext(trace_id=secrets.token_hex(16), span_id=secrets.token_hex(8), sampled=sampled)


def parse(traceparent: str | None) -> TraceContext | None:
    """Return the context of a header, or None when it is missing or not one: then a trace begins anew."""
    found = None if traceparent is None else _FORM.fullmatch(traceparent)
    if found is None:
        return None
    version, trace_id, span_id, flags, more = found.groups()
    if version == "ff" or (version == "00" and more) or trace_id == _NO_TRACE or span_id == _NO_SPAN:
        return None
    return TraceContext(trace_id=trace_id, span_id=span_id, sampled=bool(int(flags, 16) & _SAMPLED))
