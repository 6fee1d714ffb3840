"""Gathers the events of a stream whose answer is kept, to make one answer of them at its end. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from dispatcher.operations.other_form import completion_of

__all__ = ["GATHERED_BYTES_MAX", "Gathered", "whole_answer"]

GATHERED_BYTES_MAX: Final = 4 * 1024 * 1024
"""Of events; the answer of a longer stream is given once, and not kept."""


@dataclass(slots=True)
class Gathered:
    """The events so far; none once there are too many."""

    size_bytes: int = 0
    _events: list[bytes] = field(default_factory=list)

    def add(self, events: bytes) -> None:
        """Gather what leaves."""
        self.size_bytes += len(events)
        if self.size_bytes > GATHERED_BYTES_MAX:
            self._events.clear()
        else:
            self._events.append(events)

    def taken(self) -> bytes:
        """All of them, which are let go."""
        events, self._events = b"".join(self._events), []
        return events


def whole_answer(events: bytes) -> bytes:
    """The answer that they amount to; nothing where they amount to none."""
    try:
        return completion_of(events) if events else b""
    except Exception:  # noqa: BLE001  # total: the client has had its answer, whatever can be kept of it
        return b""
