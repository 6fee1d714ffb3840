"""What a response says, item by item, as it grows: messages and calls of functions. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

__all__ = ["Item", "ItemStatus"]

ItemStatus: TypeAlias = Literal["in_progress", "completed", "incomplete"]


@dataclass(slots=True)
class Item:
    """A message, or a call of a function."""

    id: str
    index: int
    call_id: str | None = None
    name: str = ""
    pieces: list[str] = field(default_factory=list)
    """Of the arguments of a call, or of the part that is being told."""
    parts: list[dict[str, Any]] = field(default_factory=list)
    """Of a message, the finished ones."""
    kind: str | None = None
    """Of the part that is being told."""
    logprobs: list[Any] = field(default_factory=list)
    status: ItemStatus = "in_progress"

    @property
    def place(self) -> dict[str, Any]:
        """What events about it say of it."""
        return {"item_id": self.id, "output_index": self.index}

    def told(self) -> dict[str, Any]:
        """The item as it is so far."""
        told: dict[str, Any]
        if self.call_id is None:
            parts = [*self.parts, *([self.part()] if self.kind else [])]
            told = {"type": "message", "role": "assistant", "content": parts}
        else:
            told = {"type": "function_call", "call_id": self.call_id, "name": self.name}
            told["arguments"] = "".join(self.pieces)
        return {"id": self.id, "status": self.status, **told}

    def part(self) -> dict[str, Any]:
        """The part that is being told, as it is so far."""
        said = "".join(self.pieces)
        if self.kind == "refusal":
            return {"type": "refusal", "refusal": said}
        logprobs = self.logprobs
        return {"type": "output_text", "text": said, "annotations": [], "logprobs": logprobs}
