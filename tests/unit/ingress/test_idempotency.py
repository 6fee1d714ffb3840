"""Which keys are the same, and which bodies."""

from __future__ import annotations

import pytest

from ingress.http.refusals import Refusal
from ingress.http.request import header_key
from ingress.requests.idempotency import idempotency_key

BODY = {"model": "echo", "messages": [{"role": "user", "content": "hi"}]}


@pytest.mark.parametrize(
    ("sent", "key"),
    [
        (b"abc", "abc"),
        (b'"abc"', "abc"),
        (b" abc ", "abc"),
        (b'"a\\"b\\\\c"', 'a"b\\c'),
        (b'"abc', '"abc'),
        (b"x" * 255, "x" * 255),
    ],
)
def test_a_key_is_read_quoted_or_bare(sent: bytes, key: str) -> None:
    """The draft says quoted, habit says bare."""
    assert header_key({b"idempotency-key": sent}) == key


@pytest.mark.parametrize("sent", [b"", b'""', b"a b", b'"a b"', b"\xe4", b"a\x00", b"x" * 256])
def test_a_malformed_key_is_refused(sent: bytes) -> None:
    """Under the header's name."""
    refusal = header_key({b"idempotency-key": sent})

    assert isinstance(refusal, Refusal)
    assert (refusal.status, refusal.param) == (400, "Idempotency-Key")


def test_without_the_header_there_is_no_key() -> None:
    """Retries are new requests then."""
    assert header_key({}) is None


def test_a_key_belongs_to_one_organization_and_route() -> None:
    """Whatever characters it has, scopes cannot run into each other."""
    hashes = {
        idempotency_key("k", "acme", "jobs", BODY).key_hash,
        idempotency_key("k", "other", "jobs", BODY).key_hash,
        idempotency_key("k", "acme", "inference", BODY).key_hash,
        idempotency_key("l", "acme", "jobs", BODY).key_hash,
    }
    assert len(hashes) == 4


def test_the_order_of_fields_does_not_matter() -> None:
    """The value of each does."""
    reordered = {"messages": [{"content": "hi", "role": "user"}], "model": "echo"}
    changed = {**BODY, "n": 1}
    fingerprint = idempotency_key("k", "acme", "jobs", BODY).fingerprint

    assert idempotency_key("k", "acme", "jobs", reordered).fingerprint == fingerprint
    assert idempotency_key("k", "acme", "jobs", changed).fingerprint != fingerprint
