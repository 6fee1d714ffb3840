"""Counts the tokens of a text with an exact tokenizer of the field, o200k_base. Pure."""

from __future__ import annotations

from typing import Final

from schemas.tokenizers import encoding

_PIECE_CHARS: Final = 64 * 1024


def count_text(text: str) -> int:
    """Tokens of the text; a long one is counted in pieces."""
    count = encoding("o200k_base").count
    sound = text if text.isascii() else text.encode("utf-8", "replace").decode()
    pieces = range(0, len(sound), _PIECE_CHARS)
    return sum(int(count(sound[start : start + _PIECE_CHARS])) for start in pieces)
