"""Entities as administrators write them."""

from __future__ import annotations

import pytest

from ingress.admin.config.entities import refuse_unsigned
from schemas.entities import Kind
from schemas.peppers import Peppers

_PEPPERS = Peppers((b"p" * 32,))
_WITH_WEBHOOKS = b'{"webhooks": {"url": "https://a.example/hook"}}'


def test_webhooks_that_nobody_could_sign_are_refused() -> None:
    """Where no pepper of webhooks was given, and told by its name."""
    refusal = refuse_unsigned("organization", _WITH_WEBHOOKS, Peppers(()))

    assert refusal is not None
    assert "TALLYGATE_WEBHOOK_PEPPER" in (refusal.detail or "")


@pytest.mark.parametrize(
    ("kind", "body", "peppers"),
    [
        ("organization", _WITH_WEBHOOKS, _PEPPERS),
        ("organization", b"{}", Peppers(())),
        ("organization", b"nonsense", Peppers(())),
        ("project", _WITH_WEBHOOKS, Peppers(())),
    ],
)
def test_what_wants_no_signature_or_has_one_is_written(
    kind: Kind, body: bytes, peppers: Peppers
) -> None:
    """What is wrong with a body otherwise is said by whoever reads it."""
    assert refuse_unsigned(kind, body, peppers) is None
