"""Binds each operation to what ingress does for it: parse a body, format an answer. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from ingress.apis.native import inference, jobs
from ingress.apis.openai import chat
from ingress.apis.parsed_request import Binding, Fields, ParsedRequest, invalid
from ingress.auth.api_key import Caller
from ingress.http.refusals import Refusal
from schemas.config_state import Snapshot
from schemas.operations import Operation

BINDINGS: Final[Mapping[str, Binding]] = {
    "chat.completions": Binding(chat.parse, chat.format_answer),
    "inference": Binding(inference.parse, inference.format_answer),
    "jobs": Binding(jobs.parse, jobs.format_answer),
}


def parse_body(
    operation: Operation, fields: Fields, snapshot: Snapshot, caller: Caller
) -> ParsedRequest | Refusal:
    """What a body asks of the operation, or the first field that is wrong."""
    if fields.get("stream") and not operation.streams:
        return invalid("stream", f"is not possible on {operation.path}")
    return BINDINGS[operation.name].parse(fields, snapshot, caller)
