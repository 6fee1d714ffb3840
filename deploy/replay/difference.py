"""The difference between a fold and what is live: sums of tables, periods, and lines by their ids. Reads the checkpoint alone."""

from __future__ import annotations

from typing import Any, Final

from deploy.replay.checkpoint import Checkpoint
from deploy.replay.live import LiveTables
from deploy.replay.live_lines import LiveLines
from schemas.usage import MEASURES, UsageRow

__all__ = ["difference_of", "totals_of"]

_LISTED_MAX: Final = 1_000
_DIFFERING: Final = (
    "SELECT cell.org, row, measure, SUM(fold), SUM(live), COUNT(*) FROM cell JOIN reached USING (org, hour) "
    "WHERE fold != live GROUP BY cell.org, row, measure"
)
_TOTALS: Final = (
    "SELECT measure, SUM(fold), SUM(live) FROM cell JOIN reached USING (org, hour) GROUP BY measure"
)
_PERIODS: Final = "SELECT org, balance, fold, live FROM period WHERE fold != live ORDER BY 1, 2"


def totals_of(checkpoint: Checkpoint) -> list[dict[str, Any]]:
    """What the tables that were compared add up to on both sides, by measure."""
    found = {measure: (fold, live) for measure, fold, live in checkpoint.file.execute(_TOTALS)}
    return [
        {"measure": name, "fold": found[name][0], "live": found[name][1]}
        for name in MEASURES
        if name in found and found[name] != (0, 0)
    ]


def difference_of(checkpoint: Checkpoint, tables: LiveTables, lines: LiveLines) -> dict[str, Any]:
    """All that differs; ``difference`` is how many sums and lines do.

    A sum is of an organization, key, model and measure; errors in two hours that would cancel each other out are both in it.
    """
    sums: dict[tuple[str, str, str, str], list[int]] = {}
    for org, row, measure, fold, live, cells in checkpoint.file.execute(_DIFFERING):
        key, _, model, _ = UsageRow(*row.split("\t"))
        of_sum = sums.setdefault((org, key, model, measure), [0, 0, 0])
        for number, amount in enumerate((fold, live, cells)):
            of_sum[number] += amount
    periods = list(checkpoint.file.execute(_PERIODS))
    (compared,) = checkpoint.file.execute("SELECT COUNT(*) FROM reached").fetchone()
    (folded_periods,) = checkpoint.file.execute("SELECT COUNT(*) FROM period").fetchone()
    listed = sorted(sums.items())[:_LISTED_MAX]
    return {
        "difference": len(sums) + len(periods) + lines.count,
        "tables_compared": compared,
        "periods_compared": folded_periods,
        "not_compared": [{"why": why, "tables": n} for why, n in tables.left_out.items()],
        "sums": [
            {
                **dict(zip(("org", "key", "model", "measure"), names, strict=True)),
                "fold": fold,
                "live": live,
                "cells": cells,
            }
            for names, (fold, live, cells) in listed
        ],
        "periods": [
            {"org": org, "balance": balance, "fold": fold, "live": live}
            for org, balance, fold, live in periods[:_LISTED_MAX]
        ],
        "lines_differing": lines.count,
        "lines": lines.differing,
        "totals": totals_of(checkpoint),
    }
