"""Decides what the body of a job asks for: a chat completion, and the time it may take. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from ingress.apis.answer_format import RELAYED, AnswerFormat
from ingress.apis.native.inference import read_messages, read_parameters
from ingress.apis.openai import chat
from ingress.apis.parsed_request import Fields, ParsedRequest, invalid
from ingress.auth.api_key import runs_as_flex
from ingress.auth.caller import Caller
from ingress.http.refusals import Refusal
from schemas.config_state import Snapshot
from schemas.times import FULL

TTL_S_MAX: Final = 600
"""A hold lives for eleven minutes at most."""
FLEX_TTL_S_MAX: Final = FULL.flex_deadline_max_ms // 1000
"""A flex job has none before it is started."""

_OWN: Final = frozenset({"ttl_s", "payload", "parameters"})


@dataclass(frozen=True, slots=True)
class JobRequest:
    """A job: the chat completion it stands for, and milliseconds until it expires."""

    chat: dict[str, Any]
    ttl_ms: int | None
    """``None`` where a flex job states none: its time is that of all flex requests."""


def parse(fields: Fields, snapshot: Snapshot, caller: Caller) -> ParsedRequest | Refusal:
    """The chat completion that a job stands for, with the time that its body gives it."""
    job = read_job(fields, is_flex=runs_as_flex(fields, snapshot, caller))
    if isinstance(job, Refusal):
        return job
    parsed = chat.parse(job.chat, snapshot, caller)
    return (
        parsed
        if isinstance(parsed, Refusal)
        else msgspec.structs.replace(parsed, ttl_ms=job.ttl_ms)
    )


def format_answer(_: ParsedRequest, __: str) -> AnswerFormat:
    """What a job's document shows of it: the backend's own body."""
    return RELAYED


def read_job(fields: dict[str, Any], *, is_flex: bool = False) -> JobRequest | Refusal:
    """The job in ``fields``, or the first field that is wrong."""
    ttl_s, most_s = fields.get("ttl_s"), FLEX_TTL_S_MAX if is_flex else TTL_S_MAX
    ttl_s = TTL_S_MAX if ttl_s is None and not is_flex else ttl_s
    is_number = isinstance(ttl_s, int | float) and not isinstance(ttl_s, bool)
    if ttl_s is not None and not (is_number and 0 < ttl_s <= most_s):
        return invalid("ttl_s", f"must be a positive number of seconds up to {most_s}")
    parameters = read_parameters(fields)
    if isinstance(parameters, Refusal):
        return parameters
    chat = {name: value for name, value in fields.items() if name not in _OWN}
    if fields.get("payload") is not None:
        if chat.get("messages") is not None:
            return invalid("payload", "and messages exclude each other")
        messages = read_messages(fields["payload"])
        if isinstance(messages, Refusal):
            return messages
        chat["messages"] = messages
    ttl_ms = None if ttl_s is None else math.ceil(ttl_s * 1000)
    return JobRequest({**parameters, **chat}, ttl_ms)
