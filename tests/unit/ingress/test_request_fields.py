"""The table of request fields: what documents show of it, and that it knows what ordinary clients send."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
from openai.types.chat.completion_create_params import CompletionCreateParamsBase
from openai.types.completion_create_params import (
    CompletionCreateParamsBase as TextCreateParamsBase,
)
from openai.types.embedding_create_params import EmbeddingCreateParams

from ingress.apis.openai.request_fields import CHAT, EMBEDDINGS, PLAIN, PLAIN_TEXT, TEXT, Field

_PAGE = Path(__file__).parents[3] / "docs" / "request-fields.md"
_FREE = {"temperature", "top_p", "seed", "stop", "user", "metadata", "store", "logprobs", "top_k"}
_BILLED = {"service_tier", "modalities", "audio", "web_search_options", "cache_control"}


def _rows(fields: Mapping[str, Field]) -> str:
    """The table as the page shows it."""
    lines = [
        f"| `{row.name}` | {row.effect} | {row.why} | {row.source} |"
        for row in sorted(fields.values())
    ]
    return "\n".join(
        ["| field | effect | what it does to the bill | source |", "|---|---|---|---|", *lines]
    )


@pytest.mark.parametrize("fields", [CHAT, TEXT, EMBEDDINGS], ids=["chat", "text", "embeddings"])
def test_the_page_shows_the_table(fields: Mapping[str, Field]) -> None:
    """After a change: ``python -m tests.unit.ingress.test_request_fields`` writes it anew."""
    assert _rows(fields) in _PAGE.read_text()


def test_every_field_of_the_sdk_is_known() -> None:
    """By OpenAI's own types, of the version that is pinned here (shared/standards.md 1.1)."""
    stream = {"stream"}

    assert set(CompletionCreateParamsBase.__annotations__) | stream <= set(CHAT)
    assert set(TextCreateParamsBase.__annotations__) | stream <= set(TEXT)
    assert set(EmbeddingCreateParams.__annotations__) <= set(EMBEDDINGS)


def test_what_ordinary_clients_send_passes_without_a_second_look() -> None:
    """And what is billed apart never does."""
    assert _FREE <= PLAIN
    assert not _BILLED & PLAIN
    assert {name for name, row in CHAT.items() if row.effect == "costly"}.isdisjoint(PLAIN)
    assert set(TextCreateParamsBase.__annotations__) | {"stream"} <= PLAIN_TEXT
    assert not _BILLED & PLAIN_TEXT


if __name__ == "__main__":
    _head = _PAGE.read_text().split("## Chat completions")[0]
    _PAGE.write_text(
        f"{_head}## Chat completions\n\n{_rows(CHAT)}\n\n## Text completions\n\n{_rows(TEXT)}\n\n"
        f"## Embeddings\n\n{_rows(EMBEDDINGS)}\n"
    )
