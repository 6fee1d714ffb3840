"""Binds each operation to how backends are asked for it, by what they speak. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from dispatcher.operations import chat, embeddings, text_completions
from dispatcher.operations.anthropic import chat as anthropic_chat
from dispatcher.operations.anthropic import passing
from dispatcher.operations.binding import Binding, Unaskable
from dispatcher.upstream.upstream_failure import UpstreamFailure
from schemas.errors import ErrorCode
from schemas.events import RequestAccepted
from schemas.operations import MESSAGES, OPERATIONS, UpstreamProtocol

BINDINGS: Final[Mapping[str, Binding]] = {
    "chat.completions": chat.BINDING,
    "completions": text_completions.BINDING,
    "embeddings": embeddings.BINDING,
    "responses": chat.BINDING,
    "messages": chat.BINDING,
    "inference": chat.BINDING,
    "jobs": chat.BINDING,
}
"""Of backends that speak OpenAI's protocol."""


def binding_of(request: RequestAccepted, protocol: UpstreamProtocol, now_s: int) -> Binding:
    """How a backend is asked for a request. Raises ``Unaskable`` where its protocol has no such operation,
    ``UpstreamFailure`` where it was another protocol's when the request came."""
    is_passed = request.route == MESSAGES.name and passing.is_passed(request.payload)
    if protocol == "openai":
        if is_passed:
            raise UpstreamFailure(
                ErrorCode.NO_BACKEND,
                "its backends spoke another protocol when it came",
                may_have_spent=False,
                is_backends_fault=False,
            )
        return BINDINGS[request.route]
    if is_passed:
        return passing.BINDING
    if protocol not in OPERATIONS[request.route].upstream_paths:
        what = f"leads to a backend whose protocol ({protocol}) has no {request.route}"
        raise Unaskable("model", what)
    return anthropic_chat.binding(now_s)


def can_run(request: RequestAccepted) -> bool:
    """Whether it asks for what is done here; what a newer ingress offers may not be."""
    operation = OPERATIONS.get(request.route)
    return operation is not None and (operation.streams or not request.stream)
