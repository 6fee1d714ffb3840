"""Counts of what one attempt used, as prices know them. Pure."""

from __future__ import annotations

import msgspec

__all__ = ["TokenCounts"]


class TokenCounts(msgspec.Struct, frozen=True):
    """Tokens and tool calls of one attempt, none of them negative.

    Kinds are parts of ``input_tokens`` or of ``output_tokens``; what no kind names is plain text. Where parts
    overlap (audio that was read from a cache), a token is billed once, as the dearer.
    """

    input_tokens: int
    """All input, whatever its kind."""
    output_tokens: int
    """All output, reasoning included."""
    cached_tokens: int = 0
    """Part of input: read from a cache."""
    reasoning_tokens: int = 0
    """Part of output."""
    cache_write_tokens: int = 0
    """Part of input: written to a cache for 5 minutes, or for no stated time."""
    cache_write_1h_tokens: int = 0
    """Part of input: written to a cache for an hour; not among ``cache_write_tokens``."""
    audio_input_tokens: int = 0
    """Part of input."""
    image_input_tokens: int = 0
    """Part of input."""
    audio_output_tokens: int = 0
    """Part of output."""
    image_output_tokens: int = 0
    """Part of output."""
    tool_calls: int = 0
    """Calls of hosted tools, of all kinds; tokens are no part of it."""
    tool_kinds: tuple[tuple[str, int], ...] = ()
    """Part of ``tool_calls``: those whose kind the backend said, by kind."""

    @property
    def is_plain(self) -> bool:
        """Whether input, cached input and output say all that is billed by a flat price."""
        return not (
            self.cache_write_tokens
            or self.cache_write_1h_tokens
            or self.audio_input_tokens
            or self.image_input_tokens
            or self.audio_output_tokens
            or self.image_output_tokens
            or self.tool_calls
        )
