"""Keeps what of an answer has to be counted if its backend does not count: a bounded piece of text, and a
number for what came before it. Pure.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

TEXT_CHARS_MAX: Final = 64 * 1024
BYTES_PER_TOKEN: Final = 4
"""Where counting exactly would take too long; no common tokenizer needs more for prose."""


def rough_tokens(size_bytes: int) -> int:
    """Tokens of so many bytes of text, about."""
    return -(-size_bytes // BYTES_PER_TOKEN)


@dataclass(slots=True)
class Tally:
    """The output of one attempt."""

    tokens: int = 0
    """Counted already."""
    _pieces: list[str] = field(default_factory=list)
    _chars: int = 0

    def add(self, text: str) -> None:
        """More output."""
        self._pieces.append(text)
        self._chars += len(text)

    @property
    def has_text(self) -> bool:
        """Whether there was any."""
        return bool(self._pieces) or self.tokens > 0

    @property
    def is_full(self) -> bool:
        """Whether the text has to be taken and counted now."""
        return self._chars >= TEXT_CHARS_MAX

    def take(self) -> str:
        """The text that is not counted yet; from now on it is the caller's to count."""
        text = "".join(self._pieces)
        self._pieces, self._chars = [], 0
        return text
