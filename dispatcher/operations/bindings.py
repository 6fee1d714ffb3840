"""Binds each operation to how backends are asked for it. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from dispatcher.operations import chat, embeddings, text_completions
from dispatcher.operations.binding import Binding
from schemas.events import RequestAccepted
from schemas.operations import OPERATIONS

BINDINGS: Final[Mapping[str, Binding]] = {
    "chat.completions": chat.BINDING,
    "completions": text_completions.BINDING,
    "embeddings": embeddings.BINDING,
    "responses": chat.BINDING,
    "messages": chat.BINDING,
    "inference": chat.BINDING,
    "jobs": chat.BINDING,
}


def can_run(request: RequestAccepted) -> bool:
    """Whether it asks for what is done here; what a newer ingress offers may not be."""
    operation = OPERATIONS.get(request.route)
    return operation is not None and (operation.streams or not request.stream)
