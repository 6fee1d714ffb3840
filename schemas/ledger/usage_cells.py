"""What a reading of a usage hour finds in the ledger. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple


class UsageCells(NamedTuple):
    """Some cells of one usage hour of one organization."""

    cursor: int
    """Where to go on; 0 when that was all."""
    cells: Mapping[str, int]
    """Amounts by field (``schemas/usage.py``). A later reading of the hour may have one of them again."""
