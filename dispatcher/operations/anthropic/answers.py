"""Reads a message of a backend that speaks Anthropic's protocol as the chat completion that it stands for. Pure.

Whatever it holds, what is made of it is read by the one reader of chat completions: its usage, its error, its text. Thoughts
stand under the names that clients of several providers know, ``reasoning_content`` for people and ``thinking_blocks`` to
be sent back (LiteLLM). Sources: Anthropic's Messages API; ``stop_reason`` beside ``finish_reason`` is vLLM's name of the
stop sequence.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

from dispatcher.operations.anthropic.inputs import arguments_of, written
from dispatcher.operations.binding import Answer
from dispatcher.operations.completion import read_completion
from dispatcher.operations.usage.reading import counts_of
from dispatcher.upstream.backend_words import (
    NO_WORDS,
    BackendError,
    BackendWords,
    is_error,
    words_of,
)
from dispatcher.upstream.event_splitter import UpstreamGarbage
from dispatcher.upstream.json_reader import value_of
from schemas.pricing.counts import TokenCounts

__all__ = ["REASONS", "THOUGHTS", "completion_of", "error_words", "read_body", "usage_told"]

REASONS: Final = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "pause_turn": "stop",
    "tool_use": "tool_calls",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "refusal": "content_filter",
}
THOUGHTS: Final = ("thinking", "redacted_thinking")
_STATUSES: Final = {
    "invalid_request_error": 400,
    "authentication_error": 401,
    "billing_error": 402,
    "permission_error": 403,
    "not_found_error": 404,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "api_error": 500,
    "timeout_error": 504,
    "overloaded_error": 529,
}
"""What an error stands for that comes in an answer whose own status is 200."""


def read_body(body: bytes, created_s: int = 0) -> tuple[Answer, bytes]:
    """A whole answer, and the chat completion to relay.

    Raises ``UpstreamGarbage`` when it is no message, ``BackendError`` when it is an error.
    """
    return read_completion(written(completion_of(value_of(body), created_s)))


def completion_of(message: Any, created_s: int) -> dict[str, Any]:
    """The chat completion of a message; its time is ours, because messages have none. Raises as ``read_body``."""
    if not isinstance(message, dict):
        raise UpstreamGarbage("no JSON object")
    if message.get("error") or is_error(message):
        raise BackendError(error_words(message))
    content = message.get("content")
    if not isinstance(content, list):
        raise UpstreamGarbage("no message")
    said = _said([block for block in content if isinstance(block, dict)])
    reason = message.get("stop_reason")
    choice: dict[str, Any] = {
        "index": 0,
        "message": said,
        "logprobs": None,
        "finish_reason": REASONS.get(reason, "stop") if isinstance(reason, str) else "stop",
    }
    if isinstance(sequence := message.get("stop_sequence"), str):
        choice["stop_reason"] = sequence
    made = {
        "id": message.get("id"),
        "object": "chat.completion",
        "created": created_s,
        "model": message.get("model"),
        "choices": [choice],
    }
    usage = message.get("usage")
    return made | (usage_told(usage) if isinstance(usage, dict) else {})


def error_words(error: Any) -> BackendWords:
    """What an error says, and the status that its type stands for."""
    words = words_of(error) or NO_WORDS
    return replace(words, status=words.status or _STATUSES.get(words.type or ""))


def usage_told(usage: dict[str, Any]) -> dict[str, Any]:
    """The usage of a chat completion and its tier, of those of a message; without counts where those are impossible."""
    told: dict[str, Any] = {}
    if isinstance(tier := usage.get("service_tier"), str):
        told["service_tier"] = tier
    if (counts := counts_of(usage)) is not None:
        told["usage"] = _usage(counts)
    return told


def _usage(counts: TokenCounts) -> dict[str, Any]:
    """All input under one number, as OpenAI has it; what it has no name for stands under the names it came by."""
    hour, minutes = counts.cache_write_1h_tokens, counts.cache_write_tokens
    told: dict[str, Any] = {
        "prompt_tokens": counts.input_tokens,
        "completion_tokens": counts.output_tokens,
        "total_tokens": counts.input_tokens + counts.output_tokens,
    }
    if counts.cached_tokens or minutes or hour:
        told["prompt_tokens_details"] = {
            "cached_tokens": counts.cached_tokens,
            "cache_write_tokens": minutes + hour,
        }
    if hour:
        told["cache_creation"] = {
            "ephemeral_5m_input_tokens": minutes,
            "ephemeral_1h_input_tokens": hour,
        }
    if counts.reasoning_tokens:
        told["completion_tokens_details"] = {"reasoning_tokens": counts.reasoning_tokens}
    searches = dict(counts.tool_kinds).get("web_search")
    if searches:
        told["server_tool_use"] = {"web_search_requests": searches}
    return told


def _said(blocks: list[dict[str, Any]]) -> dict[str, Any]:
    """The message of a choice: texts, thoughts and calls; blocks of tools that the backend itself ran are left out."""
    texts = [_text(block.get("text")) for block in blocks if block.get("type") == "text"]
    thoughts = [block for block in blocks if block.get("type") in THOUGHTS]
    calls = [
        {
            "id": block.get("id"),
            "type": "function",
            "function": {
                "name": block.get("name"),
                "arguments": arguments_of(block.get("input")),
            },
        }
        for block in blocks
        if block.get("type") == "tool_use"
    ]
    said: dict[str, Any] = {"role": "assistant", "content": "".join(texts) or None}
    if thoughts:
        said["reasoning_content"] = "".join(_text(block.get("thinking")) for block in thoughts)
        said["thinking_blocks"] = thoughts
    if calls:
        said["tool_calls"] = calls
    elif said["content"] is None:
        said["content"] = ""
    return said


def _text(given: Any) -> str:
    return given if isinstance(given, str) else ""
