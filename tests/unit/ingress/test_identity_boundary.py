"""What comes from outside about callers raises nothing, whatever it is: tokens, claims, key sets, answers of the service."""

from __future__ import annotations

import json
from typing import Any, Final

from hypothesis import given
from hypothesis import strategies as st

from ingress.auth.callers_file import Issuer
from ingress.auth.http_answer import Answer
from ingress.auth.oidc.claims import Believed, Disbelieved, Forbidden, judge
from ingress.auth.oidc.key_set import KeySet, read_key_set
from ingress.auth.oidc.token import Token, is_token, read_token
from ingress.auth.user_org.answers import Found, Odd, Unchanged, Unknown, read_answer
from tests.support.tokens import AUDIENCE, ISSUER, NOW_S, b64, claims

_JSON: Final = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4)
    ),
    max_leaves=12,
)
_NAMES: Final = (
    *("iss", "aud", "exp", "nbf", "iat", "sub", "org", "tenant", "project", "email"),
    *("models", "scope", "scp", "typ", "nonce"),
)
_CLAIMS: Final = st.dictionaries(st.sampled_from(_NAMES), _JSON)
_OPEN: Final = Issuer(
    name="corp",
    issuer=ISSUER,
    audience=AUDIENCE,
    org_claim=("tenant", "id"),
    orgs={"1": "acme"},
    project_claim="project",
    user_claim=("email",),
    models_claim="models",
    scope="s",
)
_PLAIN: Final = Issuer(name="corp", issuer=ISSUER, audience=AUDIENCE, org="acme")


@given(st.text() | st.from_regex(r"e[w-z0-9_-][A-Za-z0-9_-]*\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*"))
def test_any_text_is_a_token_or_none(shown: str) -> None:
    """Whether it has the shape of one or not."""
    if is_token(shown):
        assert isinstance(read_token(shown), Token | str)


@given(_JSON, _JSON)
def test_any_header_and_any_claims_can_be_read_or_not(header: Any, said: Any) -> None:
    """Also numbers that are none in JSON, and texts that no encoding has."""
    parts = [b64(json.dumps(part).encode()) for part in (header, said)]

    assert isinstance(read_token(f"{parts[0]}.{parts[1]}.AAAA"), Token | str)


@given(_CLAIMS, st.booleans(), st.sampled_from([_OPEN, _PLAIN]))
def test_any_claims_are_judged(said: dict[str, Any], is_access: bool, issuer: Issuer) -> None:
    """Those that are wrong in one place, and those in which nothing is right."""
    for made in (said, claims(tenant={"id": "1"}, scope="s", project="p", email="e") | said):
        judged = judge(Token("RS256", None, is_access, made), issuer, NOW_S)

        assert isinstance(judged, Believed | Disbelieved | Forbidden)
        if isinstance(judged, Believed):
            assert judged.identity is not None
            assert judged.identity.org == "acme"


@given(
    st.dictionaries(
        st.sampled_from(["kty", "crv", "kid", "use", "key_ops", "alg", "n", "e", "x", "y", "d"]),
        _JSON | st.sampled_from(["RSA", "EC", "OKP", "P-256", "Ed25519", "AQAB", "sig", "verify"]),
    )
)
def test_any_key_is_taken_or_left_out(key: dict[str, Any]) -> None:
    """With the libraries of others between."""
    for body in ({"keys": [key]}, {"keys": key}, key):
        taken = read_key_set(json.dumps(body).encode(), ("RS256", "ES256", "EdDSA"))

        assert isinstance(taken, KeySet | str)


@given(
    st.integers(100, 599),
    st.binary() | _JSON.map(lambda said: json.dumps(said).encode()),
    st.text() | st.none(),
)
def test_any_answer_is_read_or_odd(status: int, body: bytes, etag: str | None) -> None:
    """Nothing of an odd one is kept."""
    for has_etag in (False, True):
        read = read_answer(Answer(status, body, etag), has_etag=has_etag)

        assert isinstance(read, Found | Unknown | Unchanged | Odd)
        if isinstance(read, Found):
            assert status == 200
            assert read.etag is None or read.etag.isascii()
