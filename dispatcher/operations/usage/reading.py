"""Reads what a backend says that it used, in whichever dialect, into our counts. Pure.

What is impossible, or zero beside a text, is no count at all: then the answer is counted here, and marked as
estimated. Counts that are merely large are judged where the bound of their request is known.

The total tells what names do not. What it has beyond input and output is output that no part names: thoughts on
top of the completion (xAI, Gemini) that others have inside of it. Caches beside the input (Anthropic) are told
from caches inside of it (the same names in proxies that speak OpenAI's form) likewise.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple

import msgspec

from dispatcher.operations.usage.dialects import NAMES, PLACES, TOOLS, Count
from schemas.pricing.counts import TokenCounts

__all__ = ["Told", "believed", "counts_of", "elsewhere", "tier", "told"]

_BYTES_MAX: Final = 16 * 1024
_COUNT_MAX: Final = 2**53 - 1
"""Larger ones are written as this: no request can have used as much."""
_DEPTH_MAX: Final = 3
_NUMBER: Final = re.compile(r"-?[0-9]{1,15}(\.[0-9]{1,15})?", re.ASCII)
_TIER_CHARS_MAX: Final = 64
_INSIDE: Final = "prompt_tokens"
"""An input of this name has the caches inside, though they be named as those that stand beside it."""


class Told(NamedTuple):
    """What an answer says of its use."""

    counts: TokenCounts | None = None
    """``None`` where it says nothing that can be."""
    tier: str | None = None
    """The service tier, as it was sent."""


class _InputDetails(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    cached_tokens: int | None = None
    audio_tokens: int | None = None


class _OutputDetails(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    reasoning_tokens: int | None = None
    audio_tokens: int | None = None
    accepted_prediction_tokens: int | None = None
    rejected_prediction_tokens: int | None = None


class _Plain(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """OpenAI's own form, which most backends send; anything else takes the longer way."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: _InputDetails | None = None
    completion_tokens_details: _OutputDetails | None = None


_PLAIN: Final = msgspec.json.Decoder(_Plain)
_ANY: Final = msgspec.json.Decoder()


def told(usage: msgspec.Raw, service_tier: Any = None, *, has_output: bool = True) -> Told:
    """What a usage object says, and the tier that stands beside it or in it. Raises nothing.

    Without an output (embeddings) all that was used is input, whatever it is called.
    """
    beside = tier(service_tier)
    if memoryview(usage).nbytes > _BYTES_MAX:
        return Told(None, beside)
    if has_output and (plain := _plain_counts(usage)) is not None:
        return Told(plain, beside)
    try:
        found = _ANY.decode(usage)
    except (ValueError, RecursionError):
        return Told(None, beside)
    if not isinstance(found, dict):
        return Told(None, beside)
    counts = counts_of(found, has_output=has_output)
    return Told(counts, beside or tier(found.get("service_tier")))


def elsewhere(body: Any) -> Told:
    """What a decoded body or event says that has no usage where it should stand. Raises nothing."""
    for place in PLACES:
        found = body
        for name in place:
            if isinstance(found, list):
                found = found[-1] if found else None
            found = found.get(name) if isinstance(found, dict) else None
        if isinstance(found, dict) and (counts := counts_of(found)) is not None:
            return Told(counts, tier(body.get("service_tier")))
    return Told()


def believed(counts: TokenCounts | None, *, has_text: bool) -> TokenCounts | None:
    """The counts, unless they say that no output was made where a text was."""
    return None if counts is not None and has_text and not counts.output_tokens else counts


def tier(sent: Any) -> str | None:
    """A service tier's name as answers say it, cut where no name is as long; ``None`` for what is no text."""
    return sent[:_TIER_CHARS_MAX] if isinstance(sent, str) and sent else None


def counts_of(usage: dict[str, Any], *, has_output: bool = True) -> TokenCounts | None:
    """The counts that any dialect says; ``None`` when it says none, or impossible ones."""
    found: dict[Count, int] = {}
    kinds: dict[str, int] = {}
    for name, number in _numbers(usage):
        if count := NAMES.get(name):
            if number < 0:
                return None
            found[count] = max(number, found.get(count, 0))
        elif (kind := TOOLS.get(name)) and number > 0:
            # What is said under two names was called once.
            kinds[kind] = max(number, kinds.get(kind, 0))
    input_tokens = _input(found, is_inside=_INSIDE in usage, has_output=has_output)
    output_tokens, reasoning = _output(found, input_tokens) if has_output else (0, 0)
    written, written_1h = _written(found), found.get("written_1h", 0)
    counts = TokenCounts(
        input_tokens,
        output_tokens,
        cached_tokens=_cached(found),
        reasoning_tokens=reasoning,
        cache_write_tokens=written - written_1h,
        cache_write_1h_tokens=written_1h,
        audio_input_tokens=found.get("audio_input", 0),
        image_input_tokens=found.get("image_input", 0),
        audio_output_tokens=found.get("audio_output", 0) if has_output else 0,
        image_output_tokens=found.get("image_output", 0) if has_output else 0,
        tool_calls=sum(kinds.values()),
        tool_kinds=tuple(sorted(kinds.items())),
    )
    return counts if _is_possible(counts) else None


def _plain_counts(sent: msgspec.Raw) -> TokenCounts | None:
    """OpenAI's form, where the total says that nothing else was used and no part exceeds its whole."""
    try:
        usage = _PLAIN.decode(sent)
    except (ValueError, RecursionError):
        return None
    of_input, of_output = usage.prompt_tokens_details, usage.completion_tokens_details
    cached, audio_input, reasoning, audio_output = 0, 0, 0, 0
    if of_input is not None:
        cached, audio_input = of_input.cached_tokens or 0, of_input.audio_tokens or 0
    if of_output is not None:
        reasoning, audio_output = of_output.reasoning_tokens or 0, of_output.audio_tokens or 0
    told_input, told_output = usage.prompt_tokens, usage.completion_tokens
    if (
        usage.total_tokens != told_input + told_output
        or not (told_input > 0 and told_output >= 0 and usage.total_tokens <= _COUNT_MAX)
        or min(cached, audio_input, reasoning, audio_output) < 0
        or max(cached, audio_input) > told_input
        or max(reasoning, audio_output) > told_output
    ):
        return None
    return TokenCounts(
        told_input,
        told_output,
        cached,
        reasoning,
        audio_input_tokens=audio_input,
        audio_output_tokens=audio_output,
    )


def _is_possible(counts: TokenCounts) -> bool:
    """Whether there is an input, and no kind exceeds what it is part of; none is negative here."""
    of_cache = counts.cached_tokens + counts.cache_write_tokens + counts.cache_write_1h_tokens
    of_input = max(of_cache, counts.audio_input_tokens, counts.image_input_tokens)
    of_output = max(counts.reasoning_tokens, counts.audio_output_tokens, counts.image_output_tokens)
    return 0 < counts.input_tokens >= of_input and of_output <= counts.output_tokens


def _cached(found: Mapping[Count, int]) -> int:
    return found.get("cached") or found.get("cached_beside", 0)


def _written(found: Mapping[Count, int]) -> int:
    """Input written to a cache, for whatever time."""
    by_time = found.get("written_5m", 0) + found.get("written_1h", 0)
    return max(found.get("written") or found.get("written_beside", 0), by_time)


def _input(found: Mapping[Count, int], *, is_inside: bool, has_output: bool) -> int:
    """All input: what has that name, and the caches where they stand beside it."""
    output, total = found.get("output", 0), found.get("total", 0)
    named = found.get("input", 0)
    if not has_output:
        return named or total
    if not named and output:
        named = max(0, total - output)
    caches = _cached(found) + _written(found)
    is_beside = not (found.get("cached") or found.get("written"))
    if is_beside and is_inside:
        is_beside = caches > named or total >= named + caches + output
    return named + found.get("input_more", 0) + (caches if is_beside else 0)


def _output(found: Mapping[Count, int], input_tokens: int) -> tuple[int, int]:
    """All output, and the thoughts in it."""
    named, reasoning = found.get("output", 0), found.get("reasoning", 0)
    if more := found.get("output_more", 0):
        return named + more, more
    output = max(named, found.get("total", 0) - input_tokens)
    if reasoning > output:
        output = named + reasoning
    return output, reasoning or max(0, output - named if named else 0)


def _numbers(
    usage: Mapping[Any, Any], prefix: str = "", depth: int = 1
) -> Iterator[tuple[str, int]]:
    """All counts in the object, by path."""
    for name, value in usage.items():
        if isinstance(value, dict):
            if depth < _DEPTH_MAX:
                yield from _numbers(value, f"{prefix}{name}.", depth + 1)
        elif (number := _number(value)) is not None:
            yield prefix + name, number


def _number(sent: Any) -> int | None:
    """A count as JSON has it: whole, as a float, or in a text. A part of a token is one more; null is none."""
    if isinstance(sent, str) and _NUMBER.fullmatch(sent):
        sent = float(sent)
    if type(sent) is int:  # of any length
        return max(-1, min(sent, _COUNT_MAX))
    if isinstance(sent, bool) or not isinstance(sent, int | float) or not math.isfinite(sent):
        return None
    return max(-1, min(math.ceil(sent), _COUNT_MAX))
