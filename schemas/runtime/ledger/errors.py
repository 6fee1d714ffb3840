"""What can go wrong between a process and its ledger, and the one mapping of the store's errors."""

from __future__ import annotations

from schemas.failures import Defect, Transient
from schemas.runtime.store import StoreError, StoreUnavailable

_AWAY_CODES = ("MISCONF", "NOREPLICAS", "BUSY", "LOADING", "MASTERDOWN", "READONLY")
_FULL_CODE = "OOM"
_NO_FUNCTIONS = "Function not found"
"""Functions vanish with the data of a store, and return with the next connection."""


class LedgerUnavailable(Transient):
    """The store did not answer; what was sent may have happened. Transient: every call repeats."""


class LedgerNotReady(LedgerUnavailable):
    """The ledger is empty or being rebuilt. Transient, and nothing happened."""


class LedgerFull(LedgerUnavailable):
    """The store is at its maxmemory and takes nothing new. Transient, and nothing happened.

    What closes, returns or books is never refused so: a full ledger empties itself.
    """


class LedgerFault(Defect):
    """The store rejected a command: a defect of ours, never cured by repeating it."""


def error_of(error: StoreUnavailable | StoreError) -> LedgerUnavailable | LedgerFault:
    """Ours for an error of the store's connection."""
    text = str(error)
    if text.startswith(_FULL_CODE):
        return LedgerFull(text)
    is_away = isinstance(error, StoreUnavailable) or text.startswith(_AWAY_CODES)
    if is_away or _NO_FUNCTIONS in text:
        return LedgerUnavailable(text)
    return LedgerFault(text)
