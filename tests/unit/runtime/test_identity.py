"""Which tokens are believed, and what the demo's issuer leaves behind."""

import base64
import hmac
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from joserfc import jwt
from joserfc.jwk import ECKey, KeySet, OctKey, RSAKey

from services.runtime.clock import FakeClock
from services.runtime.errors import SettingsError
from services.runtime.identity import (
    ROLES,
    Caller,
    DemoIssuer,
    Identity,
    NotAuthenticated,
    _KeyFile,
    is_loopback,
    refuse_unless_loopback,
)
from services.runtime.settings import IdentitySettings

HOUR_S = 3600


class City:
    """An issuer with its key file, and an identity that reads it."""

    def __init__(self, directory: Path) -> None:
        self.clock = FakeClock()
        self.key = ECKey.generate_key("P-256", {"kid": "k1"})
        self.jwks_file = directory / "jwks.json"
        self.publish(self.key)
        self.identity = Identity.from_settings(
            IdentitySettings(issuer="https://city", audience="safealley", jwks_file=self.jwks_file), clock=self.clock
        )

    def publish(self, *keys: ECKey | RSAKey | OctKey) -> None:
        private = any(isinstance(key, OctKey) for key in keys)
        self.jwks_file.write_text(json.dumps(KeySet(list(keys)).as_dict(private=private)), encoding="utf-8")

    def claims(self, **changed: Any) -> dict[str, Any]:
        claims = {
            "iss": "https://city",
            "aud": "safealley",
            "sub": "kim",
            "role": "operator",
            "jurisdictions": ["mapo"],
            "exp": self.clock.now_us() // 1_000_000 + HOUR_S,
        }
        return {name: value for name, value in (claims | changed).items() if value is not None}

    def token(self, *, header: dict[str, Any] | None = None, key: Any = None, **changed: Any) -> str:
        head = {"alg": "ES256", "kid": "k1"} | (header or {})
        return jwt.encode(head, self.claims(**changed), key or self.key, algorithms=[head["alg"]])


@pytest.fixture
def city(tmp_path: Path) -> City:
    return City(tmp_path)


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Note each time the key file is read."""
    seen: list[Path] = []
    real = _KeyFile._read_bytes

    def counted(self: _KeyFile) -> bytes:
        seen.append(self._file)
        return real(self)

    monkeypatch.setattr(_KeyFile, "_read_bytes", counted)
    return seen


def refusal(city: City, token: str) -> str:
    with pytest.raises(NotAuthenticated) as refused:
        city.identity.verify(token)
    return str(refused.value)


def test_a_good_token_names_its_caller(city: City) -> None:
    expected_us = city.clock.now_us() // 1_000_000 * 1_000_000 + HOUR_S * 1_000_000
    assert city.identity.verify(city.token()) == Caller(
        account="kim", role="operator", jurisdictions=("mapo",), expires_us=expected_us
    )


def test_rs256_is_believed_too(city: City) -> None:
    key = RSAKey.generate_key(2048, {"kid": "r1"})
    city.publish(city.key, key)
    assert city.identity.verify(city.token(header={"alg": "RS256", "kid": "r1"}, key=key)).account == "kim"


@pytest.mark.parametrize("missing", ["iss", "aud", "exp", "sub", "role", "jurisdictions"])
def test_a_token_without_an_essential_claim_is_refused(missing: str, city: City) -> None:
    refusal(city, city.token(**{missing: None}))


@pytest.mark.parametrize(
    "changed",
    [
        {"iss": "https://other"},
        {"aud": "other"},
        {"aud": ["other"]},
        {"role": "root"},
        {"role": ["operator"]},
        {"jurisdictions": "mapo"},
        {"jurisdictions": [1]},
        {"sub": ""},
        {"sub": 7},
        {"exp": "tomorrow"},
        {"exp": True},
        {"nbf": 4_000_000_000},
    ],
    ids=str,
)
def test_a_token_with_a_wrong_claim_is_refused(changed: dict[str, Any], city: City) -> None:
    refusal(city, city.token(**changed))


async def test_a_token_is_good_until_it_expires_and_half_a_minute_of_clock_error_longer(city: City) -> None:
    token = city.token()
    await city.clock.advance(HOUR_S + 29)
    city.identity.verify(token)
    await city.clock.advance(2)
    assert "expired" in refusal(city, token)


def encoded(value: bytes) -> str:
    return base64.urlsafe_b64encode(value).decode().rstrip("=")


def unsigned(city: City, algorithm: str) -> str:
    head, body = ({"alg": algorithm, "kid": "k1"}, city.claims())
    return f"{encoded(json.dumps(head).encode())}.{encoded(json.dumps(body).encode())}."


@pytest.mark.parametrize("algorithm", ["none", "None", "NONE", ""])
def test_an_unsigned_token_is_refused(algorithm: str, city: City) -> None:
    refusal(city, unsigned(city, algorithm))


def test_hs256_over_the_public_key_is_refused(city: City) -> None:
    # The old confusion: the public key, known to all, taken as a shared secret.
    # Signed by hand: joserfc itself refuses to make such a token.
    signed = unsigned(city, "HS256").removesuffix(".")
    signature = hmac.digest(city.key.as_pem(private=False), signed.encode(), "sha256")
    refusal(city, f"{signed}.{encoded(signature)}")


def test_a_shared_secret_in_the_key_file_is_not_a_key_of_ours(city: City) -> None:
    secret = OctKey.generate_key(256, {"kid": "s1"})
    city.publish(city.key, secret)
    refusal(city, city.token(header={"alg": "HS256", "kid": "s1"}, key=secret))


def test_a_key_that_comes_with_its_token_is_not_believed(city: City) -> None:
    own = ECKey.generate_key("P-256", {"kid": "own"})
    refusal(city, city.token(header={"kid": "own", "jwk": own.as_dict(private=False)}, key=own))


def test_another_key_under_a_known_id_is_refused(city: City) -> None:
    assert "bad_signature" in refusal(city, city.token(key=ECKey.generate_key("P-256", {"kid": "k1"})))


def test_a_token_that_names_no_key_is_refused(city: City) -> None:
    token = jwt.encode({"alg": "ES256"}, city.claims(), city.key, algorithms=["ES256"])
    assert refusal(city, token) == "the token names no key"


def test_a_token_without_end_is_refused(city: City) -> None:
    assert refusal(city, "a" * 10_000) == "the token is too long"


def test_a_refusal_never_repeats_the_token(city: City) -> None:
    token = city.token(aud="other")
    assert token.split(".")[1] not in refusal(city, token)


@given(st.text(max_size=80) | st.from_regex(r"[A-Za-z0-9_\-]{0,20}\.[A-Za-z0-9_\-]{0,20}\.[A-Za-z0-9_\-]{0,20}"))
def test_whatever_is_sent_as_a_token_is_refused_and_nothing_else_happens(text: str) -> None:
    identity = Identity(issuer="i", audience="a", jwks_file=Path("absent"), clock=FakeClock())
    with pytest.raises(NotAuthenticated):
        identity.verify(text)


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(max_size=5), st.lists, max_leaves=4))
def test_whatever_stands_in_a_header_is_refused_and_nothing_else_happens(header: Any) -> None:
    identity = Identity(issuer="i", audience="a", jwks_file=Path("absent"), clock=FakeClock())
    for head in (header, {"alg": header}, {"alg": "ES256", "kid": header}, {"alg": "ES256", "crit": header}):
        part = base64.urlsafe_b64encode(json.dumps(head).encode()).decode().rstrip("=")
        with pytest.raises(NotAuthenticated):
            identity.verify(f"{part}.e30.AA")


# --- the key file -----------------------------------------------------------------------------


async def test_a_thousand_unknown_keys_read_the_file_once_a_minute(city: City, reads: list[Path]) -> None:
    city.identity.verify(city.token())
    assert len(reads) == 1
    await city.clock.advance(60)
    for number in range(1000):
        refusal(city, city.token(header={"kid": f"x{number}"}))
    assert len(reads) == 2


async def test_a_new_key_is_found_a_minute_after_the_last_look(city: City) -> None:
    city.identity.verify(city.token())
    fresh = ECKey.generate_key("P-256", {"kid": "k2"})
    city.publish(city.key, fresh)
    token = city.token(header={"kid": "k2"}, key=fresh)
    assert "do not know" in refusal(city, token)
    await city.clock.advance(60)
    assert city.identity.verify(token).account == "kim"


async def test_a_withdrawn_key_is_forgotten_after_ten_minutes(city: City) -> None:
    token = city.token()
    city.identity.verify(token)
    city.publish(ECKey.generate_key("P-256", {"kid": "k2"}))
    await city.clock.advance(601)
    assert "do not know" in refusal(city, token)


@pytest.mark.parametrize("content", [None, "", "{}", '{"keys": []}', '{"keys": [7]}', '{"keys": [{"kty": "EC"}]}'])
async def test_the_last_good_keys_outlive_a_missing_or_broken_file(content: str | None, city: City) -> None:
    city.identity.verify(city.token())
    if content is None:
        city.jwks_file.unlink()
    else:
        city.jwks_file.write_text(content, encoding="utf-8")
    await city.clock.advance(601)
    assert city.identity.verify(city.token()).account == "kim"


async def test_an_issuer_that_starts_beside_us_is_found_within_a_second(city: City) -> None:
    kept = city.jwks_file.read_bytes()
    city.jwks_file.unlink()
    refusal(city, city.token())
    city.jwks_file.write_bytes(kept)
    await city.clock.advance(1)
    assert city.identity.verify(city.token()).account == "kim"


# --- the demo's issuer ------------------------------------------------------------------------


def test_the_demo_issues_a_token_for_each_role(tmp_path: Path) -> None:
    clock = FakeClock()
    issuer = DemoIssuer(tmp_path, clock=clock, jurisdictions=("mapo", "jung"))
    identity = Identity.from_settings(IdentitySettings(jwks_file=issuer.jwks_file), clock=clock)
    callers = {role: identity.verify(token) for role, token in issuer.tokens().items()}
    assert tuple(callers) == ROLES
    assert all(caller.role == role for role, caller in callers.items())
    assert callers["auditor"].jurisdictions == ("mapo", "jung")
    assert callers["auditor"].may_see("jung")
    assert not callers["auditor"].may_see("gangnam")


async def test_a_demo_token_is_good_for_twelve_hours_and_can_be_had_again(tmp_path: Path) -> None:
    clock = FakeClock()
    issuer = DemoIssuer(tmp_path, clock=clock)
    identity = Identity.from_settings(IdentitySettings(jwks_file=issuer.jwks_file), clock=clock)
    token = issuer.tokens()["operator"]
    await clock.advance(12 * HOUR_S + 31)
    with pytest.raises(NotAuthenticated):
        identity.verify(token)
    assert identity.verify(issuer.tokens()["operator"]).role == "operator"


def test_the_demo_key_is_its_owners_alone_and_the_key_set_has_no_private_part(tmp_path: Path) -> None:
    issuer = DemoIssuer(tmp_path)
    assert (tmp_path / "demo-key.json").stat().st_mode & 0o777 == 0o600
    assert "d" not in json.loads(issuer.jwks_file.read_bytes())["keys"][0]
    assert sorted(file.name for file in tmp_path.iterdir()) == ["demo-key.json", "jwks.json"]


def test_a_restart_keeps_everybody_signed_in(tmp_path: Path) -> None:
    clock = FakeClock()
    token = DemoIssuer(tmp_path, clock=clock).issue("operator")
    again = DemoIssuer(tmp_path, clock=clock)
    identity = Identity.from_settings(IdentitySettings(jwks_file=again.jwks_file), clock=clock)
    assert identity.verify(token).account == "demo-operator"


def test_a_demo_key_that_others_may_read_is_refused(tmp_path: Path) -> None:
    DemoIssuer(tmp_path)
    (tmp_path / "demo-key.json").chmod(0o644)
    with pytest.raises(SettingsError, match="chmod 600"):
        DemoIssuer(tmp_path)


def test_a_broken_demo_key_is_named_with_its_cure(tmp_path: Path) -> None:
    DemoIssuer(tmp_path)
    (tmp_path / "demo-key.json").write_text("{}", encoding="utf-8")
    with pytest.raises(SettingsError, match="remove it for a new one"):
        DemoIssuer(tmp_path)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1", "localhost"])
def test_a_loopback_address_is_this_machines_own(host: str) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize(
    "host", ["0.0.0.0", "::", "10.0.0.1", "::ffff:10.0.0.1", "localhost.example", "", "127.1.evil"]
)
def test_the_demo_refuses_every_other_address(host: str) -> None:
    with pytest.raises(SettingsError, match="refuses to listen"):
        refuse_unless_loopback(host)
