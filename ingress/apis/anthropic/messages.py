"""Decides what a message request of Anthropic's API asks for: the chat completion that it stands for. Pure.

Bounds of tokens, media and reach are those of that chat completion, which is what a backend is asked for: nothing
of what is left out of it can cost anything. What becomes of each field stands in ``message_fields``.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import partial
from typing import Any, Final

import msgspec

from ingress.apis.answer_format import AnswerFormat
from ingress.apis.anthropic import passed
from ingress.apis.anthropic.answers import MessageFormat
from ingress.apis.anthropic.checks import first_wrong
from ingress.apis.anthropic.turns import Turn, turns_of
from ingress.apis.openai import chat
from ingress.apis.parsed_request import Fields, ParsedRequest
from ingress.auth.api_key import asked_model
from ingress.auth.billing import billing_of
from ingress.auth.caller import Caller
from ingress.http.refusals import Refusal
from schemas.config_state import Snapshot

_AS_THEY_ARE: Final = ("model", "max_tokens", "temperature", "top_p", "top_k", "stream")
_CHOICES: Final = {"auto": "auto", "any": "required", "none": "none"}
_OF_MESSAGE: Final = re.compile(r"messages\[(\d{1,5})\]\S*")


def parse(fields: Fields, snapshot: Snapshot, caller: Caller) -> ParsedRequest | Refusal:
    """The chat completion that a message request stands for, or itself where all backends speak Anthropic's protocol."""
    model = asked_model(fields, snapshot, caller)
    if isinstance(model, Refusal):
        return model
    billing = partial(billing_of, snapshot, caller, fields["model"])
    if passed.is_passed(model, snapshot):
        sent = passed.read_call(fields, model, billing)
        return sent if isinstance(sent, Refusal) else ParsedRequest(fields["model"], sent)
    refusal = first_wrong(fields)
    if refusal is not None:
        return refusal
    turns = list(turns_of(fields))
    call = chat.read_call(chat_of(fields, turns), model, billing)
    if isinstance(call, Refusal):
        return in_anthropic_terms(call, turns)
    return ParsedRequest(fields["model"], call)


def format_answer(parsed: ParsedRequest, request_id: str) -> AnswerFormat:
    """A message, under an id that is made of the request's."""
    return MessageFormat(parsed.model, request_id.replace("-", ""))


def chat_of(fields: Fields, turns: Sequence[Turn]) -> Fields:
    """The chat completion of a request that was checked."""
    asked = {name: fields[name] for name in _AS_THEY_ARE if fields.get(name) is not None}
    asked["messages"] = [turn.message for turn in turns]
    if fields.get("stop_sequences"):
        asked["stop"] = fields["stop_sequences"]
    if fields.get("tools"):
        asked["tools"] = list(map(_function, fields["tools"]))
    if (choice := fields.get("tool_choice")) is not None:
        asked |= _choice(choice)
    form = (fields.get("output_config") or {}).get("format") or fields.get("output_format")
    if form is not None:
        shape = {"name": "output", "schema": form["schema"], "strict": True}
        asked["response_format"] = {"type": "json_schema", "json_schema": shape}
    return asked


def _function(tool: Fields) -> Fields:
    function: dict[str, Any] = {"name": tool["name"], "parameters": tool["input_schema"]}
    for name in ("description", "strict"):
        if tool.get(name) is not None:
            function[name] = tool[name]
    return {"type": "function", "function": function}


def _choice(choice: Fields) -> Fields:
    kind = choice["type"]
    named = {"type": "function", "function": {"name": choice.get("name")}}
    asked: Fields = {"tool_choice": _CHOICES.get(kind, named)}
    if choice.get("disable_parallel_tool_use"):
        asked["parallel_tool_calls"] = False
    return asked


def in_anthropic_terms(refusal: Refusal, turns: Sequence[Turn]) -> Refusal:
    """A refusal of the chat completion, under the name of the message that its client sent."""
    found = _OF_MESSAGE.fullmatch(refusal.param or "")
    if found is None or refusal.param is None:
        return refusal
    origin = turns[int(found[1])].origin
    message = refusal.message.replace(refusal.param, origin, 1)
    return msgspec.structs.replace(refusal, param=origin, message=message)
