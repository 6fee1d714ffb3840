"""Batches as OpenAI tells them, and what the body that asks for one says. Pure.

Source: OpenAI's OpenAPI document, ``/v1/batches``.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Final, Literal, NamedTuple, TypedDict

from ingress.apis.parsed_request import invalid
from ingress.http.refusals import Refusal

__all__ = ["BatchList", "BatchObject", "BatchRequest", "read_batch"]

WINDOW_S: Final = 86_400
WINDOW: Final = "24h"
KEPT_S: Final = 2_592_000
"""How long the files of results are kept whose client says nothing."""
_KEPT_S: Final = (3_600, 2_592_000)
_PAIRS_MAX: Final = 16
_NAME_CHARS_MAX: Final = 64
_VALUE_CHARS_MAX: Final = 512


class RequestCounts(TypedDict):
    """How far a batch came."""

    total: int
    completed: int
    failed: int


class BatchErrorObject(TypedDict):
    """What is wrong with the input of a batch."""

    code: str
    message: str
    param: str | None
    line: int | None


class BatchErrors(TypedDict):
    """All that was found wrong with the input of a batch."""

    object: Literal["list"]
    data: list[BatchErrorObject]


class InputTokenDetails(TypedDict):
    """Of the input, what was read from a cache; it is not told apart here."""

    cached_tokens: int


class OutputTokenDetails(TypedDict):
    """Of the output, what was thought; it is not told apart here."""

    reasoning_tokens: int


class BatchUsage(TypedDict):
    """Tokens of all lines that ended."""

    input_tokens: int
    input_tokens_details: InputTokenDetails
    output_tokens: int
    output_tokens_details: OutputTokenDetails
    total_tokens: int


class BatchObject(TypedDict):
    """OpenAI's object of a batch. Times are Unix seconds."""

    id: str
    object: Literal["batch"]
    endpoint: str
    errors: BatchErrors | None
    input_file_id: str
    completion_window: str
    status: Literal[
        "validating",
        "failed",
        "in_progress",
        "finalizing",
        "completed",
        "expired",
        "cancelling",
        "cancelled",
    ]
    output_file_id: str | None
    error_file_id: str | None
    created_at: int
    in_progress_at: int | None
    expires_at: int
    finalizing_at: int | None
    completed_at: int | None
    failed_at: int | None
    expired_at: int | None
    cancelling_at: int | None
    cancelled_at: int | None
    request_counts: RequestCounts
    usage: BatchUsage
    metadata: dict[str, str] | None


class BatchList(TypedDict):
    """A page of batches, newest first."""

    object: Literal["list"]
    data: list[BatchObject]
    first_id: str | None
    last_id: str | None
    has_more: bool


class BatchRequest(NamedTuple):
    """What a client asks for."""

    input_file_id: str
    endpoint: str
    metadata: dict[str, str] | None
    output_kept_s: int


def read_batch(fields: dict[str, Any], endpoints: Collection[str]) -> BatchRequest | Refusal:
    """The batch in a body, or the first field that is wrong; other fields mean nothing here."""
    file, endpoint = fields.get("input_file_id"), fields.get("endpoint")
    if not isinstance(file, str):
        return invalid("input_file_id", "is required, and is the id of a file")
    if endpoint not in endpoints:
        return invalid("endpoint", f"must be one of: {', '.join(endpoints)}")
    assert isinstance(endpoint, str), "it is one of them"
    if fields.get("completion_window") != WINDOW:
        return invalid("completion_window", f"must be {WINDOW}")
    metadata, kept_s = (
        _metadata(fields.get("metadata")),
        _kept_s(fields.get("output_expires_after")),
    )
    if isinstance(metadata, Refusal):
        return metadata
    if isinstance(kept_s, Refusal):
        return kept_s
    return BatchRequest(file, endpoint, metadata, kept_s)


def _metadata(said: Any) -> dict[str, str] | Refusal | None:
    if said is None:
        return None
    is_good = isinstance(said, dict) and len(said) <= _PAIRS_MAX
    if is_good and all(
        isinstance(value, str) and len(name) <= _NAME_CHARS_MAX and len(value) <= _VALUE_CHARS_MAX
        for name, value in said.items()
    ):
        return dict(said)
    what = f"must have at most {_PAIRS_MAX} texts, names of {_NAME_CHARS_MAX} and values of {_VALUE_CHARS_MAX} characters"
    return invalid("metadata", what)


def _kept_s(said: Any) -> int | Refusal:
    if said is None:
        return KEPT_S
    if not isinstance(said, dict) or said.get("anchor") != "created_at":
        return invalid("output_expires_after", "must have the anchor created_at")
    seconds, (least, most) = said.get("seconds"), _KEPT_S
    if isinstance(seconds, bool) or not isinstance(seconds, int) or not least <= seconds <= most:
        return invalid("output_expires_after.seconds", f"must be an integer from {least} to {most}")
    return seconds
