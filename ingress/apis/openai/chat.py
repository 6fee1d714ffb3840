"""Decides what a chat completion asks for: the body for the backend and its proved token bounds. Pure.

A byte-level tokenizer never makes more tokens than bytes, and JSON escapes only lengthen the text,
so the length of the body bounds its tokens; what no tokenizer reads is bounded by the model (``parts``).
Where the model declares its tokenizer and a limit counts on the bound, the texts are to be counted (``exact_bound``).
What nothing bounds is refused. What each field does to the bill stands in ``request_fields``; what may cost more
than text is read by ``closed_world``.
"""

from __future__ import annotations

from functools import partial
from typing import Any, Final

import msgspec

from ingress.apis.answer_format import RELAYED, AnswerFormat
from ingress.apis.exact_bound import texts_of_messages
from ingress.apis.openai.closed_world import with_reach
from ingress.apis.openai.parts import NO_MEDIA, read_media
from ingress.apis.openai.request_fields import PLAIN
from ingress.apis.parsed_request import Call, Fields, ParsedRequest, invalid
from ingress.auth.api_key import asked_model
from ingress.auth.billing import NOTHING, BillingOf, billing_of
from ingress.auth.caller import Caller
from ingress.http.refusals import Refusal
from schemas.config_state import Snapshot
from schemas.entities import Model

MESSAGES_MAX: Final = 2_048
CHOICES_MAX: Final = 8
OUTPUT_TOKENS_MAX: Final = 10_000_000
"""More than any model makes; keeps products of bound and price within the ledger's integers."""

_TOKENS_PER_MESSAGE: Final = 16
_TOKENS_FIXED: Final = 64
_OUTPUT_FIELDS: Final = ("max_completion_tokens", "max_tokens")


def parse(fields: Fields, snapshot: Snapshot, caller: Caller) -> ParsedRequest | Refusal:
    """The chat completion that a body asks for."""
    model = asked_model(fields, snapshot, caller)
    if isinstance(model, Refusal):
        return model
    call = read_call(fields, model, partial(billing_of, snapshot, caller, fields["model"]))
    return call if isinstance(call, Refusal) else ParsedRequest(fields["model"], call)


def format_answer(_: ParsedRequest, __: str) -> AnswerFormat:
    """Verbatim."""
    return RELAYED


def read_call(fields: Fields, model: Model, billing: BillingOf = NOTHING) -> Call | Refusal:
    """The call that ``fields`` ask of ``model``, or the first field that is wrong."""
    refusal = (
        _refuse_fields(fields) or refuse_stream(fields) or _refuse_messages(fields["messages"])
    )
    if refusal is not None:
        return refusal
    messages = fields["messages"]
    media = read_media(messages, model, billing) if _has_parts(messages) else NO_MEDIA
    if isinstance(media, Refusal):
        return media
    body, per_choice = _bounded_output(fields, model)
    stream = fields.get("stream") is True
    options = fields.get("stream_options") or {}
    if stream:
        body["stream_options"] = {**options, "include_usage": True}
    payload = msgspec.json.encode(body)
    counted = len(messages) + _tools(fields)
    choices = max(fields.get("n") or 1, fields.get("best_of") or 1)
    call = Call(
        payload=payload,
        stream=stream,
        include_usage=options.get("include_usage") is True,
        input_tokens_bound=len(payload)
        - media.unread_bytes
        + counted * _TOKENS_PER_MESSAGE
        + _TOKENS_FIXED
        + media.tokens
        + model.input_overhead_tokens,
        output_tokens_bound=per_choice * choices,
    )
    if model.counted_by is not None and billing().is_bounded:
        texts = texts_of_messages(messages, model.counted_by, call.input_tokens_bound)
        call = msgspec.structs.replace(call, texts=texts)
    is_plain = media is NO_MEDIA and not model.prices and fields.keys() <= PLAIN
    if is_plain and not fields.get("tools") and b'"cache_control"' not in payload:
        return call
    return with_reach(call, fields, media, model, billing())


def _refuse_fields(fields: Fields) -> Refusal | None:
    """The first field of a wrong type or range; null counts as absent, as SDKs send it so."""
    messages = fields.get("messages")
    if not isinstance(messages, list) or not 1 <= len(messages) <= MESSAGES_MAX:
        return invalid("messages", f"must be a list of 1 to {MESSAGES_MAX} messages")
    for name in ("n", "best_of"):
        if not _is_integer_or_none(fields.get(name), CHOICES_MAX):
            return invalid(name, f"must be an integer from 1 to {CHOICES_MAX}")
    for name in _OUTPUT_FIELDS:
        if not _is_integer_or_none(fields.get(name), OUTPUT_TOKENS_MAX):
            return invalid(name, f"must be an integer from 1 to {OUTPUT_TOKENS_MAX}")
    for name in ("tools", "functions"):
        if not isinstance(fields.get(name), list | None):
            return invalid(name, "must be a list")
    return None


def refuse_stream(fields: Fields) -> Refusal | None:
    """Options of a stream, as OpenAI takes them: only together with ``stream``."""
    if not isinstance(fields.get("stream"), bool | None):
        return invalid("stream", "must be true or false")
    options = fields.get("stream_options")
    if options is None:
        return None
    if not isinstance(options, dict):
        return invalid("stream_options", "must be an object")
    if fields.get("stream") is not True:
        return invalid("stream_options", "may only be given when stream is true")
    if not isinstance(options.get("include_usage"), bool | None):
        return invalid("stream_options.include_usage", "must be true or false")
    return None


def _is_integer_or_none(value: object, greatest: int) -> bool:
    return value is None or (type(value) is int and 1 <= value <= greatest)


def _refuse_messages(messages: list[Any]) -> Refusal | None:
    for index, message in enumerate(messages):
        where = f"messages[{index}]"
        if not isinstance(message, dict):
            return invalid(where, "must be an object")
        if not isinstance(message.get("role"), str):
            return invalid(f"{where}.role", "must be a string")
        content = message.get("content")
        if not isinstance(content, str | list | None):
            return invalid(f"{where}.content", "must be a string or a list of parts")
    return None


def _has_parts(messages: list[Fields]) -> bool:
    """Whether any message may bring something beside text."""
    return any(
        isinstance(message.get("content"), list) or message.get("audio") is not None
        for message in messages
    )


def _tools(fields: Fields) -> int:
    return len(fields.get("tools") or ()) + len(fields.get("functions") or ())


def _bounded_output(fields: Fields, model: Model) -> tuple[Fields, int]:
    """The body with its output limited, under the model's name of the limit or else the client's, and the limit."""
    ceiling, named = model.max_output_tokens or OUTPUT_TOKENS_MAX, model.output_limit_field
    asked = {name: fields[name] for name in _OUTPUT_FIELDS if fields.get(name) is not None}
    limits = {name: min(value, ceiling) for name, value in asked.items()} or {
        "max_tokens": min(model.default_max_output_tokens, ceiling)
    }
    if named is None:
        return {**fields, **limits}, max(limits.values())
    body = {name: value for name, value in fields.items() if name not in _OUTPUT_FIELDS}
    if named == "none":
        return body, model.max_output_tokens or model.context_window_tokens or ceiling
    limit = min(limits.values())
    return {**body, named: limit}, limit
