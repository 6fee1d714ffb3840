"""The committed counts per request, and what a run may not exceed: a tenth more fails.

Most counts are the same from run to run, also beside others who use the machine. ``LOOSE`` says which may
grow by more before they fail, ``NOT_JUDGED`` which never do, and why; they are printed all the same.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Final

from deploy.bench.counts import COUNTED, Counts

FILE: Final = Path(__file__).with_name("committed_counts.json")
MOST: Final = 1.10
LEAST_EVENTS: Final = 0.3
"""What may come on top of any count: added work is an event a request or more, never a third of one."""
LOOSE: Final[Mapping[tuple[str, str], float]] = dict.fromkeys(
    (("accounting", what) for what in ("timers", "store commands", "store flushes")), 1.45
)
"""Reconciliation does as many of these every 10 s as some twenty requests; one more a request is still seen."""
NOT_JUDGED: Final[Mapping[str, str]] = {
    "wake-ups": "how often a thread sleeps depends on who else uses the machine"
}
Figures = Mapping[str, Counts]
"""Counts per request, by role."""


@dataclass(frozen=True, slots=True)
class Excess:
    """A count above what the committed one allows."""

    role: str
    what: str
    committed: float
    measured: float

    def __str__(self) -> str:
        more = f"{self.measured / self.committed - 1:+.0%}" if self.committed else "new"
        return (
            f"{self.role}: {self.what} per request: {self.measured:g} measured,"
            f" {self.committed:g} committed ({more})"
        )


def exceeding(committed: Figures, rounds: Sequence[Figures]) -> list[Excess]:
    """What exceeds the committed figures in every round: more work is there each time, a disturbance is not."""
    least = lowest(rounds)
    return [
        Excess(role, what, before, now)
        for role, counts in least.items()
        for what, now in counts.items()
        if what not in NOT_JUDGED
        for before in (committed.get(role, {}).get(what, 0.0),)
        if now > max(before * LOOSE.get((role, what), MOST), before + LEAST_EVENTS)
    ]


def lowest(rounds: Sequence[Figures]) -> dict[str, Counts]:
    """The least of each count over the rounds."""
    return _over(rounds, min)


def typical(rounds: Sequence[Figures]) -> dict[str, Counts]:
    """The median of each count over the rounds: what is committed."""
    return _over(rounds, median)


def read_committed() -> dict[str, Counts]:
    """The committed figures."""
    read: dict[str, Counts] = json.loads(FILE.read_text())
    return read


def write_committed(figures: Figures) -> None:
    """Commit other figures."""
    FILE.write_text(json.dumps(figures, indent=2) + "\n")


def render_against(committed: Figures, measured: Figures) -> str:
    """A line a count: committed, measured, by how much it changed, and whether it is judged."""
    lines = [f"{'per request':<34}{'committed':>12}{'measured':>12}"]
    for role, counts in measured.items():
        for what, now in counts.items():
            before = committed.get(role, {}).get(what, 0.0)
            change = f"{now / before - 1:+.1%}" if before else ""
            note = "  not judged" if what in NOT_JUDGED else ""
            lines.append(f"{role + ' ' + what:<34}{before:>12g}{now:>12g}{change:>9}{note}")
    reasons = [f"not judged: {what}: {why}" for what, why in NOT_JUDGED.items()]
    return "\n".join([*lines, *reasons])


def _over(rounds: Sequence[Figures], pick: Callable[[list[float]], float]) -> dict[str, Counts]:
    return {
        role: {
            what: round(pick([figures[role][what] for figures in rounds]), 2)
            for what in COUNTED
            if what in counts
        }
        for role, counts in rounds[0].items()
    }
