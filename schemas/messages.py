"""What a message request of Anthropic's API is called in the log where it stands there as it came. Pure.

Its body says the version of the protocol and the betas that its client asks for, as Amazon's and Google's forms of that API have
them. Source: "Claude on Amazon Bedrock" (``anthropic_version``, ``anthropic_beta``).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

__all__ = ["BETAS", "FREE_BETAS", "VERSION", "texts_in"]

VERSION: Final = "anthropic_version"
"""The field that marks such a body."""
BETAS: Final = "anthropic_beta"
"""The field with the names of betas."""
FREE_BETAS: Final = frozenset(
    {
        "claude-code-20250219",
        "context-management-2025-06-27",
        "effort-2025-11-24",
        "extended-cache-ttl-2025-04-11",
        "fine-grained-tool-streaming-2025-05-14",
        "interleaved-thinking-2025-05-14",
        "model-context-window-exceeded-2025-08-26",
        "pdfs-2024-09-25",
        "prompt-caching-2024-07-31",
        "structured-outputs-2025-11-13",
        "thinking-token-count-2026-05-13",
        "token-efficient-tools-2025-02-19",
    }
)
"""Betas that cost nothing beside tokens of a stated price: they pass where a backend states no list of its own."""
_NO_TEXT: Final = frozenset(
    {"role", "data", "signature", "type", "id", "tool_use_id", "media_type", "url"}
)


def texts_in(body: Any) -> Iterator[str]:
    """All texts that a message request tells a model: system, messages and tools; no media."""
    if isinstance(body, dict):
        for name in ("system", "messages", "tools"):
            yield from _texts(body.get(name))


def _texts(given: Any) -> Iterator[str]:
    if isinstance(given, str):
        yield given
    elif isinstance(given, list):
        for each in given:
            yield from _texts(each)
    elif isinstance(given, dict):
        is_text = given.get("type") == "text"
        for name, value in given.items():
            if name not in _NO_TEXT or (is_text and name == "data"):
                yield from _texts(value)
