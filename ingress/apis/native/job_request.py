"""Decides what the body of a job asks for: a chat completion, and the time it may take. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Final

from ingress.apis.native.inference import read_messages, read_parameters
from ingress.http.refusals import Refusal
from schemas.errors import ErrorCode

TTL_S_MAX: Final = 600
"""A hold lives for eleven minutes at most."""

_OWN: Final = frozenset({"ttl_s", "payload", "parameters"})


@dataclass(frozen=True, slots=True)
class JobRequest:
    """A job: the chat completion it stands for, and milliseconds until it expires."""

    chat: dict[str, Any]
    ttl_ms: int


def read_job(fields: dict[str, Any]) -> JobRequest | Refusal:
    """The job in ``fields``, or the first field that is wrong."""
    ttl_s = fields.get("ttl_s")
    ttl_s = TTL_S_MAX if ttl_s is None else ttl_s
    if isinstance(ttl_s, bool) or not isinstance(ttl_s, int | float) or not 0 < ttl_s <= TTL_S_MAX:
        return _invalid("ttl_s", f"must be a positive number of seconds up to {TTL_S_MAX}")
    if fields.get("stream"):
        return _invalid("stream", "is not possible for a job")
    parameters = read_parameters(fields)
    if isinstance(parameters, Refusal):
        return parameters
    chat = {name: value for name, value in fields.items() if name not in _OWN}
    if "payload" in fields:
        if "messages" in fields:
            return _invalid("payload", "and messages exclude each other")
        messages = read_messages(fields["payload"])
        if isinstance(messages, Refusal):
            return messages
        chat["messages"] = messages
    return JobRequest({**parameters, **chat}, math.ceil(ttl_s * 1000))


def _invalid(field: str, what: str) -> Refusal:
    return Refusal(ErrorCode.INVALID_REQUEST, f"{field} {what}.", param=field)
