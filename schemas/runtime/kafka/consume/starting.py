"""Decides where a partition is read from, or why it has to wait. Pure.

What was processed is a fact of the log that no reset of the consumer group undoes: reading begins above
the mark. A log of the same name that is not the one the mark speaks of is never skipped by it.
"""

from __future__ import annotations

from dataclasses import dataclass

from schemas.ledger.keys import processed
from schemas.runtime.kafka.consume.ack_window import Partition
from schemas.runtime.kafka.consume.offsets import Mark, decode_mark, further

__all__ = ["UNSURE", "Extent", "mark_of", "start_of"]

UNSURE = "the group's commit is not its own, and the ledger does not tell what was processed"
"""Whoever would begin here could do everything again."""


@dataclass(frozen=True, slots=True)
class Extent:
    """What a partition of the log holds now."""

    begin: int
    end: int
    seen_ms: int | None
    """Append time of its first record that is as new as the mark's newest; ``None`` when there is none."""


def mark_of(committed: tuple[int, str] | None, kept: Mark | None) -> Mark | None:
    """What was processed, by the group's commit (offset and metadata) and by what is kept beside it;
    ``None`` for a partition that nobody ever read."""
    if committed is None:
        return kept
    offset, metadata = committed
    return further(decode_mark(offset, metadata) or Mark(offset, is_ours=False), kept)


def start_of(partition: Partition, mark: Mark | None, extent: Extent) -> int | str:
    """The offset to begin at, or the cause for which the partition waits."""
    if mark is None:
        return extent.begin
    covers = f"processed up to offset {mark.end}"
    if mark.end > extent.end:
        return f"{covers}, but the log ends at {extent.end}{_remedy(partition)}"
    if mark.end > extent.begin and mark.newest_ms and extent.seen_ms != mark.newest_ms:
        return f"{covers} in another log of this name{_remedy(partition)}"
    return max(mark.offset, extent.begin)


def _remedy(partition: Partition) -> str:
    """What an operator has to do, once he is sure; nobody else can be."""
    return (
        f": restore it, or to read it anew delete {processed(*partition)} from the ledger "
        "and the group's commit"
    )
