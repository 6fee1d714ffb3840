"""Binds each operation to how backends are asked for it, by what they speak. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from dispatcher.operations import chat, embeddings, text_completions
from dispatcher.operations.anthropic import chat as anthropic_chat
from dispatcher.operations.binding import Binding, Unaskable
from schemas.events import RequestAccepted
from schemas.operations import OPERATIONS, UpstreamProtocol

BINDINGS: Final[Mapping[str, Binding]] = {
    "chat.completions": chat.BINDING,
    "completions": text_completions.BINDING,
    "embeddings": embeddings.BINDING,
    "messages": chat.BINDING,
    "inference": chat.BINDING,
    "jobs": chat.BINDING,
}
"""Of backends that speak OpenAI's protocol."""


def binding_of(route: str, protocol: UpstreamProtocol, now_s: int) -> Binding:
    """How a backend is asked for an operation. Raises ``Unaskable`` where its protocol has none like it."""
    if protocol == "openai":
        return BINDINGS[route]
    if protocol not in OPERATIONS[route].upstream_paths:
        raise Unaskable("model", f"leads to a backend whose protocol ({protocol}) has no {route}")
    return anthropic_chat.binding(now_s)


def can_run(request: RequestAccepted) -> bool:
    """Whether it asks for what is done here; what a newer ingress offers may not be."""
    operation = OPERATIONS.get(request.route)
    return operation is not None and (operation.streams or not request.stream)
