"""Service tiers: which one a name means, and which may bill a request. Pure.

Names as backends use them: OpenAI ``auto``, ``default``, ``flex``, ``priority``, ``scale``; Anthropic
``standard``, ``priority``, ``batch``; Groq ``on_demand``, ``flex``, ``auto``.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from typing import Final

__all__ = ["AUTO", "CHEAPER", "DEFAULT", "FLEX", "billed", "named", "reached", "serving"]

DEFAULT: Final = "default"
AUTO: Final = ("priority", "scale")
"""Tiers that may bill a request that names none, where a price says nothing else: OpenAI's ``auto`` is the default
of a project, or priority, or scale where that was bought."""
FLEX: Final = "flex"
"""The tier of requests that wait for room: this gateway decides who runs in it, and nobody is moved out of it."""
CHEAPER: Final = frozenset({FLEX, "batch"})
"""Tiers that are sold below the default: unstated they bill as it does, which is never too low."""
_ALIASES: Final = {"standard": DEFAULT, "on_demand": DEFAULT, "standard_only": DEFAULT}
_NOT_NAMED: Final = frozenset({"", "auto"})
_NAME: Final = re.compile(r"[a-z0-9][a-z0-9_-]{0,31}")
_NO_NAME: Final = "unknown"
"""What a backend sends for a tier and is no name of one; nobody states it, so it bills as the dearest."""


def named(tier: str | None) -> str | None:
    """The tier that a field names; ``None`` where it leaves the choice to the backend."""
    if tier is None:
        return None
    name = tier.strip().lower()
    if name in _NOT_NAMED:
        return None
    return _ALIASES.get(name, name) if _NAME.fullmatch(name) else _NO_NAME


def serving(told: str | None, asked: str | None) -> str | None:
    """The tier that served a request: what the answer told, else what was asked; ``None`` for the default.

    Who asked for flex was served so, also where a backend knows no tiers and calls everything default.
    """
    tier = named(told) or named(asked)
    if tier == DEFAULT and named(asked) == FLEX:
        return FLEX
    return None if tier == DEFAULT else tier


def reached(asked: str | None, stated: Collection[str], auto: Sequence[str]) -> list[str]:
    """The tiers among the ``stated`` that may bill a request.

    One that names a tier may be served as default, but for flex, which bills as what it is. One that names none is
    billed as default, or as any of ``auto``: which of them a project's settings decide at the backend. So is flex
    where it is not stated, because no backend is asked for it then.
    """
    wanted = named(asked)
    if wanted == FLEX and FLEX in stated:
        return [FLEX]
    others = auto if wanted in (None, FLEX) else [wanted]
    return [DEFAULT, *(tier for tier in others if tier in stated and tier != DEFAULT)]


def billed(told: str | None, stated: Collection[str]) -> list[str]:
    """The tiers of which the dearest bills an answer that told its tier; one, unless it is not stated.

    Of a tier that nobody priced only this is known: it is not below the default unless it is sold so.
    """
    wanted = named(told) or DEFAULT
    if wanted in stated:
        return [wanted]
    return [DEFAULT] if wanted in CHEAPER else list(stated)
