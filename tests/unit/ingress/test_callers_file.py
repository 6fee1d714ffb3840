"""The callers file: what stands in it, and what is said of one that is not whole."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import SecretStr, ValidationError

from ingress.auth.callers_file import NOBODY, read_callers_file
from ingress.auth.oidc.key_set import KeySet, read_key_set
from ingress.settings import IngressSettings
from tests.support.tokens import EcSigner, EdSigner, RsaSigner, key_set

_CORP = """
[[oidc]]
name = "corp"
issuer = "https://login.example.com/realms/corp"
audience = "tallygate"
org = "acme"
"""
_WHOLE = (
    _CORP
    + """
[[oidc]]
name = "partners"
issuer = "https://id.partners.example"
audience = ["tallygate", "old-name"]
algorithms = ["EdDSA"]
leeway_s = 60
org_claim = ["tenant", "id"]
orgs = { "00D5" = "globex", "00D6" = "acme" }
models_claim = "models"

[user_org]
url = "https://directory.example.com/gateway"
credential_prefixes = ["corp_"]
stale_s = 3600
"""
)


def _file(folder: Path, text: str) -> str:
    path = folder / "callers.toml"
    path.write_text(text)
    return str(path)


def test_a_file_says_who_is_believed_and_asked(tmp_path: Path) -> None:
    """What it does not say has a default."""
    said = read_callers_file(_file(tmp_path, _WHOLE))

    corp, partners = said.oidc
    assert (corp.key_id, corp.audiences, corp.leeway_s) == ("oidc:corp", ("tallygate",), 30)
    assert (partners.org_of("00D5"), partners.org_of("acme")) == ("globex", None)
    assert said.user_org is not None
    assert (said.user_org.stale_s, said.user_org.fresh_s) == (3_600, 30)
    assert read_callers_file("") == NOBODY


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("oidc = 7", "Expected `array`"),
        ("[[oidc]", "at line 1"),
        (_CORP + 'orgg = "x"', "unknown field `orgg`"),
        (_CORP.replace("https:", "http:"), "must be https://"),
        (_CORP.replace("login.", "lög in."), "must be in ASCII"),
        (_CORP.replace("https://", "https://me:pw@"), "without a password"),
        (_CORP.replace('org = "acme"', ""), "give one of org, org_claim and user_org"),
        (_CORP + 'org_claim = "org"', "give one of org, org_claim and user_org"),
        (_CORP.replace("org =", "org_claim ="), "org_claim and orgs need each other"),
        (_CORP + 'algorithms = ["HS256"]', "Invalid enum value 'HS256'"),
        (_CORP + 'algorithms = ["none"]', "Invalid enum value 'none'"),
        (_CORP + "leeway_s = 61", "<= 60"),
        (_CORP.replace('"corp"', '"../corp"'), "matching regex"),
        (_CORP + _CORP.replace("realms/corp", "x"), "the same name"),
        (_CORP + _CORP.replace('"corp"', '"c2"'), "the same issuer"),
        (_CORP.replace('org = "acme"', "user_org = true"), "no table user_org"),
        (
            _CORP.replace('org = "acme"', 'user_org = true\nmodels = ["m"]'),
            "the user-org service says project, user and models",
        ),
        ('[user_org]\nurl = "ftp://x"', "must be an https:// address"),
        ('[user_org]\nurl = "https://[x"', "is no address"),
        ('[user_org]\nurl = "https://x"\ntoken = "secret"', "unknown field `token`"),
    ],
)
def test_a_file_that_is_not_whole_ends_the_start(tmp_path: Path, text: str, why: str) -> None:
    """With the place and the reason, among the other problems of the environment."""
    with pytest.raises(ValidationError, match="callers_file") as raised:
        IngressSettings(
            TALLYGATE_KAFKA_BROKERS="k:1",
            TALLYGATE_LEDGER_URL="redis://l:1",
            bus_url="redis://b:1",
            data_dir=tmp_path,
            instance_id="ingress-0",
            key_pepper=SecretStr("p" * 32),
            callers_file=_file(tmp_path, text),
        )

    assert why in str(raised.value)


def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    """And one that is a folder."""
    for path in (tmp_path / "no.toml", tmp_path):
        with pytest.raises(ValueError, match="cannot be read"):
            read_callers_file(str(path))


def test_only_keys_that_may_sign_are_taken_from_a_set() -> None:
    """The rest harms none of them: other kinds and purposes, short keys, secret halves, keys without an id twice."""
    good, short = RsaSigner(), RsaSigner(bits=1_024)
    body = key_set(
        good.jwk(),
        good.jwk(kid="enc", use="enc"),
        good.jwk(kid="ops", key_ops=["sign"]),
        good.jwk(kid="other", alg="RS512"),
        good.private_jwk(kid="private"),
        good.jwk(kid=7),
        good.jwk(kid="no-number", n="!!"),
        short.jwk(kid="short"),
        EcSigner().jwk(crv="P-384", kid="wrong-curve"),
        EdSigner().jwk(crv="X25519", kid="no-signature"),
        {"kty": "oct", "k": "c2VjcmV0", "kid": "shared", "alg": "HS256"},
        EcSigner().jwk(),
    )

    taken = read_key_set(body, ("RS256", "ES256", "EdDSA"))

    assert isinstance(taken, KeySet)
    assert {(key.kid, key.algorithm) for key in taken.keys} == {
        ("rsa-1", "RS256"),
        ("ec-1", "ES256"),
    }
    assert taken.candidates("rsa-1", "ES256") == []
    assert len(taken.candidates(None, "RS256")) == 1


def test_a_token_that_names_no_key_is_taken_where_only_one_is_possible() -> None:
    """Else nobody could say which is meant; and of many under one id only four are tried."""
    signers = [RsaSigner(kid="same") for _ in range(3)]
    taken = read_key_set(key_set(*(s.jwk() for s in signers), *[signers[0].jwk()] * 9), ("RS256",))

    assert isinstance(taken, KeySet)
    assert list(taken.candidates(None, "RS256")) == []
    assert len(taken.candidates("same", "RS256")) == 4
