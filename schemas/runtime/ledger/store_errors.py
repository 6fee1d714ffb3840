"""The one mapping of the store's errors to the ledger's."""

from __future__ import annotations

from schemas.ledger.errors import LedgerFault, LedgerFull, LedgerUnavailable
from schemas.runtime.valkey.store import StoreError, StoreUnavailable

__all__ = ["error_of"]

_AWAY_CODES = ("MISCONF", "NOREPLICAS", "BUSY", "LOADING", "MASTERDOWN", "READONLY")
_FULL_CODE = "OOM"
_NO_FUNCTIONS = "Function not found"
"""Functions vanish with the data of a store, and return with the next connection."""


def error_of(error: StoreUnavailable | StoreError) -> LedgerUnavailable | LedgerFault:
    """Ours for an error of the store's connection."""
    text = str(error)
    if text.startswith(_FULL_CODE):
        return LedgerFull(text)
    is_away = isinstance(error, StoreUnavailable) or text.startswith(_AWAY_CODES)
    if is_away or _NO_FUNCTIONS in text:
        return LedgerUnavailable(text)
    return LedgerFault(text)
