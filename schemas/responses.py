"""Responses of OpenAI's API beside their content: their ids, and how one reads that a chat completion makes. Pure.

Source: OpenAI's Responses API (``status``, ``incomplete_details``).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final, Literal, TypeAlias

from schemas.choices import first_choice

__all__ = ["INCOMPLETE", "ResponseStatus", "request_id_of", "response_id", "response_status"]

ResponseStatus: TypeAlias = Literal["completed", "incomplete", "failed"]
INCOMPLETE: Final[Mapping[str, str]] = {
    "length": "max_output_tokens",
    "content_filter": "content_filter",
}
"""Why a response is incomplete, by the reason for which its chat completion finished."""
_ID: Final = re.compile("resp_([0-9a-f]{8})([0-9a-f]{4})(7[0-9a-f]{3})([0-9a-f]{4})([0-9a-f]{12})")


def response_id(request_id: str) -> str:
    """The id of a request's response."""
    return f"resp_{request_id.replace('-', '')}"


def request_id_of(given: str) -> str | None:
    """The request of a response's id; ``None`` where it is none."""
    found = _ID.fullmatch(given)
    return None if found is None else "-".join(found.groups())


def response_status(body: bytes) -> ResponseStatus:
    """How the response reads that an answer of a backend makes, which is no response where it says nothing."""
    choice = first_choice(body)
    if choice is None:
        return "failed"
    reason = choice.finish_reason
    return "incomplete" if isinstance(reason, str) and reason in INCOMPLETE else "completed"
