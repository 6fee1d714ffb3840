"""What a body asks for, whatever surface it came by: a model, a call of it, and how the answer reads. Pure."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import msgspec

from ingress.apis.answer_format import AnswerFormat
from ingress.apis.exact_bound import Texts
from ingress.auth.caller import Caller
from ingress.http.refusals import Refusal
from schemas.config_state import Snapshot
from schemas.errors import ErrorCode
from schemas.events import Reach

Fields: TypeAlias = dict[str, Any]
"""The body of a request."""


class Call(msgspec.Struct, frozen=True):
    """A call, ready for a backend. Once it is in the log its payload is let go."""

    payload: bytes
    stream: bool
    include_usage: bool
    """Whether the client asked for the usage chunk of its stream."""
    input_tokens_bound: int
    output_tokens_bound: int
    reach: Reach | None = None
    """What it can reach of a price beside plain input and output; ``None`` when nothing."""
    texts: Texts | None = None
    """What is to be counted exactly; ``None`` where the bound by bytes stands."""


class ParsedRequest(msgspec.Struct, frozen=True):
    """A valid request of a caller who may make it."""

    model: str
    call: Call
    client_key: str | None = None
    """An id of the client's own, which makes the request idempotent where no header does."""
    ttl_ms: int | None = None
    """Milliseconds the body gives the request; ``None`` leaves it to the headers."""
    shown: bytes | None = None
    """What its answer repeats of it, as its surface encodes it; ``None`` where that repeats nothing."""
    is_stored: bool = False
    """Whether that is kept with its answer, for whoever refers to it."""
    is_background: bool = False
    """Whether its body asks to be answered at once: its client fetches the answer."""


RequestParser: TypeAlias = Callable[[Fields, Snapshot, Caller], ParsedRequest | Refusal]
"""Gives what the body of a caller asks for, or names the first field that is wrong."""


class Binding(NamedTuple):
    """What ingress does for one operation."""

    parse: RequestParser
    format: Callable[[ParsedRequest, str], AnswerFormat]
    """The form of the answer of a request, and of its id."""
    promise: Callable[[ParsedRequest, str], bytes] | None = None
    """The answer to a body that asks to be answered at once; ``None`` where no body can."""


def invalid(field: str, what: str) -> Refusal:
    """The refusal of a field."""
    return Refusal(ErrorCode.INVALID_REQUEST, f"{field} {what}.", param=field)
