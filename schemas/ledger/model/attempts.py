"""The attempts of the ledger model: what is known of one request. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field, fields

from schemas.ledger import answers
from schemas.ledger.documents import Booking, Charge
from schemas.ledger.model.limits import Refusal
from schemas.ledger.states import State

_LISTS = ("holds", "leases", "rates")


@dataclass
class Attempt:
    """One attempt hash."""

    state: State
    deadline_ms: int = 0
    accepted_ms: int = 0
    info: str = ""
    terms: str = ""
    incarnation_ms: int = 0
    attempt: int = 1
    answer: answers.Admitted | Refusal | answers.Cancelled | None = None
    holds: tuple[Booking, ...] = ()
    leases: tuple[str, ...] = ()
    rates: tuple[Charge, ...] = ()
    spare: tuple[Booking, ...] | None = None
    """Of a restored request what is held once more, empty once that returned; None of all others."""
    fence: int = 0
    owner: str = ""
    lease_until_ms: int = 0
    streamed: bool = False
    cancel: bool = False
    first: answers.GivenUp | None = None
    outcome: bytes = b""
    booked: dict[str, tuple[int, int]] = field(default_factory=dict)
    ends: str = ""
    ran: bool = False

    @property
    def place(self) -> str:
        """Where its outcome is booked; empty before."""
        partition, offset = self.booked.get("", (-1, -1))
        return f"{partition}:{offset}" if "" in self.booked else ""

    @property
    def is_unheard(self) -> bool:
        """Whether it is a tombstone that no copy of the request has met; a correction is none."""
        return self.state == "CANCELLED" and self.answer is None and not self.place

    def forget_run(self) -> None:
        """Keeps what an ended attempt is still asked for."""
        for kept in fields(self):
            if kept.name not in ("state", "fence", "outcome", "booked", "ends", "ran"):
                setattr(self, kept.name, () if kept.name in _LISTS else kept.default)
