"""Tokens of identity providers: which are believed, and how every other is refused before anything else happens."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from ingress.auth.caller import Caller
from ingress.auth.callers_file import Issuer
from ingress.auth.oidc.key_set import KeySet, read_key_set
from ingress.auth.oidc.tokens import IssuerTokens, Tokens
from ingress.http.refusals import Refusal
from ingress.http.request import Credentials
from schemas.config_state import Snapshot
from schemas.entities import Organization, Project, User
from schemas.errors import ErrorCode
from schemas.runtime.process.telemetry import Metrics
from tests.support.tokens import (
    AUDIENCE,
    ISSUER,
    NOW_S,
    EcSigner,
    EdSigner,
    RsaSigner,
    b64,
    by_shared_secret,
    claims,
    key_set,
    unsigned,
    without_signature,
)

RSA = RsaSigner()
EC, ED, OTHER = EcSigner(), EdSigner(), RsaSigner()
_SNAPSHOT = Snapshot(
    organizations={"acme": Organization(), "globex": Organization()},
    projects={"search": Project(org="acme"), "spy": Project(org="globex")},
    users={"ada": User(org="acme"), "eve": User(org="globex")},
)


class _Keys:
    """The keys of an issuer without a provider: a set, or none at all."""

    def __init__(self, keys: KeySet | None) -> None:
        self.current = keys
        self.asked = 0

    async def candidates(self, kid: str | None, algorithm: str) -> Any:
        self.asked += 1
        return None if self.current is None else self.current.candidates(kid, algorithm)

    async def newer_candidates(self, algorithm: str) -> Any:
        return ()


def _issuer(**more: Any) -> Issuer:
    fields: dict[str, Any] = {
        "name": "corp",
        "issuer": ISSUER,
        "audience": AUDIENCE,
        "algorithms": ("RS256", "ES256", "EdDSA"),
        "org_claim": "org",
        "orgs": ("acme", "nowhere"),
    }
    return Issuer(**(fields | more))


def _set(*keys: dict[str, Any]) -> KeySet:
    made = read_key_set(
        key_set(*(keys or (RSA.jwk(), EC.jwk(), ED.jwk()))), ("RS256", "ES256", "EdDSA")
    )
    assert isinstance(made, KeySet)
    return made


def _tokens(issuer: Issuer | None = None, keys: KeySet | None = None) -> tuple[Tokens, _Keys]:
    known = _Keys(_set() if keys is None else keys)
    told = IssuerTokens(issuer or _issuer(), known)  # type: ignore[arg-type]
    return Tokens([told], Metrics()), known


async def _tell(token: str, tokens: Tokens | None = None, now_s: float = NOW_S) -> Any:
    shown = Credentials(token, is_bearer=True, head={}, headers={})
    return await (tokens or _tokens()[0]).tell(shown, _SNAPSHOT, int(now_s * 1_000))


@pytest.mark.parametrize("signer", [RSA, EC, ED])
async def test_a_token_tells_whom_it_was_made_for(signer: RsaSigner) -> None:
    """Whatever its issuer signs with, of what is allowed."""
    assert await _tell(signer.token()) == Caller(
        key_id="oidc:corp",
        org="acme",
        project=None,
        user="ada",
        models=None,
        owner="oidc:corp/acme/ada",
        alias="oidc:corp/acme/ada",
    )


async def test_what_has_not_the_shape_of_a_token_is_left_to_others() -> None:
    """Whatever else it is."""
    for shown in ("", "sk-abc", "a.b.c", "eyJhbGciOiJub25lIn0", "eyJ.eyJ.x.y"):
        assert await _tell(shown) is None


_BAD: Mapping[str, str] = {
    "alg none": without_signature(),
    "alg None": without_signature(alg="None"),
    "no signature under an allowed algorithm": without_signature(alg="RS256"),
    "the public key as a shared secret": by_shared_secret(RSA.pem(), kid="rsa-1"),
    "the public key's own bytes as a shared secret": by_shared_secret(b"", kid="rsa-1"),
    "a key of another issuer under a known id": OTHER.token(),
    "an unknown key": OTHER.token(kid="rsa-9"),
    "no key id where several keys fit": EC.token(kid=None, alg="RS256"),
    "an algorithm that the key is not for": RSA.token(alg="ES256"),
    "an algorithm that is not allowed": RSA.token(alg="PS256"),
    "another issuer": RSA.token(claims(iss="https://evil.example.com")),
    "the issuer with a slash behind": RSA.token(claims(iss=f"{ISSUER}/")),
    "no issuer": RSA.token(claims(iss=None)),
    "an issuer that is no text": RSA.token(claims(iss=[ISSUER])),
    "for others": RSA.token(claims(aud="somebody")),
    "for others, in a list": RSA.token(claims(aud=["somebody", "else"])),
    "for nobody": RSA.token(claims(aud=None)),
    "expired": RSA.token(claims(exp=NOW_S - 31, iat=NOW_S - 90)),
    "without an end": RSA.token(claims(exp=None)),
    "an end that is no number": RSA.token(claims(exp="tomorrow")),
    "an end that is a truth value": RSA.token(claims(exp=True)),
    "an end in milliseconds of another age": RSA.token(claims(exp=2**62)),
    "an end in the form of infinity": RSA.token(
        b'{"iss":"%b","aud":"tallygate","sub":"ada","org":"acme","exp":1e999}' % ISSUER.encode()
    ),
    "valid in the future": RSA.token(claims(nbf=NOW_S + 31)),
    "issued in the future": RSA.token(claims(iat=NOW_S + 31)),
    "issued after its end": RSA.token(claims(iat=NOW_S + 20, exp=NOW_S + 10)),
    "no subject": RSA.token(claims(sub=None)),
    "an empty subject": RSA.token(claims(sub="")),
    "an endless subject": RSA.token(claims(sub="a" * 1_025)),
    "a claim that stands there twice": RSA.token(
        b'{"iss":"%b","aud":"tallygate","sub":"ada","org":"acme","exp":%d,"sub":"eve"}'
        % (ISSUER.encode(), NOW_S + 300)
    ),
    "claims that are no object": RSA.token(b"[]"),
    "claims that are no JSON": RSA.token(b"\xff\xfe"),
    "a header that demands something": RSA.token(crit=["exp"]),
    "a body that is not encoded": RSA.token(b64=False, crit=["b64"]),
    "another type": RSA.token(typ="logout+jwt"),
    "a type that is no text": RSA.token(typ=7),
    "a key id that is no text": RSA.token(kid=["rsa-1"]),
    "too long": RSA.token(claims(more="a" * 8_192)),
    "an ID token": RSA.token(claims(nonce="n-0S6"), typ="JWT"),
}


@pytest.mark.parametrize("how", _BAD)
async def test_what_proves_nothing_is_refused(how: str) -> None:
    """401 with a reason; who would be called is never looked up."""
    told = await _tell(_BAD[how])

    assert isinstance(told, Refusal), how
    assert (told.code, told.status) == (ErrorCode.INVALID_TOKEN, 401)
    assert told.message.startswith("The token is not valid: ")


@pytest.mark.parametrize(
    ("how", "why"),
    [
        ("alg none", "its algorithm is not allowed"),
        ("the public key as a shared secret", "its algorithm is not allowed"),
        ("an unknown key", "its key is unknown"),
        ("a key of another issuer under a known id", "its signature is wrong"),
        ("expired", "it has expired"),
        ("a header that demands something", "its header demands what is not understood here"),
        ("a body that is not encoded", "its header demands what is not understood here"),
    ],
)
async def test_the_reason_is_told(how: str, why: str) -> None:
    """Whoever sent it can mend it; what is decided by the header is refused before a key is looked for."""
    told = await _tell(_BAD[how])

    assert isinstance(told, Refusal)
    assert told.message == f"The token is not valid: {why}."


async def test_a_changed_byte_is_noticed_wherever_it_stands() -> None:
    """In header, claims and signature; also where base64 has bits to spare."""
    token = RSA.token()
    for at in range(0, len(token), 7):
        if token[at] != ".":
            changed = token[:at] + ("A" if token[at] != "A" else "B") + token[at + 1 :]
            told = await _tell(changed)
            assert told is None or isinstance(told, Refusal), at


async def test_nothing_in_a_header_is_followed() -> None:
    """A key that a token brings along, or points to, counts for nothing."""
    own = OTHER.token(jwk=OTHER.jwk(), jku="http://127.0.0.1:1/jwks", x5u="http://127.0.0.1:1/x")

    told = await _tell(own)

    assert isinstance(told, Refusal)
    assert told.message == "The token is not valid: its signature is wrong."


@pytest.mark.parametrize(
    "more", [{"exp": NOW_S - 29, "iat": NOW_S - 90}, {"nbf": NOW_S + 29}, {"iat": NOW_S + 29}]
)
async def test_clocks_may_be_off_by_the_leeway(more: dict[str, Any]) -> None:
    """In every direction."""
    assert isinstance(await _tell(RSA.token(claims(**more))), Caller)


@pytest.mark.parametrize(
    ("more", "why"),
    [
        ({"org": "globex"}, "names no organization that its issuer may speak for"),
        ({"org": None}, "names no organization that its issuer may speak for"),
        ({"org": ["acme"]}, "names no organization that its issuer may speak for"),
        ({"org": "nowhere"}, "'nowhere' is not configured"),
        ({"sub": "eve"}, "belongs to another organization"),
    ],
)
async def test_who_has_no_place_here_is_told_so(more: dict[str, Any], why: str) -> None:
    """403: who calls is known. An issuer speaks only for the organizations that are listed for it."""
    told = await _tell(RSA.token(claims(**more)))

    assert isinstance(told, Refusal)
    assert (told.code, told.status) == (ErrorCode.CALLER_NOT_ALLOWED, 403)
    assert why in told.message


async def test_what_a_token_may_say_is_what_its_issuer_is_configured_for() -> None:
    """Organizations by the provider's own names, claims inside claims, models as a text, a scope."""
    issuer = _issuer(
        org_claim=("tenant", "id"),
        orgs={"00D5": "acme"},
        project_claim="proj",
        user_claim="email",
        models_claim="models",
        scope="infer",
    )
    tokens, _ = _tokens(issuer)
    said = {
        "tenant": {"id": "00D5"},
        "proj": "search",
        "email": "ada@example.com",
        "models": "echo capped",
        "scope": "openid infer",
    }

    told = await _tell(RSA.token(claims(**said)), tokens)
    assert isinstance(told, Caller)
    assert (told.project, told.user, told.models) == (
        "search",
        "ada@example.com",
        ("echo", "capped"),
    )
    for wrong in ({"proj": "spy"}, {"scope": "openid"}, {"tenant": "00D5"}, {"email": None}):
        refused = await _tell(RSA.token(claims(**(said | wrong))), tokens)
        assert isinstance(refused, Refusal), wrong
        assert refused.status == 403


async def test_what_users_of_an_issuer_may_do_is_configured() -> None:
    """As it is for a key."""
    tokens, _ = _tokens(_issuer(scopes=("models:read",)))

    told = await _tell(RSA.token(), tokens)

    assert isinstance(told, Caller)
    assert told.scopes == ("models:read",)


async def test_a_token_without_the_claim_of_models_opens_none() -> None:
    """Nobody gets all of them because a provider forgot something."""
    tokens, _ = _tokens(_issuer(models_claim="models"))

    told = await _tell(RSA.token(), tokens)

    assert isinstance(told, Caller)
    assert told.models == ()


async def test_id_tokens_are_taken_where_that_is_said() -> None:
    """They say who logged in at a client, whose id is the audience then."""
    tokens, _ = _tokens(_issuer(id_tokens=True))

    assert isinstance(await _tell(RSA.token(claims(nonce="n"), typ="JWT"), tokens), Caller)


async def test_nobody_judges_tokens_while_no_key_is_known() -> None:
    """503, never 401: the token may be good."""
    known = _Keys(None)
    tokens = Tokens([IssuerTokens(_issuer(), known)], Metrics())  # type: ignore[arg-type]

    told = await _tell(RSA.token(), tokens)

    assert isinstance(told, Refusal)
    assert told.status == 503


async def test_the_same_token_is_judged_once() -> None:
    """Until it ends, and under the same keys: a key that was withdrawn closes what it had signed."""
    tokens, keys = _tokens()
    token = RSA.token()
    for _ in range(3):
        assert isinstance(await _tell(token, tokens), Caller)
    assert keys.asked == 1

    assert isinstance(await _tell(token, tokens, now_s=NOW_S + 330), Refusal)
    keys.current = _set(EC.jwk())
    assert isinstance(await _tell(token, tokens), Refusal)


async def test_a_token_is_judged_by_the_configuration_at_each_request() -> None:
    """Also one that was believed before: an organization that was removed is closed at once."""
    tokens, _ = _tokens()
    shown = Credentials(RSA.token(), is_bearer=True, head={}, headers={})
    assert isinstance(await tokens.tell(shown, _SNAPSHOT, NOW_S * 1_000), Caller)

    told = await tokens.tell(shown, Snapshot(), NOW_S * 1_000)

    assert isinstance(told, Refusal)
    assert told.status == 403


async def test_what_cannot_be_read_of_the_configuration_closes() -> None:
    """503: its limits may be anything."""
    tokens, _ = _tokens()
    closed = Snapshot(
        organizations=_SNAPSHOT.organizations, closed=frozenset({("user", "ada")}), users={}
    )
    shown = Credentials(RSA.token(), is_bearer=True, head={}, headers={})

    told = await tokens.tell(shown, closed, NOW_S * 1_000)

    assert isinstance(told, Refusal)
    assert told.status == 503


async def test_only_configured_users_where_that_is_said() -> None:
    """Others are known to the provider, and nobody here knows their limits."""
    tokens, _ = _tokens(_issuer(users="configured"))

    assert isinstance(await _tell(RSA.token(), tokens), Caller)
    assert isinstance(await _tell(RSA.token(claims(sub="bob")), tokens), Refusal)


def test_a_hand_made_token_is_one_by_the_rules() -> None:
    """The oracle of this file is no library that the gateway uses."""
    head, body, signature = RSA.token().split(".")

    assert f"{head}.{body}" == unsigned({"alg": "RS256", "kid": "rsa-1", "typ": "at+jwt"}, claims())
    assert len(signature) == len(b64(bytes(256)))
