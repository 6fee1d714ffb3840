"""The states of a request in the ledger, and what may be concluded from them. Pure.

    ''  ──admit──► RESERVED ──start──► RUNNING ──finish──► FINISHED ──book──► BOOKED
         │            │ reap              │ reap, next_attempt
         │            ▼                   ▼
         │         VOIDED              UNKNOWN        (what they held is returned, or written off)
         ├─ admit, start ─► REFUSED    (a final no, kept for whoever asks again)
         └─ cancel ──────► CANCELLED   (nothing has run, and a copy that was cancelled never will)

BOOKED is what the log ended and the ledger did not hold; everything else keeps its state once it is booked.
RESTORED is what a rebuild found admitted and not ended, and of which nobody has said yet how far it came: it
becomes RUNNING once its owner attaches, or somebody may start it, BOOKED by its outcome, else UNKNOWN.
The functions in Lua name the same states; a contract test holds the two lists against each other.
"""

from __future__ import annotations

from typing import Final, Literal, TypeAlias

__all__ = ["NEVER_RAN", "OPEN", "RAN", "SETTLED", "UNBEGUN", "UNDER_WAY", "State"]

State: TypeAlias = Literal[
    "",
    "RESERVED",
    "RESTORED",
    "RUNNING",
    "FINISHED",
    "BOOKED",
    "UNKNOWN",
    "VOIDED",
    "REFUSED",
    "CANCELLED",
]
"""Empty: the ledger knows of no such request."""

OPEN: Final[frozenset[State]] = frozenset({"RESERVED", "RESTORED", "RUNNING"})
"""It holds something."""
UNDER_WAY: Final[frozenset[State]] = OPEN | {""}
"""Its client may still wait; one that the ledger does not know may be on its way."""
RAN: Final[frozenset[State]] = frozenset({"FINISHED", "BOOKED"})
"""Its outcome is made, and stands in the log sooner or later."""
SETTLED: Final[frozenset[State]] = OPEN | {"FINISHED", "UNKNOWN"}
"""A call of the ledger settles what it spends, or has; of all others booking does."""
UNBEGUN: Final[frozenset[State]] = frozenset({"", "RESERVED", "CANCELLED"})
"""Nobody runs it, and nobody else writes its end."""
NEVER_RAN: Final[frozenset[State]] = frozenset({"REFUSED", "CANCELLED", "VOIDED", "BOOKED"})
"""It has no result that an idempotency key should stand for, unless the log says that it ran."""
