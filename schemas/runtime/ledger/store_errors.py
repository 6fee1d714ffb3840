"""The one mapping of the store's errors to the ledger's."""

from __future__ import annotations

from schemas.ledger.errors import LedgerFault, LedgerFull, LedgerUnavailable
from schemas.runtime.valkey.store import StoreError, StoreUnavailable

__all__ = ["error_of"]

_AWAY_CODES = ("MISCONF", "NOREPLICAS", "BUSY")
"""Beside those that say so of a whole server, which end as ``StoreUnavailable``."""
_FULL_CODE = "OOM"
_AWAY_INSIDE = (
    # Functions vanish with the data of a store, and return with the next connection.
    "Function not found",
    # What a function meets whose slot is on its way to another server, key by key.
    "non local key in a cluster node",
    "while the cluster is down",
)


def error_of(error: StoreUnavailable | StoreError) -> LedgerUnavailable | LedgerFault:
    """Ours for an error of the store's connection."""
    text = str(error)
    if text.startswith(_FULL_CODE):
        return LedgerFull(text)
    is_away = isinstance(error, StoreUnavailable) or text.startswith(_AWAY_CODES)
    if is_away or any(words in text for words in _AWAY_INSIDE):
        return LedgerUnavailable(text)
    return LedgerFault(text)
