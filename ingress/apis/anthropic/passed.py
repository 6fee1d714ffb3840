"""Reads message requests that go as they came to backends that speak Anthropic's protocol: only what bounds their price. Pure.

What is wrong with the rest that backend says in its own words. Bounds are those of a chat completion: bytes for what a
tokenizer reads, what the model states for media. What may cost more than that, and what nobody here knows, follows
``unknown_fields`` of the model.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple

import msgspec

from ingress.apis.anthropic.checks import OUTPUT_TOKENS_MAX, wrong_limit
from ingress.apis.anthropic.message_fields import FIELDS, PASSED
from ingress.apis.exact_bound import Texts, texts_of
from ingress.apis.openai.chat import MESSAGES_MAX
from ingress.apis.openai.closed_world import with_reach
from ingress.apis.openai.parts import BoundField, Media
from ingress.apis.openai.request_fields import Field
from ingress.apis.parsed_request import Call, Fields, invalid
from ingress.auth.billing import BillingOf
from ingress.http.refusals import Refusal
from schemas.config_state import Snapshot
from schemas.entities import Model
from schemas.messages import BETAS, VERSION, texts_in

__all__ = ["is_passed", "read_call", "read_counting"]

_VERSION: Final = "2023-06-01"
_TOKENS_FIXED: Final = 64
_TOKENS_PER_MESSAGE: Final = 16
_TOOLS_TOKENS: Final = 1_024
"""What a backend says of itself to its model where there are tools, and for each that it defines itself: at most 735 of
them are documented."""
_PLAIN_BLOCKS: Final = frozenset(
    {"text", "thinking", "redacted_thinking", "tool_use", "tool_result", "search_result", "server_tool_use"}
)  # fmt: skip
"""What their bytes bound."""
_MEDIA: Final[Mapping[str, BoundField]] = {"image": "image_tokens", "document": "file_tokens"}


def is_passed(model: Model, snapshot: Snapshot) -> bool:
    """Whether all backends of a model speak Anthropic's protocol, so that its message requests go as they come."""
    found = (snapshot.backends.get(target.backend) for target in model.backends)
    return all(backend is not None and backend.protocol == "anthropic" for backend in found)


def read_call(fields: Fields, model: Model, billing: BillingOf) -> Call | Refusal:
    """The call that is made of a request, or the first field that is wrong."""
    refusal = _refuse(fields, counts_only=False)
    if refusal is not None:
        return refusal
    media = _media(fields, model, billing)
    if isinstance(media, Refusal):
        return media
    ceiling = model.max_output_tokens or OUTPUT_TOKENS_MAX
    limit = min(fields["max_tokens"], ceiling)
    payload = msgspec.json.encode({**fields, "max_tokens": limit, VERSION: _VERSION})
    tools = fields.get("tools") or ()
    defined = sum(1 for tool in tools if "type" in tool and tool["type"] != "custom")
    call = Call(
        payload=payload,
        stream=fields.get("stream") is True,
        include_usage=True,
        input_tokens_bound=len(payload)
        - media.unread_bytes
        + (len(fields["messages"]) + len(tools)) * _TOKENS_PER_MESSAGE
        + _TOKENS_FIXED
        + (bool(tools) + defined) * _TOOLS_TOKENS
        + media.tokens
        + model.input_overhead_tokens,
        output_tokens_bound=limit + _thoughts_beyond(fields, limit),
    )
    if model.counted_by is not None and billing().is_bounded:
        texts = texts_of(_told(fields), (), model.counted_by, call.input_tokens_bound)
        call = msgspec.structs.replace(call, texts=texts)
    return with_reach(call, fields, media, model, billing(), _rows(fields))


def _told(fields: Fields) -> Iterator[str]:
    """The texts of system, messages and results of tools: all else, arguments too, is bounded by its bytes."""
    contents = [fields.get("system"), *(message.get("content") for message in fields["messages"])]
    yield from (text for text in contents if isinstance(text, str))
    for _, block in _blocks_of(fields):
        text = block.get("text" if block.get("type") == "text" else "content")
        if block.get("type") in ("text", "tool_result") and isinstance(text, str):
            yield text


def read_counting(fields: Fields, model: Model, billing: BillingOf) -> Texts | Refusal:
    """What is to be counted of a request, or the first field that is wrong."""
    refusal = _refuse(fields, counts_only=True)
    if refusal is not None:
        return refusal
    media = _media(fields, model, billing)
    if isinstance(media, Refusal):
        return media
    plain = tuple(texts_in(fields))
    return Texts(
        tokenizer=model.counted_by or "o200k_base",
        plain=plain,
        quoted=(),
        size_bytes=sum(len(text.encode()) for text in plain),
        rest_tokens=media.tokens,
    )


def _thoughts_beyond(fields: Fields, limit: int) -> int:
    """A budget of thoughts above the limit of the output bounds a turn of several requests: it is held as well."""
    thinking = fields.get("thinking")
    budget = thinking.get("budget_tokens") if isinstance(thinking, dict) else None
    is_beyond = type(budget) is int and limit < budget <= OUTPUT_TOKENS_MAX
    return budget if is_beyond and budget is not None else 0


def _rows(fields: Fields) -> Mapping[str, Field]:
    """What each field does to the bill; what is cleared of a context costs nothing, what is made of it does."""
    given = fields.get("context_management")
    edits = given.get("edits") if isinstance(given, dict) else None
    kinds = [each.get("type") for each in edits if isinstance(each, dict)] if isinstance(edits, list) else []  # fmt: skip
    if given is None or (kinds and all(str(kind).startswith("clear_") for kind in kinds)):
        return PASSED
    return {name: row for name, row in PASSED.items() if name != "context_management"}


def _refuse(fields: Fields, *, counts_only: bool) -> Refusal | None:
    """The first field that is not of the form which the bounds count on."""
    for name, value in fields.items():
        row = FIELDS.get(name)
        if row is not None and name not in PASSED and value is not None:
            return invalid(name, f"is not possible here: {row.why}")
    refusal = None if counts_only else wrong_limit(fields.get("max_tokens"))
    return refusal or _refuse_forms(fields) or _refuse_lists(fields)


def _refuse_forms(fields: Fields) -> Refusal | None:
    if not isinstance(fields.get("stream"), bool | None):
        return invalid("stream", "must be true or false")
    if not isinstance(fields.get("system"), str | list | None):
        return invalid("system", "must be a string or a list of content blocks")
    betas = fields.get(BETAS)
    if betas is not None and not _are_names(betas):
        return invalid(BETAS, "must be a list of names")
    return None


def _are_names(given: Any) -> bool:
    return isinstance(given, list) and all(isinstance(each, str) for each in given)


def _refuse_lists(fields: Fields) -> Refusal | None:
    messages, tools = fields.get("messages"), fields.get("tools")
    if not isinstance(messages, list) or not 1 <= len(messages) <= MESSAGES_MAX:
        return invalid("messages", f"must be a list of 1 to {MESSAGES_MAX} messages")
    if not isinstance(tools, list | None):
        return invalid("tools", "must be a list")
    for name, listed in (("messages", messages), ("tools", tools or ())):
        for index, each in enumerate(listed):
            if not isinstance(each, dict):
                return invalid(f"{name}[{index}]", "must be an object")
    return None


class _Found(NamedTuple):
    """A block, and where it stands."""

    where: str
    block: Fields


def _media(fields: Fields, model: Model, billing: BillingOf) -> Media | Refusal:
    """All media of a request, or the first block whose tokens nothing bounds."""
    tokens: dict[str, int] = {}
    unread_bytes = 0
    for where, block in _blocks_of(fields):
        kind = block.get("type")
        medium = _MEDIA.get(kind) if isinstance(kind, str) else None
        source = block.get("source")
        source = source if isinstance(source, dict) else {}
        if medium is None:
            policy = model.unknown_fields
            is_refused = policy == "refuse" or (policy == "auto" and billing().is_bounded)
            if kind not in _PLAIN_BLOCKS and is_refused:
                return invalid(f"{where}.type", "is not known here, and nothing bounds its tokens")
            continue
        if source.get("type") in ("text", "content"):
            continue  # Its bytes bound it, or its own blocks do.
        bound = getattr(model, medium)
        if bound is None:
            what = f"brings what this model does not bound: it has no {medium}"
            return invalid(f"{where}.type", what)
        tokens[medium] = tokens.get(medium, 0) + bound
        data = source.get("data")
        if source.get("type") == "base64" and isinstance(data, str):
            unread_bytes += len(data)
    return Media(**tokens, unread_bytes=unread_bytes, tokens=sum(tokens.values()))


def _blocks_of(fields: Fields) -> Iterator[_Found]:
    yield from _blocks("system", fields.get("system"))
    for index, message in enumerate(fields["messages"]):
        yield from _blocks(f"messages[{index}].content", message.get("content"))


def _blocks(where: str, content: Any) -> Iterator[_Found]:
    """Blocks, and those in them: results of tools, and documents that are made of blocks."""
    for index, block in enumerate(content if isinstance(content, list) else ()):
        at = f"{where}[{index}]"
        if not isinstance(block, dict):
            continue
        yield _Found(at, block)
        yield from _blocks(f"{at}.content", block.get("content"))
        source = block.get("source")
        if isinstance(source, dict):
            yield from _blocks(f"{at}.source.content", source.get("content"))
