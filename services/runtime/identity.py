"""Who is asking: tokens checked through joserfc (its only importer), roles, and the demo's small issuer.

Only ES256 and RS256 are believed; issuer, audience and expiry must be there. Keys come from a file
that holds the issuer's key set. No `jku`, `x5u` or embedded key is ever followed.
"""

import contextlib
import ipaddress
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final, Literal, get_args

import msgspec
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, KeySet, RSAKey
from joserfc.jws import CompactSignature
from msgspec import Meta, Struct

from services.runtime.clock import Clock, SystemClock
from services.runtime.errors import SettingsError
from services.runtime.settings import IdentitySettings

Role = Literal["operator", "supervisor", "records_officer", "police_liaison", "auditor", "admin"]
ROLES: Final[tuple[Role, ...]] = get_args(Role)

ALGORITHMS: Final = ("ES256", "RS256")
LEEWAY_S: Final = 30
TOKEN_CHARS_MAX: Final = 8192
REREAD_AFTER_S: Final = 60
"""An unknown key id makes the file be read again, at most this often: ids are free to invent."""
FIRST_READ_AGAIN_S: Final = 1
KEYS_KEPT_S: Final = 600
"""Known keys are looked for again after this long, so that a withdrawn key goes."""
DEMO_EXPIRY_S: Final = 12 * 3600


class NotAuthenticated(Exception):
    """The token is not believed; the text says why and never holds it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """A person who was believed, until `expires_us`."""

    account: str
    role: Role
    jurisdictions: tuple[str, ...]
    expires_us: int | None = None

    def may_see(self, jurisdiction: str) -> bool:
        """Tell whether this jurisdiction is the caller's."""
        return jurisdiction in self.jurisdictions


class _Claims(Struct, frozen=True, kw_only=True):
    sub: Annotated[str, Meta(min_length=1, max_length=128)]
    role: Role
    jurisdictions: tuple[Annotated[str, Meta(min_length=1, max_length=64)], ...]
    exp: int | float


class Identity:
    """Checks tokens of one issuer for one audience."""

    def __init__(self, *, issuer: str, audience: str, jwks_file: Path, clock: Clock) -> None:
        self._keys = _KeyFile(jwks_file, clock)
        self._clock = clock
        self._claims = jwt.JWTClaimsRegistry(
            now=lambda: clock.now_us() // 1_000_000,
            leeway=LEEWAY_S,
            iss={"essential": True, "value": issuer},
            aud={"essential": True, "value": audience},
            exp={"essential": True},
        )

    @classmethod
    def from_settings(cls, settings: IdentitySettings, *, clock: Clock | None = None) -> "Identity":
        return cls(
            issuer=settings.issuer,
            audience=settings.audience,
            jwks_file=settings.jwks_file,
            clock=clock or SystemClock(),
        )

    def verify(self, token: str) -> Caller:
        """Return who a token speaks for. Costs about 0.1 ms; reads the key file at most once a minute.

        Raises:
            NotAuthenticated: not a token, not signed by the issuer, not for us, expired, or of no known role.
        """
        if len(token) > TOKEN_CHARS_MAX:
            raise NotAuthenticated("the token is too long")
        try:
            decoded = jwt.decode(token, self._keys.find, algorithms=ALGORITHMS)
            self._claims.validate(decoded.claims)
            claims = msgspec.convert(decoded.claims, _Claims)
        except JoseError as error:
            raise NotAuthenticated(f"the token is refused: {error.error or 'not a token'}") from None
        except msgspec.ValidationError:
            raise NotAuthenticated("the token names no account, role or jurisdictions of ours") from None
        except (ValueError, TypeError, KeyError, AttributeError):
            # What joserfc lets through from bytes that are no token at all.
            raise NotAuthenticated("the token is refused: not a token") from None
        return Caller(
            account=claims.sub,
            role=claims.role,
            jurisdictions=claims.jurisdictions,
            expires_us=int(claims.exp * 1_000_000),
        )


class _KeyFile:
    """The issuer's public keys, kept; the last good set outlives a missing or broken file."""

    def __init__(self, file: Path, clock: Clock) -> None:
        self._file = file
        self._clock = clock
        self._keys: dict[str, ECKey | RSAKey] = {}
        self._read_at_s: float | None = None

    def find(self, token: Any) -> ECKey | RSAKey:
        """Return the key a token names; joserfc calls this with the parsed token."""
        kid = token.headers().get("kid") if isinstance(token, CompactSignature) else None
        if not isinstance(kid, str):
            raise NotAuthenticated("the token names no key")
        if kid not in self._keys or self._age_s() > KEYS_KEPT_S:
            self._read_again()
        if kid not in self._keys:
            raise NotAuthenticated("the token is signed with a key we do not know")
        return self._keys[kid]

    def _age_s(self) -> float:
        now_s = self._clock.monotonic_ns() / 1e9
        return float("inf") if self._read_at_s is None else now_s - self._read_at_s

    def _read_again(self) -> None:
        # Before the first good set the issuer may just be starting beside us.
        if self._age_s() < (REREAD_AFTER_S if self._keys else FIRST_READ_AGAIN_S):
            return
        self._read_at_s = self._clock.monotonic_ns() / 1e9
        try:
            found = msgspec.json.decode(self._read_bytes(), type=dict[str, Any])["keys"]
            keys = {str(one["kid"]): _public_key(one) for one in found if one.get("kty") in ("EC", "RSA")}
        except (OSError, msgspec.DecodeError, KeyError, TypeError, AttributeError, ValueError, JoseError):
            return
        self._keys = keys or self._keys

    def _read_bytes(self) -> bytes:
        return self._file.read_bytes()


def _public_key(value: dict[str, Any]) -> ECKey | RSAKey:
    return ECKey.import_key(value) if value["kty"] == "EC" else RSAKey.import_key(value)


class DemoIssuer:
    """Signs tokens for the demo's fixed roles. For loopback only: see `refuse_unless_loopback`.

    `directory` gets `demo-key.json` (private, mode 0600) and `jwks.json` (what `Identity` reads).
    A key that is there is used again, so that a restart keeps everybody signed in.
    """

    def __init__(
        self,
        directory: Path,
        *,
        clock: Clock | None = None,
        issuer: str = IdentitySettings().issuer,
        audience: str = IdentitySettings().audience,
        jurisdictions: tuple[str, ...] = (),
    ) -> None:
        self._clock = clock or SystemClock()
        self._issuer = issuer
        self._audience = audience
        self._jurisdictions = jurisdictions
        directory.mkdir(parents=True, exist_ok=True)
        self._key = _kept_key(directory / "demo-key.json")
        self.jwks_file = directory / "jwks.json"
        _write_whole(self.jwks_file, msgspec.json.encode(KeySet([self._key]).as_dict(private=False)), mode=0o644)

    def issue(
        self,
        role: Role,
        *,
        account: str | None = None,
        jurisdictions: tuple[str, ...] | None = None,
        valid_s: int = DEMO_EXPIRY_S,
    ) -> str:
        """Return a token of this role; its account is `demo-<role>` unless named."""
        now_s = self._clock.now_us() // 1_000_000
        claims = {
            "iss": self._issuer,
            "aud": self._audience,
            "sub": account or f"demo-{role}",
            "role": role,
            "jurisdictions": list(self._jurisdictions if jurisdictions is None else jurisdictions),
            "iat": now_s,
            "exp": now_s + valid_s,
        }
        return jwt.encode({"alg": "ES256", "kid": self._key.kid}, claims, self._key, algorithms=["ES256"])

    def tokens(self) -> dict[Role, str]:
        """Return a fresh token for each role, good for 12 hours."""
        return {role: self.issue(role) for role in ROLES}


def refuse_unless_loopback(host: str) -> None:
    """Keep the demo issuer off the network.

    Raises:
        SettingsError: others could reach this address.
    """
    if not is_loopback(host):
        raise SettingsError(
            f"demo sign-in refuses to listen on {host}: use 127.0.0.1, or set identity to the city's issuer"
        )


def is_loopback(host: str) -> bool:
    """Tell whether an address is this machine's own; names other than localhost are not."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host == "localhost"
    mapped = getattr(address, "ipv4_mapped", None)
    return bool((mapped or address).is_loopback)


def _kept_key(file: Path) -> ECKey:
    if not file.exists():
        fresh = ECKey.generate_key("P-256", private=True, auto_kid=True)
        _write_whole(file, msgspec.json.encode(fresh.as_dict(private=True)), mode=0o600, keep=True)
    if file.stat().st_mode & 0o077:
        raise SettingsError(f"{file}: others may read this key: chmod 600 it, or remove it for a new one")
    try:
        key = ECKey.import_key(msgspec.json.decode(file.read_bytes(), type=dict[str, Any]))
    except (msgspec.DecodeError, ValueError, JoseError):
        raise SettingsError(f"{file}: no key: remove it for a new one") from None
    key.ensure_kid()
    return key


def _write_whole(file: Path, content: bytes, *, mode: int, keep: bool = False) -> None:
    """Write a file that is whole whenever it is there, also after a power cut; `keep`: another process's stays."""
    draft = file.with_name(f".{file.name}.{os.getpid()}")
    draft.unlink(missing_ok=True)
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as out:
        out.write(content)
        out.flush()
        os.fsync(out.fileno())
    if keep:
        with contextlib.suppress(FileExistsError):
            os.link(draft, file)
        draft.unlink()
    else:
        draft.replace(file)
    _sync_directory(file.parent)


def _sync_directory(directory: Path) -> None:
    opened = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)
