"""What a comparison says of a shard: equal, different, or that it cannot be told now. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from ingress.admin.finance.books_alarm import ShardVerdict
from ingress.admin.finance.explain import Explanation
from ingress.admin.finance.verify import Difference

LISTED_PER_SHARD_MAX: Final = 20


@dataclass(frozen=True, slots=True)
class Progress:
    """Accounting in one partition of outcomes: its end before the comparison, and what was done after it."""

    end: int
    processed: int
    """The first outcome that it is not done with."""


def is_lag(difference: Difference, reached: int, progress: Progress) -> bool:
    """Whether accounting may still make it equal.

    An outcome is booked, then its lines are written, and only then is it done. What a call settled is looked for
    among the attempts; of one whose owner vanished it may be in the log alone until that is booked.
    """
    if difference.is_usage:
        return progress.processed <= reached
    return difference.field == "settled" and progress.processed < progress.end


@dataclass(frozen=True, slots=True)
class ShardFindings:
    """All that was found out about one shard."""

    shard: int
    is_ready: bool
    is_complete: bool
    why: str
    organizations: int
    differences: Sequence[Difference]
    lagging: int
    """Differences that are left out, because accounting may still make them equal."""
    unjudged: int
    """Organizations with more under way than can be read at one instant."""


def verdict_of(found: ShardFindings, explanations: dict[Difference, Explanation]) -> ShardVerdict:
    """The verdict on the shard."""
    if not found.is_ready:
        return ShardVerdict(shard=found.shard, state="closed", why=found.why)
    if not found.is_complete:
        return ShardVerdict(shard=found.shard, state="incomplete", why="it is being rebuilt")
    largest = sorted(found.differences, key=lambda each: -abs(each.difference))
    return ShardVerdict(
        shard=found.shard,
        state="differs" if largest else "behind" if found.lagging or found.unjudged else "equal",
        organizations=found.organizations,
        difference=sum(abs(each.difference) for each in largest),
        why=_why(found),
        differences=tuple(
            shown(each, explanations.get(each)) for each in largest[:LISTED_PER_SHARD_MAX]
        ),
    )


def _why(found: ShardFindings) -> str:
    told = []
    if found.lagging:
        told.append(f"accounting has not booked all yet ({found.lagging} sums)")
    if found.unjudged:
        told.append(f"too much is under way of {found.unjudged} organizations")
    return "; ".join(told)


def shown(difference: Difference, explanation: Explanation | None) -> dict[str, Any]:
    """The difference with what explains it, for answers and log lines."""
    document = asdict(difference) | {"difference": difference.difference}
    return document | ({"explanation": explanation.document()} if explanation else {})
