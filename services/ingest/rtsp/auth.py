"""Digest and Basic for RTSP. Pure; nothing here prints a secret.

Source: RFC 7616, RFC 7617, cameras.md 3.3.
"""

import base64
import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from services.ingest.media_types import Credentials

_PIECE: Final = re.compile(
    r"""\s*,?\s*(?:(?P<name>[A-Za-z0-9_-]+)\s*=\s*(?:"(?P<quoted>(?:[^"\\]|\\.)*)"|(?P<bare>[^\s,"]*))"""
    r"""|(?P<scheme>[A-Za-z][A-Za-z0-9_-]*)(?=\s|,|$))"""
)
_RANK: Final = {"SHA-256": 0, "SHA-256-SESS": 0, "MD5": 1, "MD5-SESS": 1}


@dataclass(frozen=True, slots=True, kw_only=True)
class Challenge:
    """One offer of a `WWW-Authenticate` header. `algorithm` is upper case; Digest without one is MD5."""

    scheme: str
    realm: str
    nonce: str = ""
    opaque: str | None = None
    algorithm: str = "MD5"
    algorithm_said: str | None = None
    qop_auth: bool = False
    stale: bool = False


def challenges(values: Iterable[str]) -> tuple[Challenge, ...]:
    """Read every challenge of every header, also several in one line."""
    found: list[tuple[str, dict[str, str]]] = []
    for value in values:
        for piece in _PIECE.finditer(value):
            if piece["scheme"]:
                found.append((piece["scheme"].lower(), {}))
            elif found:
                text = piece["bare"] if piece["quoted"] is None else re.sub(r"\\(.)", r"\1", piece["quoted"])
                found[-1][1].setdefault(piece["name"].lower(), text or "")
    return tuple(_challenge(scheme, fields) for scheme, fields in found if scheme in ("basic", "digest"))


def choose(offers: Iterable[Challenge], *, basic_allowed: bool) -> Challenge | None:
    """Return the strongest offer we can answer: SHA-256, then MD5, then Basic where it is allowed."""
    known = [offer for offer in offers if offer.scheme == "basic" or (offer.algorithm in _RANK and offer.nonce)]
    digests = sorted((o for o in known if o.scheme == "digest"), key=lambda o: _RANK[o.algorithm])
    if digests:
        return digests[0]
    return next(iter(known), None) if basic_allowed else None


def authorization(
    challenge: Challenge, credentials: Credentials, *, method: str, uri: str, count: int, cnonce: str
) -> str:
    """Return the `Authorization` value; `uri` is the exact string of the request line."""
    if challenge.scheme == "basic":
        pair = f"{credentials.username}:{credentials.password}".encode()
        return f"Basic {base64.b64encode(pair).decode()}"
    sha = challenge.algorithm.startswith("SHA-256")
    secret = _hash(f"{credentials.username}:{challenge.realm}:{credentials.password}", sha=sha)
    if challenge.algorithm.endswith("-SESS"):
        secret = _hash(f"{secret}:{challenge.nonce}:{cnonce}", sha=sha)
    request = _hash(f"{method}:{uri}", sha=sha)
    fields = [
        f'username="{_quote(credentials.username)}"',
        f'realm="{_quote(challenge.realm)}"',
        f'nonce="{_quote(challenge.nonce)}"',
        f'uri="{uri}"',
    ]
    if challenge.qop_auth:
        proof = _hash(f"{secret}:{challenge.nonce}:{count:08x}:{cnonce}:auth:{request}", sha=sha)
        fields += [f'response="{proof}"', "qop=auth", f"nc={count:08x}", f'cnonce="{cnonce}"']
    else:
        fields.append(f'response="{_hash(f"{secret}:{challenge.nonce}:{request}", sha=sha)}"')
    if challenge.opaque is not None:
        fields.append(f'opaque="{_quote(challenge.opaque)}"')
    if challenge.algorithm_said is not None:
        fields.append(f"algorithm={challenge.algorithm_said}")
    return "Digest " + ", ".join(fields)


def _challenge(scheme: str, fields: dict[str, str]) -> Challenge:
    said = fields.get("algorithm")
    return Challenge(
        scheme=scheme,
        realm=fields.get("realm", ""),
        nonce=fields.get("nonce", ""),
        opaque=fields.get("opaque"),
        algorithm=(said or "MD5").upper(),
        algorithm_said=said or None,
        qop_auth="auth" in [word.strip().lower() for word in fields.get("qop", "").split(",")],
        stale=fields.get("stale", "").lower() == "true",
    )


def _hash(text: str, *, sha: bool) -> str:
    raw = text.encode()
    return hashlib.sha256(raw).hexdigest() if sha else hashlib.md5(raw, usedforsecurity=False).hexdigest()


def _quote(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"')
