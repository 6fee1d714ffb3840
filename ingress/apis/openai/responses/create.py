"""Decides what a response request of OpenAI's API asks for: the chat completion that it stands for. Pure.

Bounds of tokens, media and reach are those of that chat completion, which is what a backend is asked for: nothing
of what is left out of it can cost anything. What becomes of each field stands in ``response_fields``.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import partial
from typing import Any, Final

import msgspec

from ingress.apis.answer_format import AnswerFormat
from ingress.apis.openai import chat
from ingress.apis.openai.responses.answers import ResponseFormat
from ingress.apis.openai.responses.checks import LOGPROBS, first_wrong
from ingress.apis.openai.responses.items import PREVIOUS, Earlier, Turn, turns_of
from ingress.apis.openai.responses.response_fields import SAMPLED
from ingress.apis.openai.responses.shown import is_stored, read_shown, shown_of
from ingress.apis.parsed_request import Fields, ParsedRequest, invalid
from ingress.auth.api_key import asked_model
from ingress.auth.billing import billing_of
from ingress.auth.caller import Caller
from ingress.http.refusals import Refusal
from schemas.config_state import Snapshot

_AS_THEY_ARE: Final = (
    "model",
    "temperature",
    "top_p",
    "stream",
    "service_tier",
    "user",
    "safety_identifier",
    "prompt_cache_key",
    "prompt_cache_retention",
    "prompt_cache_options",
    *sorted(SAMPLED),
)
_OF_FUNCTION: Final = ("name", "description", "parameters", "strict")
_OF_SCHEMA: Final = ("name", "description", "schema", "strict")
_OF_MESSAGE: Final = re.compile(r"messages\[(\d{1,5})\]\S*")
_NAMES: Final = {"messages": "input", "max_tokens": "max_output_tokens"}
"""Fields of the chat completion that a refusal may name, as they are called here."""


def parse(
    fields: Fields, snapshot: Snapshot, caller: Caller, earlier: Earlier | None = None
) -> ParsedRequest | Refusal:
    """The chat completion that a response request stands for, behind what was said earlier."""
    model = asked_model(fields, snapshot, caller)
    if isinstance(model, Refusal):
        return model
    refusal = first_wrong(fields)
    if refusal is not None:
        return refusal
    if earlier is None and fields.get(PREVIOUS) is not None:
        return invalid(PREVIOUS, "must be written without escapes")  # Or it was not looked for.
    turns = turns_of(fields, earlier)
    billing = partial(billing_of, snapshot, caller, fields["model"])
    call = chat.read_call(_chat_of(fields, turns), model, billing)
    if isinstance(call, Refusal):
        return _in_own_terms(call, turns)
    return ParsedRequest(
        fields["model"],
        call,
        shown=shown_of(fields, caller.owner).encoded(),
        is_stored=is_stored(fields),
        is_background=fields.get("background") is True,
    )


def format_answer(parsed: ParsedRequest, request_id: str) -> AnswerFormat:
    """A response, under an id that is made of the request's."""
    return _form(parsed, request_id)


def promise(parsed: ParsedRequest, request_id: str) -> bytes:
    """A response that has not begun."""
    return _form(parsed, request_id).open("queued")


def _form(parsed: ParsedRequest, request_id: str) -> ResponseFormat:
    assert parsed.shown is not None, "parsing made it"
    members = bytes(read_shown(parsed.shown).members)
    return ResponseFormat(request_id, parsed.model, members, parsed.is_background)


def _chat_of(fields: Fields, turns: Sequence[Turn]) -> Fields:
    """The chat completion of a request that was checked."""
    asked = {name: fields[name] for name in _AS_THEY_ARE if fields.get(name) is not None}
    asked["messages"] = [turn.message for turn in turns]
    if fields.get("max_output_tokens") is not None:
        asked["max_tokens"] = fields["max_output_tokens"]
    if fields.get("tools"):
        asked["tools"] = [
            {"type": "function", "function": _given(tool, _OF_FUNCTION)} for tool in fields["tools"]
        ]
        for name in ("tool_choice", "parallel_tool_calls"):  # Alone, servers refuse them.
            if (value := fields.get(name)) is not None:
                asked[name] = _choice(value) if name == "tool_choice" else value
    asked |= _text(fields.get("text") or {})
    if (effort := (fields.get("reasoning") or {}).get("effort")) is not None:
        asked["reasoning_effort"] = effort
    if LOGPROBS in (fields.get("include") or ()):
        asked["logprobs"] = True
        if fields.get("top_logprobs") is not None:
            asked["top_logprobs"] = fields["top_logprobs"]
    return asked


def _text(text: Fields) -> Fields:
    asked: Fields = {}
    if text.get("verbosity") is not None:
        asked["verbosity"] = text["verbosity"]
    form = text.get("format") or {}
    match form.get("type"):
        case "json_object":
            asked["response_format"] = {"type": "json_object"}
        case "json_schema":
            schema = _given(form, _OF_SCHEMA)
            asked["response_format"] = {"type": "json_schema", "json_schema": schema}
    return asked


def _given(told: Fields, names: Sequence[str]) -> Fields:
    return {name: told[name] for name in names if told.get(name) is not None}


def _choice(choice: Any) -> Any:
    if isinstance(choice, str):
        return choice
    return {"type": "function", "function": {"name": choice["name"]}}


def _in_own_terms(refusal: Refusal, turns: Sequence[Turn]) -> Refusal:
    """A refusal of the chat completion, under the name of what its client sent."""
    name = refusal.param
    if name is None:
        return refusal
    found = _OF_MESSAGE.fullmatch(name)
    own = _NAMES.get(name, name) if found is None else turns[int(found[1])].origin
    message = refusal.message.replace(name, own, 1)
    return msgspec.structs.replace(refusal, param=own, message=message)
