"""Signatures of webhooks, as the public library of Standard Webhooks verifies them."""

from __future__ import annotations

import time
from typing import get_args

import openai
import pytest
from openai.types import webhooks as openai_events
from standardwebhooks import Webhook, WebhookVerificationError

from schemas.peppers import Peppers
from schemas.webhook_messages import new_message
from schemas.webhook_signing import SECRET_PREFIX, secrets_of, signed_headers, webhook_secret

_NEW, _OLD = b"n" * 32, b"o" * 32
_PEPPERS = Peppers((_NEW, _OLD))
_KEYS = secrets_of(_PEPPERS, "acme", (2, 1))
_BODY = '{"type":"job.completed","data":{"text":"日本"}}'.encode()


def _unwrapped(happened: str, secret: str) -> object:
    """What OpenAI's SDK makes of the message that this happened to a subject."""
    message = new_message("acme", happened, "r1", 1_700_000_000_500, {"id": "resp_1"})
    headers = signed_headers(_KEYS, message.message_id, int(time.time()), message.body)
    with openai.OpenAI(api_key="tg_live_1") as client:
        return client.webhooks.unwrap(message.body.decode(), headers, secret=secret)


def _verified(secret: str, generations: tuple[int, ...], body: bytes = _BODY) -> object:
    keys = secrets_of(_PEPPERS, "acme", generations)
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


@pytest.mark.parametrize(
    "kind",
    [
        openai_events.ResponseCompletedWebhookEvent,
        openai_events.ResponseFailedWebhookEvent,
        openai_events.ResponseIncompleteWebhookEvent,
        openai_events.ResponseCancelledWebhookEvent,
        openai_events.BatchCompletedWebhookEvent,
        openai_events.BatchFailedWebhookEvent,
        openai_events.BatchCancelledWebhookEvent,
        openai_events.BatchExpiredWebhookEvent,
    ],
)
def test_the_sdk_of_openai_unwraps_its_own_events(kind: type[openai.BaseModel]) -> None:
    """Into its own types, valid to the last field: whoever has it needs no other library."""
    (happened,) = get_args(kind.model_fields["type"].annotation)

    event = _unwrapped(happened, webhook_secret(_NEW, "acme", 1))

    assert type(event) is kind
    assert kind.model_validate(event.to_dict()) == event
    told = event.to_dict()
    assert (told["object"], told["created_at"]) == ("event", 1_700_000_000)
    assert told["data"] == {"id": "resp_1"}


@pytest.mark.parametrize("happened", ["job.completed", "threshold.reached"])
def test_the_sdk_of_openai_unwraps_events_that_it_does_not_know(happened: str) -> None:
    """Their type and what they are about can be read."""
    event = _unwrapped(happened, webhook_secret(_OLD, "acme", 2))

    assert isinstance(event, openai.BaseModel)
    told = event.to_dict()
    assert (told["type"], told["data"]) == (happened, {"id": "resp_1"})


def test_the_sdk_of_openai_refuses_the_secret_of_another() -> None:
    """As the public library does."""
    with pytest.raises(openai.InvalidWebhookSignatureError):
        _unwrapped("response.completed", webhook_secret(_NEW, "other", 1))
