"""The first choice of a chat completion, as it is read where something depends on what it says. Pure.

Backends send any shape: content as a list of parts, ``message`` null beside a delta, no choices at all
(CherryHQ/cherry-studio#8065, opentiny/tiny-robot#297).
"""

from __future__ import annotations

import json
from typing import Any, Final

import msgspec

__all__ = ["Choice", "first_choice"]


class Choice(msgspec.Struct, frozen=True):
    """One choice of an answer, or a piece of it."""

    message: Any = None
    delta: Any = None
    finish_reason: Any = None
    stop_reason: Any = None
    logprobs: Any = None

    @property
    def said(self) -> Any:
        """Its message or delta; what is null says nothing, whatever its name."""
        return self.message or self.delta


class _Completion(msgspec.Struct, frozen=True):
    choices: list[Choice] = []


_COMPLETION: Final = msgspec.json.Decoder(_Completion)


def first_choice(body: bytes) -> Choice | None:
    """The first choice of a whole answer or an event that says anything; ``None`` where there is none."""
    try:
        choices = _COMPLETION.decode(body).choices
    except (ValueError, RecursionError):
        choices = _loosely(body)
    return next((each for each in choices if isinstance(each.said, dict)), None)


def _loosely(body: bytes) -> list[Choice]:
    try:
        read = json.loads(body)
    except (ValueError, RecursionError):
        return []
    choices = read.get("choices") if isinstance(read, dict) else None
    listed = choices if isinstance(choices, list) else [choices]
    names = Choice.__struct_fields__
    return [Choice(*map(c.get, names)) for c in listed if isinstance(c, dict)]
