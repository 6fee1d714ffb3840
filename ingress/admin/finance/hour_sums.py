"""What is compared of a usage table: its sum of each measure, and a fingerprint of its rows. Pure.

The fingerprint is linear: lines add to it as they add to the table, so a checkpoint needs no rows to tell that
an amount stands in the wrong one. Each cell has a weight, the hash of its name; the fingerprint is the sum of
amounts times weights, modulo a prime. Two tables of different cells share one by an accident of 2^-61.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import lru_cache
from typing import Final

from schemas.events import UsageRecorded
from schemas.usage import MEASURES, UsageRow, amounts_of, cell, read_cell

ROWS: Final = "rows"
"""The fingerprint, where sums have their names."""
SUMS: Final = (*MEASURES, ROWS)
PRIME: Final = 2**61 - 1
_WEIGHTS_KEPT: Final = 65_536


@lru_cache(_WEIGHTS_KEPT)
def _weight(name: str) -> int:
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "big") % PRIME


def sums_of_line(line: UsageRecorded) -> list[int]:
    """What the line adds, in the order of ``SUMS``."""
    amounts = amounts_of(line, line.revision)
    row = UsageRow.of(line.key_id, line.user, line.model, line.backend).encoded()
    named = zip(MEASURES, amounts, strict=True)
    rows = sum(_weight(cell(row, measure)) * amount for measure, amount in named if amount)
    return [*amounts, rows % PRIME]


def sums_of_table(cells: Mapping[str, int]) -> dict[str, int]:
    """The sums of a table as the ledger has it, by name. Raises ``ValueError`` on a field of another shape."""
    sums, rows = dict.fromkeys(SUMS, 0), 0
    for name, amount in cells.items():
        sums[read_cell(name)[1]] += amount
        rows += _weight(name) * amount
    return sums | {ROWS: rows % PRIME}


def without(sums: Mapping[str, int], later: Mapping[str, int]) -> dict[str, int]:
    """The sums before what came later was added."""
    left = {name: sums.get(name, 0) - later.get(name, 0) for name in SUMS}
    return left | {ROWS: left[ROWS] % PRIME}
