"""What a head says of its signature, and whether that is true of a body."""

from __future__ import annotations

import hashlib
import hmac
from typing import Any

import pytest

from ingress.auth.caller import Caller
from ingress.auth.signature import Claim, Unproven, read_claim, refuse_forgery, sha256_of
from ingress.http.refusals import Refusal
from tests.support.calls_in_code import ROOT
from tests.support.signing import signed

SECRET = "tg_sign_0000"
NOW_S = 1_700_000_000
_DIGEST = b"v1=" + b"0" * 64


def _head(
    timestamps: list[bytes], signatures: list[bytes], target: bytes | None = b"/v1/jobs"
) -> dict[str, Any]:
    names = [b"x-tallygate-timestamp"] * len(timestamps)
    names += [b"x-tallygate-signature"] * len(signatures)
    headers = list(zip(names, timestamps + signatures, strict=True))
    return {"method": "POST", "target": target, "headers": [(b"host", b"h"), *headers]}


def _code(timestamps: list[bytes], signatures: list[bytes]) -> str:
    claim = read_claim(_head(timestamps, signatures), NOW_S * 1_000 + 999)
    return "taken" if isinstance(claim, Claim) else claim.code.value


@pytest.mark.parametrize(
    ("timestamp", "code"),
    [
        (b"1700000000", "taken"),
        (b"1699999700", "taken"),
        (b"1700000300", "taken"),
        (b"1699999699", "signature_expired"),
        (b"1700000301", "signature_expired"),
        (b"1", "signature_expired"),
        (b"999999999999", "signature_expired"),
        (b"1700000000000", "signature_invalid"),
        (b"9" * 5_000, "signature_invalid"),
        (b"", "signature_invalid"),
        (b"0", "signature_invalid"),
        (b"-1700000000", "signature_invalid"),
        (b"+1700000000", "signature_invalid"),
        (b"01700000000", "signature_invalid"),
        (b" 1700000000", "signature_invalid"),
        (b"1700000000 ", "signature_invalid"),
        (b"1700000000\n", "signature_invalid"),
        (b"1700000000.0", "signature_invalid"),
        (b"1.7e9", "signature_invalid"),
        (b"1_700_000_000", "signature_invalid"),
        (
            "\u0661\u0667\u0660\u0660\u0660\u0660\u0660\u0660\u0660\u0660".encode(),
            "signature_invalid",
        ),
        (b"\xb2\xb3", "signature_invalid"),
        (b"2023-11-14T22:13:20Z", "signature_invalid"),
    ],
)
def test_a_timestamp_is_plain_seconds_of_these_minutes(timestamp: bytes, code: str) -> None:
    """Three hundred seconds to either side are taken, one more is not, whatever the milliseconds."""
    assert _code([timestamp], [_DIGEST]) == code


@pytest.mark.parametrize(
    ("signature", "code"),
    [
        (_DIGEST, "taken"),
        (b"v1=" + b"ab" * 32, "taken"),
        (b"v1=" + b"AB" * 32, "signature_invalid"),
        (b"V1=" + b"ab" * 32, "signature_invalid"),
        (b"v2=" + b"ab" * 32, "signature_invalid"),
        (b"v1,v1=" + b"ab" * 32, "signature_invalid"),
        (_DIGEST + b"," + _DIGEST, "signature_invalid"),
        (_DIGEST + b"0", "signature_invalid"),
        (_DIGEST[:-1], "signature_invalid"),
        (_DIGEST + b"\n", "signature_invalid"),
        (b"v1= " + b"0" * 64, "signature_invalid"),
        (b"0" * 64, "signature_invalid"),
        (b"v1=", "signature_invalid"),
        (b"", "signature_invalid"),
        (b"v1=" + b"\xff" * 64, "signature_invalid"),
    ],
)
def test_a_signature_is_of_version_1_in_lower_case(signature: bytes, code: str) -> None:
    """One form, so that one signature is one text."""
    assert _code([b"1700000000"], [signature]) == code


def test_a_header_that_lacks_or_comes_twice_is_refused() -> None:
    """Also twice the same: two readers would take one of them each."""
    at = b"1700000000"

    assert [_code([], []), _code([at], []), _code([], [_DIGEST])] == ["signature_missing"] * 3
    assert [_code([at, at], [_DIGEST]), _code([at], [_DIGEST, _DIGEST])] == [
        "signature_invalid"
    ] * 2


@pytest.mark.parametrize(
    ("line", "target"),
    [
        (b"/v1/jobs", b"/v1/jobs"),
        (b"/v1/jobs?", b"/v1/jobs?"),
        (b"/v1/jobs?limit=2&after=%20", b"/v1/jobs?limit=2&after=%20"),
        (b"/v1/%6aobs?b=1&a=2&a=3", b"/v1/%6aobs?b=1&a=2&a=3"),
        (b"/v1/jobs?q=\xc3\xbc", b"/v1/jobs?q=\xc3\xbc"),
        (b"http://gateway:8080/v1/jobs?x", b"/v1/jobs?x"),
        (b"http://gateway?x", b"?x"),
        (b"//host/path", b"//host/path"),
        (b"*", b"*"),
    ],
)
def test_path_and_query_are_signed_as_they_were_sent(line: bytes, target: bytes) -> None:
    """Nothing is decoded, sorted or tidied up; of a proxy's absolute form the host is left out."""
    claim = read_claim(_head([b"1700000000"], [_DIGEST], line), NOW_S * 1_000)

    assert isinstance(claim, Claim)
    assert claim.target == target


def _unproven(headers: dict[str, str], *secrets: str, method: str = "POST") -> Unproven:
    timestamp, signature = headers.values()
    head = _head([timestamp.encode()], [signature.encode()]) | {"method": method}
    claim = read_claim(head, NOW_S * 1_000)
    assert isinstance(claim, Claim)
    return Unproven(Caller("k", "acme", None, None, None), claim, secrets)


def test_what_was_signed_is_proved_by_any_living_secret() -> None:
    """The present one, and one whose grace has not ended."""
    headers = signed(SECRET, "POST", "/v1/jobs", b"body", NOW_S)

    assert refuse_forgery(_unproven(headers, SECRET), sha256_of(b"body")) is None
    assert refuse_forgery(_unproven(headers, "other", SECRET), sha256_of(b"body")) is None


@pytest.mark.parametrize(
    ("secret", "method", "target", "body", "at_s"),
    [
        ("tg_sign_0001", "POST", "/v1/jobs", b"body", NOW_S),
        (SECRET, "GET", "/v1/jobs", b"body", NOW_S),
        (SECRET, "post", "/v1/jobs", b"body", NOW_S),
        (SECRET, "POST", "/v1/jobs?", b"body", NOW_S),
        (SECRET, "POST", "/v1/jobs/", b"body", NOW_S),
        (SECRET, "POST", "/v1/jobs", b"bodx", NOW_S),
        (SECRET, "POST", "/v1/jobs", b"", NOW_S),
    ],
)
def test_anything_else_is_a_forgery(
    secret: str, method: str, target: str, body: bytes, at_s: int
) -> None:
    """One changed byte of whatever is signed."""
    refusal = refuse_forgery(
        _unproven(signed(secret, method, target, body, at_s), SECRET), sha256_of(b"body")
    )

    assert isinstance(refusal, Refusal)
    assert (refusal.status, refusal.code.value) == (401, "signature_invalid")


def test_another_timestamp_than_the_signed_one_is_a_forgery() -> None:
    """Though it is of these minutes."""
    headers = signed(SECRET, "POST", "/v1/jobs", b"body", NOW_S)
    unproven = _unproven(headers | {"X-Tallygate-Timestamp": str(NOW_S + 1)}, SECRET)

    assert isinstance(refuse_forgery(unproven, sha256_of(b"body")), Refusal)


def test_signatures_are_compared_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """By the one function for it, and with every secret."""
    compared: list[str] = []

    def noted(ours: str, theirs: str) -> bool:
        compared.append(theirs)
        return False

    monkeypatch.setattr(hmac, "compare_digest", noted)
    headers = signed(SECRET, "POST", "/v1/jobs", b"", NOW_S)
    refusal = refuse_forgery(_unproven(headers, SECRET, "other"), sha256_of(b""))

    assert refusal is not None
    assert compared == [headers["X-Tallygate-Signature"].removeprefix("v1=")] * 2


def test_an_example_for_whoever_writes_a_client() -> None:
    """The one in docs/keys.md; both are the same bytes."""
    text = b"v1:1700000000:POST:/v1/jobs?limit=2:" + hashlib.sha256(b"{}").hexdigest().encode()
    headers = signed("tg_sign_example", "POST", "/v1/jobs?limit=2", b"{}", NOW_S)

    expected = hmac.digest(b"tg_sign_example", text, "sha256").hex()
    assert headers["X-Tallygate-Signature"] == f"v1={expected}"
    documented = (ROOT / "docs" / "keys.md").read_text(encoding="utf-8")
    assert f"`{text.decode()}`" in documented
    assert f"`v1={expected}`" in documented
