"""The state of a request that is looked up: what became of it, as far as that can be told. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from schemas.events import RequestAccepted
from schemas.frames import Terminal


@dataclass(frozen=True, slots=True)
class Open:
    """It has not ended."""

    status: Literal["queued", "running"]


@dataclass(frozen=True, slots=True)
class Ended:
    """It has ended; its frames may still be on the bus."""

    terminal: Terminal
    is_on_bus: bool

    @property
    def is_in_pieces(self) -> bool:
        """Whether it has an answer that only its frames tell, as a stream does."""
        return self.terminal.error_code is None and not self.terminal.body


@dataclass(frozen=True, slots=True)
class NeverRan:
    """Its deadline passed, and it was never accepted."""


@dataclass(frozen=True, slots=True)
class Indeterminate:
    """The log could not be read in time, or a newer version wrote what stands there."""


@dataclass(frozen=True, slots=True)
class KeptRequest:
    """One that has ended, as it was asked and how it ended."""

    accepted: RequestAccepted
    terminal: Terminal


RequestState: TypeAlias = Open | Ended | NeverRan | Indeterminate
