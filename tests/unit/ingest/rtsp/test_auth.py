"""Digest and Basic, with the published examples as the reference."""

from services.ingest.media_types import Credentials
from services.ingest.rtsp import auth
from services.ingest.rtsp.auth import Challenge

MUFASA = Credentials(username="Mufasa", password="Circle of Life")


def published(algorithm: str) -> Challenge:
    return Challenge(
        scheme="digest",
        realm="http-auth@example.org",
        nonce="7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v",
        opaque="FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS",
        algorithm=algorithm,
        algorithm_said=algorithm,
        qop_auth=True,
    )


def answer(algorithm: str) -> str:
    return auth.authorization(
        published(algorithm),
        MUFASA,
        method="GET",
        uri="/dir/index.html",
        count=1,
        cnonce="f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ",
    )


def test_r16_sha_256_gives_the_published_response() -> None:
    """RFC 7616 section 3.9.1."""
    assert 'response="753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1"' in answer("SHA-256")


def test_md5_gives_the_published_response() -> None:
    """RFC 7616 section 3.9.1."""
    assert 'response="8ca523f5e9506fed4657c9700eebdbec"' in answer("MD5")


def test_r14_digest_without_algorithm_is_md5_and_stays_unsaid() -> None:
    (offer,) = auth.challenges(['Digest realm="Surveillance Server", nonce="98481030"'])
    assert (offer.algorithm, offer.algorithm_said, offer.qop_auth) == ("MD5", None, False)
    text = auth.authorization(offer, MUFASA, method="DESCRIBE", uri="rtsp://c/1", count=1, cnonce="c")
    assert "algorithm" not in text
    assert "qop" not in text


def test_r15_basic_and_digest_in_one_line_and_in_two() -> None:
    one = auth.challenges(['Basic realm="a, b", Digest realm="c", nonce="n", stale=TRUE, algorithm="SHA-256"'])
    two = auth.challenges(['Basic realm="a, b"', 'Digest realm="c", nonce="n", stale=true, algorithm=SHA-256'])
    assert [offer.scheme for offer in one] == ["basic", "digest"]
    assert one == two
    chosen = auth.choose(one, basic_allowed=True)
    assert chosen is not None
    assert (chosen.scheme, chosen.stale) == ("digest", True)


def test_sha_256_is_chosen_before_md5_and_unknown_algorithms_never() -> None:
    offers = auth.challenges(
        [
            "Digest realm=r, nonce=n, algorithm=MD5",
            "Digest realm=r, nonce=n, algorithm=SHA-256",
            "Digest nonce=n, algorithm=X",
        ]
    )
    chosen = auth.choose(offers, basic_allowed=False)
    assert chosen is not None
    assert chosen.algorithm == "SHA-256"
    assert auth.choose(offers[2:], basic_allowed=False) is None


def test_basic_is_answered_only_where_the_device_allows_it() -> None:
    offers = auth.challenges(['Basic realm="camera"'])
    assert auth.choose(offers, basic_allowed=False) is None
    chosen = auth.choose(offers, basic_allowed=True)
    assert chosen is not None
    assert auth.authorization(chosen, MUFASA, method="PLAY", uri="u", count=1, cnonce="") == (
        "Basic TXVmYXNhOkNpcmNsZSBvZiBMaWZl"
    )


def test_credentials_are_never_printed() -> None:
    assert "Circle" not in repr(MUFASA)
