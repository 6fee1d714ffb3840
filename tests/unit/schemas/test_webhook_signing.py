"""Signatures of webhooks, as the public library of Standard Webhooks verifies them."""

from __future__ import annotations

import time

import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from schemas.peppers import Peppers
from schemas.webhook_signing import SECRET_PREFIX, secrets_of, signed_headers, webhook_secret

_NEW, _OLD = b"n" * 32, b"o" * 32
_BODY = '{"type":"job.completed","data":{"text":"日本"}}'.encode()


def _verified(secret: str, generations: tuple[int, ...], body: bytes = _BODY) -> object:
    keys = secrets_of(Peppers((_NEW, _OLD)), "acme", generations)
    headers = dict(signed_headers(keys, "msg_1", int(time.time()), _BODY))
    return Webhook(secret).verify(body, headers)


def test_the_public_library_verifies_what_is_signed() -> None:
    """With the secret that the receiver was given, over the raw bytes."""
    secret = webhook_secret(_NEW, "acme", 1)

    told = _verified(secret, (1,))

    assert secret.startswith(SECRET_PREFIX)
    assert told == {"type": "job.completed", "data": {"text": "日本"}}


@pytest.mark.parametrize(("pepper", "generation"), [(_NEW, 1), (_NEW, 2), (_OLD, 1), (_OLD, 2)])
def test_while_one_secret_replaces_another_both_verify(pepper: bytes, generation: int) -> None:
    """Of two generations, and of two peppers."""
    assert _verified(webhook_secret(pepper, "acme", generation), (2, 1))


@pytest.mark.parametrize(
    "secret",
    [
        webhook_secret(_NEW, "acme", 3),
        webhook_secret(_NEW, "other", 1),
        webhook_secret(b"x" * 32, "acme", 1),
    ],
)
def test_the_secret_of_another_does_not_verify(secret: str) -> None:
    """Another generation, another organization, another pepper."""
    with pytest.raises(WebhookVerificationError):
        _verified(secret, (2, 1))


def test_a_changed_body_does_not_verify() -> None:
    """A byte is enough."""
    with pytest.raises(WebhookVerificationError):
        _verified(webhook_secret(_NEW, "acme", 1), (1,), _BODY + b" ")
