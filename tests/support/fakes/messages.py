"""What the fake backend of Anthropic's protocol makes of a message request: a pure function of it, and of what its cache holds.

It is as strict as the real one where a gateway could go wrong: fields and betas that it does not know, results without
their calls, thoughts whose signature is not its own are refused. One word is one token.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

from tests.support.fakes.behaviour import ChatRequest, Plan, parse, plan

__all__ = ["Asked", "Cache", "Refused", "events", "message", "read"]

_FIELDS: Final = frozenset(
    {
        "model", "messages", "max_tokens", "system", "stop_sequences", "stream", "temperature", "top_p", "top_k", "tools",
        "tool_choice", "thinking", "metadata", "service_tier", "output_config", "cache_control",
    }
)  # fmt: skip
_OF_BETAS: Final = {"context_management": "context-management-2025-06-27"}
_BETAS: Final = frozenset({"interleaved-thinking-2025-05-14", *_OF_BETAS.values()})
THOUGHT: Final = "let me think"


class Refused(Exception):
    """A request that is answered with 400."""


@dataclass
class Cache:
    """The prefixes that were asked to be kept."""

    kept: set[str] = field(default_factory=set)


@dataclass(frozen=True)
class Asked:
    """A request, and what it costs before anything is said."""

    chat: ChatRequest
    planned: Plan
    thinks: bool
    read_tokens: int
    written_tokens: int
    written_for: str
    """``5m`` or ``1h``."""

    @property
    def output_tokens(self) -> int:
        """Words, and the thought."""
        return len(self.planned.words) + (len(THOUGHT.split()) if self.thinks else 0)

    def usage(self, output_tokens: int) -> dict[str, Any] | None:
        """As it is told; ``None`` when the backend keeps silent."""
        match self.planned.mode:
            case "no_usage":
                return None
            case "bad_usage":
                return {"input_tokens": 10**15, "output_tokens": -1}
            case "garbled_usage":
                return {"input_tokens": "many", "output_tokens": []}
        caches = self.read_tokens + self.written_tokens
        used: dict[str, Any] = {
            "input_tokens": self.planned.prompt_tokens - caches,
            "cache_read_input_tokens": self.read_tokens,
            "cache_creation_input_tokens": self.written_tokens,
            "output_tokens": output_tokens,
            "service_tier": "standard",
        }
        if self.written_tokens:
            times = dict.fromkeys(("5m", "1h"), 0) | {self.written_for: self.written_tokens}
            used["cache_creation"] = {
                f"ephemeral_{time}_input_tokens": tokens for time, tokens in times.items()
            }
        return used


def read(body: bytes, headers: dict[str, str], name: str, cache: Cache) -> Asked:
    """The request; raises ``Refused`` as the real one would."""
    fields = json.loads(body)
    betas = {each.strip() for each in headers.get("anthropic-beta", "").split(",") if each.strip()}
    if "anthropic-version" not in headers:
        raise Refused("anthropic-version: header is required")
    if unknown := betas - _BETAS:
        raise Refused(f"Unexpected value(s) `{min(unknown)}` for the `anthropic-beta` header")
    for field_name in fields:
        if field_name not in _FIELDS and _OF_BETAS.get(field_name) not in betas:
            raise Refused(f"{field_name}: Extra inputs are not permitted")
    if type(fields.get("max_tokens")) is not int:
        raise Refused("max_tokens: Field required")
    _check_turns(fields["messages"])
    system = list(_texts(fields.get("system")))
    messages = [{"role": "system", "content": " ".join(system)}] if system else []
    messages += [
        {"role": each["role"], "content": " ".join(_texts(each["content"], is_last=each is fields["messages"][-1]))}
        for each in fields["messages"]
    ]  # fmt: skip
    asked = {**fields, "messages": messages}
    chat = parse(msgspec.json.encode({n: asked[n] for n in ("model", "messages", "max_tokens") if n in asked} | {"stream": fields.get("stream", False)}))  # fmt: skip
    planned = plan(chat, name)
    read_tokens, written, lasts = _cached(fields, planned.prompt_tokens, cache)
    thinks = (fields.get("thinking") or {}).get("type") in ("enabled", "adaptive")
    return Asked(chat, planned, thinks, read_tokens, written, lasts)


def _check_turns(turns: list[Any]) -> None:
    """Every call is answered in the message behind it, and thoughts are as they were told."""
    calls: set[str] = set()
    for index, turn in enumerate(turns):
        if turn["role"] not in ("user", "assistant"):
            raise Refused(f"messages.{index}.role: Input should be 'user' or 'assistant'")
        blocks = turn["content"] if isinstance(turn["content"], list) else []
        results = {each["tool_use_id"] for each in blocks if each["type"] == "tool_result"}
        if results != calls:
            raise Refused(
                f"messages.{index}: `tool_use` ids were found without `tool_result` blocks"
            )
        calls = {each["id"] for each in blocks if each["type"] == "tool_use"}
        for block in blocks:
            if block["type"] == "text" and not block["text"]:
                raise Refused("messages: text content blocks must be non-empty")
            if block["type"] == "thinking" and block.get("signature") != _signature(block["thinking"]):  # fmt: skip
                raise Refused(f"messages.{index}.content: Invalid `signature` in `thinking` block")


def _signature(thought: str) -> str:
    return hashlib.sha256(b"mine:" + thought.encode()).hexdigest()


def _texts(content: Any, *, is_last: bool = False) -> Iterator[str]:
    """The texts of content; what the last turn says beside results of tools steers the answer, else the last result."""
    if isinstance(content, str):
        yield content
        return
    texts = [each["text"] for each in content or () if each["type"] == "text"]
    results = [text for each in content or () if each["type"] == "tool_result" for text in _texts(each.get("content", ""))]  # fmt: skip
    yield from (texts or results) if is_last else [*results, *texts]


def _cached(fields: dict[str, Any], most: int, cache: Cache) -> tuple[int, int, str]:
    """Tokens of the longest marked prefix that is kept, those of the rest up to the last mark, and for how long it is kept."""
    text, marked, lasts = "", list[str](), "5m"
    for content in (fields.get("system"), *(turn["content"] for turn in fields["messages"])):
        for block in content if isinstance(content, list) else ():
            text += " " + str(block.get("text") or block.get("content") or "")
            if mark := block.get("cache_control"):
                marked.append(text)
                lasts = mark.get("ttl", "5m")
    keys = {hashlib.sha256(each.encode()).hexdigest(): len(each.split()) for each in marked}
    read = min(most, max((tokens for key, tokens in keys.items() if key in cache.kept), default=0))
    cache.kept |= keys.keys()
    return read, min(most, max(keys.values(), default=0)) - read, lasts


def message(asked: Asked, call_id: str) -> dict[str, Any]:
    """The whole answer."""
    content: list[dict[str, Any]] = [_thought()] if asked.thinks else []
    if text := " ".join(asked.planned.words):
        content.append({"type": "text", "text": text})
    if (call := asked.planned.call) is not None:
        given = json.loads(call.arguments)
        content.append({"type": "tool_use", "id": f"toolu_{call_id}", "name": call.name, "input": given})  # fmt: skip
    usage = asked.usage(asked.output_tokens)
    told = {} if usage is None else {"usage": usage}
    return {**_head(asked, call_id), "content": content, "stop_reason": _reason(asked), **told}


def _head(asked: Asked, call_id: str) -> dict[str, Any]:
    return {
        "id": f"msg_{call_id}",
        "type": "message",
        "role": "assistant",
        "model": asked.chat.model,
        "stop_sequence": None,
    }


def _thought() -> dict[str, Any]:
    return {"type": "thinking", "thinking": THOUGHT, "signature": _signature(THOUGHT)}


def _reason(asked: Asked) -> str:
    return {"length": "max_tokens", "tool_calls": "tool_use"}.get(asked.planned.finish_reason, "end_turn")  # fmt: skip


def events(asked: Asked, call_id: str) -> Iterator[tuple[str, int, dict[str, Any]]]:
    """The stream: the name of each event, the tokens it brings, and its data."""
    usage = asked.usage(1)
    begun = {**_head(asked, call_id), "content": [], "stop_reason": None}
    yield "message_start", 0, {"message": begun | ({} if usage is None else {"usage": usage})}
    yield "ping", 0, {}
    is_odd = asked.planned.mode == "odd_events"
    index = 0
    if asked.thinks:
        thought = _thought()
        yield "content_block_start", 0, {"index": 0, "content_block": {**thought, "thinking": "", "signature": ""}}  # fmt: skip
        yield "content_block_delta", len(THOUGHT.split()), {"index": 0, "delta": {"type": "thinking_delta", "thinking": THOUGHT}}  # fmt: skip
        yield "content_block_delta", 0, {"index": 0, "delta": {"type": "signature_delta", "signature": thought["signature"]}}  # fmt: skip
        yield "content_block_stop", 0, {"index": 0}
        index = 1
    yield "content_block_start", 0, {"index": index, "content_block": {"type": "text", "text": ""}}
    for chunk in range(asked.planned.chunks):
        words = asked.planned.chunk_words(chunk)
        text = "".join(f" {word}" for word in words)
        text = text if chunk else text.lstrip()
        yield "content_block_delta", len(words), {"index": index, "delta": {"type": "text_delta", "text": text}}  # fmt: skip
        if is_odd:
            yield "new_event", 0, {"odd": [[], {}, "\ud83d"]}
            yield "content_block_delta", 0, {"index": 77, "delta": {"type": "signature_delta"}}
    yield "content_block_stop", 0, {"index": index}
    if (call := asked.planned.call) is not None:
        index += 1
        block = {"type": "tool_use", "id": f"toolu_{call_id}", "name": call.name, "input": {}}
        yield "content_block_start", 0, {"index": index, "content_block": block}
        half = len(call.arguments) // 2
        for piece in (call.arguments[:half], call.arguments[half:]):
            yield "content_block_delta", 0, {"index": index, "delta": {"type": "input_json_delta", "partial_json": piece}}  # fmt: skip
        yield "content_block_stop", 0, {"index": index}
    used = None if usage is None else {"output_tokens": asked.output_tokens}
    told = {} if used is None else {"usage": (usage or {}) | used}
    yield "message_delta", 0, {"delta": {"stop_reason": _reason(asked), "stop_sequence": None}, **told}  # fmt: skip
    yield "message_stop", 0, {}
