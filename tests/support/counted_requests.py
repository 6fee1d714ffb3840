"""Requests whose texts are to be counted exactly."""

from __future__ import annotations

from ingress.apis.exact_bound import texts_of
from ingress.apis.parsed_request import Call, ParsedRequest
from ingress.auth.caller import Caller
from ingress.http.request import Preference
from ingress.requests.validation import ValidatedRequest
from schemas.operations import OPERATIONS
from schemas.tokenizers import Tokenizer


def counted_request(text: str, tokenizer: Tokenizer, org: str = "acme") -> ValidatedRequest:
    """A request with this text, whose bytes bound it to a hundred tokens more than it has bytes."""
    bound = len(text) + 100
    call = Call(b"{}", False, False, bound, 0, texts=texts_of((text,), (), tokenizer, bound))
    return ValidatedRequest(
        operation=OPERATIONS["chat.completions"],
        caller=Caller("key_a", org, None, None, None),
        parsed=ParsedRequest("m", call),
        received_at_ms=0,
        deadline_ms=1,
        traceparent=None,
        key=None,
        preference=Preference(),
    )
