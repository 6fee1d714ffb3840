"""Decides what an embeddings call asks for: the body for the backend and the proved bound of its input. Pure.

There is no output to bound. A text has no more tokens than bytes, and one that is given as a number takes at least
two, so the length of the body bounds them. What other fields may do to the bill stands in
``request_fields``.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from ingress.apis.answer_format import RELAYED, AnswerFormat
from ingress.apis.exact_bound import texts_of
from ingress.apis.openai.given import (
    GIVEN_MAX,
    TOKENS_FIXED,
    TOKENS_PER_GIVEN,
    first_other,
    is_tokens,
    texts_given,
)
from ingress.apis.openai.request_fields import PLAIN_EMBEDDINGS
from ingress.apis.parsed_request import Call, Fields, ParsedRequest, invalid
from ingress.auth.api_key import asked_model
from ingress.auth.billing import billing_of
from ingress.auth.caller import Caller
from ingress.http.refusals import Refusal
from schemas.config_state import Snapshot
from schemas.entities import Model

_ENCODINGS: Final = (None, "float", "base64")


def parse(fields: Fields, snapshot: Snapshot, caller: Caller) -> ParsedRequest | Refusal:
    """The embeddings that a body asks for."""
    model = asked_model(fields, snapshot, caller)
    if isinstance(model, Refusal):
        return model
    inputs = _count_inputs(fields.get("input"))
    if isinstance(inputs, Refusal):
        return inputs
    refusal = _refuse_options(fields) or _refuse_unknown(fields, model, snapshot, caller)
    if refusal is not None:
        return refusal
    # The tier is ours here: no provider sells embeddings in another.
    body = {name: value for name, value in fields.items() if name != "service_tier"}
    payload = msgspec.json.encode(body)
    call = Call(
        payload=payload,
        stream=False,
        include_usage=False,
        input_tokens_bound=len(payload)
        + inputs * TOKENS_PER_GIVEN
        + TOKENS_FIXED
        + model.input_overhead_tokens,
        output_tokens_bound=0,
    )
    if model.counted_by is not None and billing_of(snapshot, caller, fields["model"]).is_bounded:
        texts = texts_of(
            texts_given(fields["input"]), (), model.counted_by, call.input_tokens_bound
        )
        call = msgspec.structs.replace(call, texts=texts)
    return ParsedRequest(fields["model"], call)


def format_answer(_: ParsedRequest, __: str) -> AnswerFormat:
    """Verbatim."""
    return RELAYED


def _refuse_unknown(
    fields: Fields, model: Model, snapshot: Snapshot, caller: Caller
) -> Refusal | None:
    """The first field that may change the bill, where that is refused."""
    unknown = (name for name in fields if name not in PLAIN_EMBEDDINGS and fields[name] is not None)
    name, policy = next(unknown, None), model.unknown_fields
    if name is None or policy == "pass":
        return None
    if policy == "auto" and not billing_of(snapshot, caller, fields["model"]).is_budgeted:
        return None
    return invalid(name[:64], "is not known here: it may change the bill, and a budget applies")


def _count_inputs(given: Any) -> int | Refusal:
    """How many texts or lists of tokens there are, or the first that is neither."""
    if _is_text(given) or is_tokens(given):
        return 1
    if not isinstance(given, list) or not 1 <= len(given) <= GIVEN_MAX:
        what = f"must be a non-empty text or list of tokens, or a list of 1 to {GIVEN_MAX} such"
        return invalid("input", what)
    other = first_other(given, _is_text)
    if other is not None:
        what = "must be a non-empty text or list of tokens, and of one kind with the others"
        return invalid(f"input[{other}]", what)
    return len(given)


def _is_text(given: Any) -> bool:
    return isinstance(given, str) and bool(given)


def _refuse_options(fields: Fields) -> Refusal | None:
    """The first option of a wrong type or range; null counts as absent, as SDKs send it so."""
    if fields.get("encoding_format") not in _ENCODINGS:
        return invalid("encoding_format", "must be float or base64")
    dimensions = fields.get("dimensions")
    if dimensions is not None and (type(dimensions) is not int or dimensions < 1):
        return invalid("dimensions", "must be a positive integer")
    if not isinstance(fields.get("user"), str | None):
        return invalid("user", "must be a string")
    if not isinstance(fields.get("service_tier"), str | None):
        return invalid("service_tier", "must be a string")
    if not isinstance(fields.get("stream"), bool | None):
        return invalid("stream", "must be false where it is given")
    return None
