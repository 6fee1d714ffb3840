"""The exact tokenizers agree with OpenAI's."""

from __future__ import annotations

import pytest

from schemas.tokenizers import TokenizerName, count


@pytest.mark.parametrize(
    ("name", "text", "tokens"),
    [
        ("cl100k_base", "antidisestablishmentarianism", 6),
        ("o200k_base", "antidisestablishmentarianism", 6),
        ("cl100k_base", "2 + 2 = 4", 7),
        ("o200k_base", "2 + 2 = 4", 7),
        ("cl100k_base", "お誕生日おめでとう", 9),
        ("o200k_base", "お誕生日おめでとう", 8),
        ("cl100k_base", "tiktoken is great!", 6),
    ],
)
def test_counts_are_those_of_the_cookbook(name: TokenizerName, text: str, tokens: int) -> None:
    """OpenAI cookbook, "How to count tokens with tiktoken", section 5."""
    assert count(name, text) == tokens


def test_the_name_of_a_special_token_counts_as_text() -> None:
    """More than the one that a template would make of it."""
    assert count("o200k_base", "<|endoftext|>") > 1
