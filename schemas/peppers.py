"""Peppers: the secrets of the processes that API keys are hashed with, and signing secrets derived from. Pure.

Two live while one replaces the other: what is made belongs to the current one, and what was made with the previous one
goes on working.
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass, field
from typing import Final, Literal, TypeAlias

__all__ = ["PEPPER_CHARS_MIN", "PepperAge", "Peppers", "pepper_name"]

PEPPER_CHARS_MIN: Final = 32
PepperAge: TypeAlias = Literal["current", "previous", "unknown"]
_NAMED: Final = b"tallygate pepper"


@dataclass(frozen=True, slots=True)
class Peppers:
    """The peppers that live."""

    live: tuple[bytes, ...] = field(repr=False)
    """All that anything may have been made with: the current one, then the previous one. None where none was given."""

    @property
    def current(self) -> bytes:
        """What is made now is made with it."""
        return self.live[0]

    def named(self, name: str) -> bytes | None:
        """The living pepper of a name."""
        return next((pepper for pepper in self.live if pepper_name(pepper) == name), None)

    def age_of(self, name: str | None) -> PepperAge:
        """Which pepper has this name: ``unknown`` when it is none of them, or nobody noted it."""
        if self.live and name == pepper_name(self.current):
            return "current"
        names = [pepper_name(pepper) for pepper in self.live[1:]]
        return "previous" if name in names else "unknown"


def pepper_name(pepper: bytes) -> str:
    """Eight hexadecimal digits that tell a pepper from another; they say nothing about it."""
    return hmac.digest(pepper, _NAMED, "sha256")[:4].hex()
