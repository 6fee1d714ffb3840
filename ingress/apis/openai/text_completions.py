"""Decides what a text completion asks for, as OpenAI's first models did: the body for the backend and its proved
token bounds. Pure.

A text has no more tokens than bytes, and one that is given as a number takes at least two, so the length of the body
bounds the input. Each prompt is answered for itself, so that prompts multiply the output as choices do. An ``echo``
may count as output where nobody but us counts. What else a field may do to the bill stands in ``request_fields``.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from ingress.apis.answer_format import RELAYED, AnswerFormat
from ingress.apis.exact_bound import texts_of
from ingress.apis.openai.chat import CHOICES_MAX, OUTPUT_TOKENS_MAX, refuse_stream
from ingress.apis.openai.closed_world import with_text_reach
from ingress.apis.openai.given import (
    GIVEN_MAX,
    TOKENS_FIXED,
    TOKENS_PER_GIVEN,
    first_other,
    is_tokens,
    texts_given,
)
from ingress.apis.openai.request_fields import PLAIN_TEXT, TEXT
from ingress.apis.parsed_request import Call, Fields, ParsedRequest, invalid
from ingress.auth.api_key import asked_model
from ingress.auth.billing import billing_of
from ingress.auth.caller import Caller
from ingress.http.refusals import Refusal
from schemas.config_state import Snapshot
from schemas.entities import Model

LOGPROBS_MAX: Final = 100
DEFAULT_TOKENS: Final = 16
"""OpenAI's."""
OUTPUT_IN_ALL_MAX: Final = CHOICES_MAX * OUTPUT_TOKENS_MAX
"""What a chat completion may ask for at most, which the ledger's integers hold at any price."""


def parse(fields: Fields, snapshot: Snapshot, caller: Caller) -> ParsedRequest | Refusal:
    """The text completion that a body asks for."""
    model = asked_model(fields, snapshot, caller)
    if isinstance(model, Refusal):
        return model
    prompts = _count_prompts(fields.get("prompt"))
    if isinstance(prompts, Refusal):
        return prompts
    refusal = _refuse_fields(fields) or refuse_stream(fields)
    if refusal is not None:
        return refusal
    call = _bounded(fields, prompts, model)
    if isinstance(call, Refusal):
        return call
    billing = billing_of(snapshot, caller, fields["model"])
    if model.counted_by is not None and billing.is_bounded:
        given = (*texts_given(fields["prompt"]), *texts_given(fields.get("suffix") or ()))
        texts = texts_of(given, (), model.counted_by, call.input_tokens_bound)
        call = msgspec.structs.replace(call, texts=texts)
    is_plain = not model.prices and fields.keys() <= PLAIN_TEXT
    if not is_plain or b'"cache_control"' in call.payload:
        reaching = with_text_reach(call, fields, TEXT, model, billing)
        if isinstance(reaching, Refusal):
            return reaching
        call = reaching
    return ParsedRequest(fields["model"], call)


def format_answer(_: ParsedRequest, __: str) -> AnswerFormat:
    """Verbatim."""
    return RELAYED


def _bounded(fields: Fields, prompts: int, model: Model) -> Call | Refusal:
    """The call with its output limited, or that it is too much in all."""
    body, per_choice = _limited(fields, model)
    stream, options = fields.get("stream") is True, fields.get("stream_options") or {}
    if stream:
        body["stream_options"] = {**options, "include_usage": True}
    payload = msgspec.json.encode(body)
    input_bound = (
        len(payload) + prompts * TOKENS_PER_GIVEN + TOKENS_FIXED + model.input_overhead_tokens
    )
    choices = max(fields.get("n") or 1, fields.get("best_of") or 1)
    output_bound = per_choice * choices * prompts
    if fields.get("echo"):
        output_bound += input_bound * choices
    if output_bound > OUTPUT_IN_ALL_MAX:
        what = f"asks for up to {output_bound} tokens over all prompts and choices, more than {OUTPUT_IN_ALL_MAX}"
        return invalid("max_tokens", what)
    return Call(
        payload=payload,
        stream=stream,
        include_usage=options.get("include_usage") is True,
        input_tokens_bound=input_bound,
        output_tokens_bound=output_bound,
    )


def _limited(fields: Fields, model: Model) -> tuple[Fields, int]:
    """The body with the output of a choice limited, and that limit; a model that takes no limit has its own."""
    ceiling = model.max_output_tokens or OUTPUT_TOKENS_MAX
    asked = fields.get("max_tokens")
    limit = min(DEFAULT_TOKENS if asked is None else asked, ceiling)
    if model.output_limit_field == "none":
        body = {name: value for name, value in fields.items() if name != "max_tokens"}
        return body, model.max_output_tokens or model.context_window_tokens or ceiling
    return {**fields, "max_tokens": limit}, limit


def _count_prompts(given: Any) -> int | Refusal:
    """How many texts or lists of tokens there are, or the first that is neither."""
    if isinstance(given, str) or is_tokens(given):
        return 1
    if not isinstance(given, list) or not 1 <= len(given) <= GIVEN_MAX:
        what = f"must be a text, a non-empty list of tokens, or a list of 1 to {GIVEN_MAX} such"
        return invalid("prompt", what)
    other = first_other(given, lambda each: isinstance(each, str))
    if other is not None:
        what = "must be a text or a non-empty list of tokens, and of one kind with the others"
        return invalid(f"prompt[{other}]", what)
    return len(given)


def _refuse_fields(fields: Fields) -> Refusal | None:
    """The first field of a wrong type or range; null counts as absent, as SDKs send it so."""
    ranges = {
        "max_tokens": (0, OUTPUT_TOKENS_MAX),
        "n": (1, CHOICES_MAX),
        "best_of": (1, CHOICES_MAX),
        "logprobs": (0, LOGPROBS_MAX),
    }
    for name, (least, greatest) in ranges.items():
        value = fields.get(name)
        if value is not None and not (type(value) is int and least <= value <= greatest):
            return invalid(name, f"must be an integer from {least} to {greatest}")
    if not isinstance(fields.get("echo"), bool | None):
        return invalid("echo", "must be true or false")
    for name in ("suffix", "user"):
        if not isinstance(fields.get(name), str | None):
            return invalid(name, "must be a string")
    return None
