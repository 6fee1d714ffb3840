"""What can go wrong between a process and its ledger. Pure."""

from __future__ import annotations

from schemas.failures import Defect, Transient


class LedgerUnavailable(Transient):
    """The store did not answer; what was sent may have happened. Transient: every call repeats."""


class LedgerNotReady(LedgerUnavailable):
    """The shard is empty, being rebuilt, or another store has it by now. Transient, and nothing happened."""


class LedgerFull(LedgerUnavailable):
    """The store is at its maxmemory and takes nothing new. Transient, and nothing happened.

    What closes, returns or books is never refused so: a full ledger empties itself.
    """


class LedgerFault(Defect):
    """The store rejected a command: a defect of ours, never cured by repeating it."""
