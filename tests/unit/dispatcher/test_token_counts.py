"""Counting tokens where a backend did not."""

from __future__ import annotations

import json
from typing import Any

import pytest

from dispatcher.token_counts import count_text, estimate
from schemas.money import TokenCounts


def _payload(*messages: dict[str, Any]) -> bytes:
    return json.dumps({"messages": messages}).encode()


@pytest.mark.parametrize(("text", "tokens"), [("", 0), ("hello", 1), ("hello world", 2)])
def test_text_is_counted_exactly(text: str, tokens: int) -> None:
    """With the o200k_base encoding, offline."""
    assert count_text(text) == tokens


def test_all_texts_of_a_request_count_as_input() -> None:
    """Plain content and text parts; images and tool calls have no text."""
    payload = _payload(
        {"role": "system", "content": "hello"},
        {"role": "user", "content": [{"type": "text", "text": "world"}, {"type": "image_url"}]},
        {"role": "assistant", "content": None},
    )

    assert estimate(payload, "hello world") == TokenCounts(count_text("hello\nworld"), 2)


def test_a_body_without_messages_has_no_input() -> None:
    """It is counted, not refused."""
    assert estimate(b"{}", "") == TokenCounts(0, 0)
