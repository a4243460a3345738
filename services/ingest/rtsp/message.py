"""RTSP messages as text: requests out, responses in. Pure; tolerant where real cameras are careless.

Source: RFC 2326, cameras.md 3.2 and the R fixtures of cameras.md 16.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from services.ingest.rtsp.errors import MessageError

USER_AGENT: Final = "safealley"
SESSION_TIMEOUT_S: Final = 60  # RFC 2326 section 12.37
_BLANK_LINE: Final = re.compile(rb"\r?\n\r?\n")
_STATUS_LINE: Final = re.compile(r"RTSP/\d+\.\d+[ \t]+(\d{3})(?:[ \t]+(.*))?$")


@dataclass(frozen=True, slots=True, kw_only=True)
class Response:
    """One response. Header names are lower case; values are trimmed; repeated headers stay apart."""

    status: int
    reason: str
    headers: tuple[tuple[str, str], ...]
    body: bytes

    def all(self, name: str) -> tuple[str, ...]:
        return tuple(value for key, value in self.headers if key == name)

    def first(self, name: str) -> str | None:
        return next(iter(self.all(name)), None)

    @property
    def cseq(self) -> int | None:
        text = (self.first("cseq") or "").replace(" ", "")
        return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else None


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerRequest:
    """A request the camera sends us (ANNOUNCE, OPTIONS, REDIRECT): answered with 501, never obeyed."""

    method: str
    cseq: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Transport:
    """The reply to SETUP. Channels are None where the camera does not say them."""

    rtp_channel: int | None
    rtcp_channel: int | None
    ssrc: int | None
    interleaved: bool


def parse(data: bytes) -> Response | PeerRequest:
    """Read one whole message.

    Raises:
        MessageError: the first line is neither a status nor a request line.
    """
    blank = _BLANK_LINE.search(data)
    head, body = (data[: blank.start()], data[blank.end() :]) if blank else (data, b"")
    lines = head.decode("utf-8", "replace").split("\n")
    first = lines[0].strip()
    headers = tuple(_headers(lines[1:]))
    status = _STATUS_LINE.match(first)
    if status:
        return Response(status=int(status[1]), reason=(status[2] or "").strip(), headers=headers, body=body)
    words = first.split()
    if len(words) < 2 or first.startswith("RTSP/"):
        raise MessageError("first line is neither a status nor a request")
    return PeerRequest(method=words[0], cseq=next((value for name, value in headers if name == "cseq"), "0"))


def request(method: str, url: str, cseq: int, headers: Iterable[tuple[str, str]] = ()) -> bytes:
    """Write a request. `url` must carry no user info."""
    lines = [f"{method} {url} RTSP/1.0", f"CSeq: {cseq}", f"User-Agent: {USER_AGENT}"]
    lines += [f"{name}: {value}" for name, value in headers]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def session_id(value: str) -> tuple[str, int]:
    """Return the opaque id and the timeout in seconds of a `Session` header."""
    parts = [part.strip() for part in value.split(";")]
    for part in parts[1:]:
        name, _, number = part.partition("=")
        digits = number.strip()
        if name.strip().lower() == "timeout" and digits.isascii() and digits.isdigit() and 0 < len(digits) < 7:
            return parts[0], max(1, int(digits))
    return parts[0], SESSION_TIMEOUT_S


def transport(value: str) -> Transport:
    """Read the `Transport` header of a SETUP reply; parameters may come in any order."""
    rtp = rtcp = ssrc = None
    interleaved = "tcp" in value.lower()
    for part in value.split(";"):
        name, _, text = part.partition("=")
        name = name.strip().lower()
        text = text.strip()
        if name == "interleaved":
            channels = re.findall(r"\d{1,3}", text)
            rtp = int(channels[0]) if channels and int(channels[0]) < 256 else None
            rtcp = int(channels[1]) if len(channels) > 1 and int(channels[1]) < 256 else None
            interleaved = True
        elif name == "ssrc":
            ssrc = _hexadecimal(text)
    return Transport(rtp_channel=rtp, rtcp_channel=rtcp, ssrc=ssrc, interleaved=interleaved)


def public_methods(response: Response) -> frozenset[str]:
    """Return the methods the server says it knows; empty when it says nothing."""
    values = ",".join((*response.all("public"), *response.all("allow")))
    return frozenset(word.strip().upper() for word in values.split(",") if word.strip())


def _headers(lines: Iterable[str]) -> Iterable[tuple[str, str]]:
    for line in lines:
        name, colon, value = line.partition(":")
        if colon and name.strip():
            yield name.strip().lower(), value.strip()


def _hexadecimal(text: str) -> int | None:
    digits = text.strip().strip('"')
    if not re.fullmatch(r"[0-9A-Fa-f]{1,8}", digits):
        return None
    return int(digits, 16)
