"""Reads what a request gives a model where it may be texts or tokens, one or many: an input, a prompt. Pure."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

GIVEN_MAX: Final = 2_048
"""Texts or lists of tokens of one request."""
TOKENS_PER_GIVEN: Final = 16
"""What a model puts around each of them."""
TOKENS_FIXED: Final = 64


def is_tokens(given: Any) -> bool:
    """Whether it is a list of tokens, as numbers."""
    is_list = isinstance(given, list) and bool(given)
    return is_list and all(type(token) is int and token >= 0 for token in given)


def first_other(given: list[Any], is_text: Callable[[Any], bool]) -> int | None:
    """The place of the first that is not of the kind of the first one: texts, or lists of tokens."""
    is_kind = is_text if isinstance(given[0], str) else is_tokens
    return next((place for place, each in enumerate(given) if not is_kind(each)), None)


def texts_given(given: Any) -> list[str]:
    """The texts of it; tokens that are given as numbers are bounded by their digits."""
    if isinstance(given, str):
        return [given]
    return [each for each in given if isinstance(each, str)]
