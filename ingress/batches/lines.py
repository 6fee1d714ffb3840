"""Decides what a line of a batch's input asks for, and what is written of it once it ended. Pure.

Source: OpenAI's OpenAPI document, ``/v1/batches`` and its request and response lines.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from ingress.batches.batch import BatchError
from ingress.http.refusals import Refusal, error_object
from ingress.http.request import read_object
from schemas.frames import Terminal
from schemas.operations import OPERATIONS, RESPONSES, Operation

__all__ = ["BATCHED", "EndedLine", "InputLine", "expired_line", "output_line", "read_line"]

CUSTOM_ID_CHARS_MAX: Final = 512
BATCHED: Final[Mapping[str, Operation]] = {
    row.path: row for row in OPERATIONS.values() if row.surface == "openai" and not row.keeps_result
}
"""The operations that a batch may be of, by their paths."""
_NOT_IN_LINES: Final[Mapping[str, str]] = {"stream": "A line of a batch cannot be streamed."}
_NOT_IN_RESPONSES: Final[Mapping[str, str]] = {
    **_NOT_IN_LINES,
    "background": "A line of a batch runs in the background as it is.",
    "previous_response_id": "A line of a batch goes on from no other response.",
}
"""Fields of a body that a line cannot have, and why."""


class InputLine(msgspec.Struct, frozen=True):
    """A valid line: what its client calls it, and the body of its request."""

    custom_id: str
    body: bytes


class EndedLine(msgspec.Struct, frozen=True):
    """A line that ended, as it is kept until all did."""

    number: int
    """From 1, as the input has it."""
    is_error: bool
    output: msgspec.Raw
    """The line of the output or error file."""
    is_expired: bool = False
    """Whether there was no time for it."""
    input_tokens: int = 0
    output_tokens: int = 0


def read_line(line: bytes, number: int, endpoint: str) -> InputLine | BatchError:
    """What a line asks for, or what is wrong with it."""
    fields = read_object(line)
    if isinstance(fields, Refusal):
        return BatchError(
            "invalid_json_line",
            f"This line is not parseable as valid JSON. {fields.message}",
            None,
            number,
        )
    custom_id, body = fields.get("custom_id"), fields.get("body")
    if custom_id is None or custom_id == "":
        return BatchError(
            "missing_required_parameter", "custom_id is required.", "custom_id", number
        )
    if not isinstance(custom_id, str) or len(custom_id) > CUSTOM_ID_CHARS_MAX:
        what = f"custom_id must be a string of at most {CUSTOM_ID_CHARS_MAX} characters."
        return BatchError("invalid_custom_id", what, "custom_id", number)
    if fields.get("method") != "POST":
        return BatchError("invalid_method", "method must be POST.", "method", number)
    if fields.get("url") != endpoint:
        what = f"url must be the endpoint of the batch, {endpoint}."
        return BatchError(
            "mismatched_endpoint" if fields.get("url") in BATCHED else "invalid_url",
            what,
            "url",
            number,
        )
    if not isinstance(body, dict):
        return BatchError("missing_required_parameter", "body must be an object.", "body", number)
    is_response = endpoint == RESPONSES.path
    for name, why in (_NOT_IN_RESPONSES if is_response else _NOT_IN_LINES).items():
        if body.get(name):
            return BatchError("invalid_request", why, f"body.{name}", number)
    if is_response:
        body["store"] = False  # It is read in the file of results, and nowhere else.
    return InputLine(custom_id, msgspec.json.encode(body))


def output_line(
    batch: str,
    number: int,
    custom_id: str,
    request_id: str | None,
    answer: Refusal | bytes,
    end: Terminal | None,
) -> EndedLine:
    """A line that was answered, by a backend or with a refusal."""
    is_error = isinstance(answer, Refusal)
    status = (
        answer.status if isinstance(answer, Refusal) else 200 if end is None else end.http_status
    )
    body: Any = (
        {"error": error_object(answer)} if isinstance(answer, Refusal) else _one_line(answer)
    )
    told = {
        "id": line_id(batch, number),
        "custom_id": custom_id,
        "response": {"status_code": status, "request_id": request_id, "body": body},
        "error": None,
    }
    usage = None if end is None else end.usage
    spent = (0, 0) if usage is None else (usage.input_tokens, usage.output_tokens)
    return EndedLine(number, is_error, msgspec.Raw(msgspec.json.encode(told)), False, *spent)


def expired_line(batch: str, number: int, custom_id: str) -> EndedLine:
    """A line that there was no time for."""
    what = "This request could not be executed before the completion window expired."
    told = {
        "id": line_id(batch, number),
        "custom_id": custom_id,
        "response": None,
        "error": {"code": "batch_expired", "message": what},
    }
    return EndedLine(number, True, msgspec.Raw(msgspec.json.encode(told)), True)


def line_id(batch: str, number: int) -> str:
    """The id of a line: the same whoever writes it."""
    return "batch_req_" + hashlib.sha256(f"{batch}/{number}".encode()).hexdigest()[:32]


def _one_line(body: bytes) -> Any:
    """What a backend answered, without the ends of lines that it may have."""
    try:
        return msgspec.Raw(msgspec.json.format(body, indent=-1))
    except msgspec.DecodeError:
        return body.decode(errors="replace")
