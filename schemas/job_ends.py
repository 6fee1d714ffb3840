"""How a job ended, in few bytes: what lists of jobs read instead of outcomes. Pure.

Whoever ends a request writes it into the ledger beside the end itself; the whole outcome stays in the
log. Encoded as a JSON array, because ten thousand of them are kept for three days.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from schemas.errors import ErrorCode
from schemas.events import Attempt, Denial, RequestFinished, Said
from schemas.frames import Usage

__all__ = ["JobEnd", "encode_end", "end_of", "read_end", "usage_of"]

_MESSAGE_CHARS_MAX = 120


class JobEnd(msgspec.Struct, frozen=True, array_like=True):
    """The end of a job without its result; a long message is cut."""

    http_status: int
    backend: str | None = None
    usage: Usage | None = None
    error_code: str | None = None
    message: str | None = None
    denial: Denial | None = None
    """The limit that refused it."""
    said: Said | None = None
    """What the backend named that refused it."""


def end_of(outcome: RequestFinished) -> JobEnd:
    """The end that the outcome tells; a result that was not kept is one that is lost."""
    code, message = outcome.error_code, outcome.error_message
    if code is None and outcome.result is None and outcome.result_ref is None:
        code = ErrorCode.RESULT_LOST
    return JobEnd(
        outcome.http_status,
        outcome.attempts[-1].backend if outcome.attempts else None,
        usage_of(outcome.attempts),
        code,
        message and message[:_MESSAGE_CHARS_MAX],
        outcome.denial,
        outcome.said,
    )


def encode_end(end: JobEnd) -> str:
    """As kept in the ledger: what is not known at its end is left out."""
    values = list(msgspec.structs.astuple(end))
    while values[-1] is None:
        values.pop()
    return msgspec.json.encode(values).decode()


def read_end(text: str) -> JobEnd | None:
    """The end in a text of the ledger; ``None`` when it is none of ours."""
    try:
        return msgspec.json.decode(text, type=JobEnd)
    except msgspec.DecodeError:
        return None


def usage_of(attempts: Sequence[Attempt]) -> Usage | None:
    """What all attempts together used; ``None`` when none ran."""
    if not attempts:
        return None
    costs = [attempt.cost_nano_usd for attempt in attempts if attempt.cost_nano_usd is not None]
    return Usage(
        sum(attempt.input_tokens for attempt in attempts),
        sum(attempt.output_tokens for attempt in attempts),
        sum(costs) if costs else None,
        any(attempt.estimated for attempt in attempts),
        sum(attempt.cached_tokens for attempt in attempts),
        sum(each.cache_write_tokens + each.cache_write_1h_tokens for each in attempts),
        sum(attempt.reasoning_tokens for attempt in attempts),
    )
