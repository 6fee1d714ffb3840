"""Whether a shard has to be rebuilt, and why: told from its `meta` and from what the log says. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

__all__ = ["ANOTHER_LOG", "FIRST_EPOCH", "LAYOUT", "OTHER_LAYOUT", "ShardMeta", "cause_of"]

FIRST_EPOCH: Final = 1
"""Of a shard that was never made again."""
ANOTHER_LOG: Final = "another log"
"""Why a shard is closed that is not the fold of the log here: made again from that, all budgets would begin anew."""
OTHER_LAYOUT: Final = "layout"
"""Why a shard is rebuilt that another version wrote."""
LAYOUT: Final = "2"
"""How the keys of a shard are built; those of another layout are not read."""


@dataclass(frozen=True, slots=True)
class ShardMeta:
    """The `meta` of a shard; without fields there is none."""

    fields: Mapping[str, str]

    @property
    def epoch(self) -> int:
        """Which life of the shard this is; 0 without one."""
        return self._number("epoch", 0)

    @property
    def is_ready(self) -> bool:
        """Whether the shard decides."""
        return self.fields.get("ready") == "1"

    @property
    def building(self) -> str:
        """Which rebuild is under way; empty when none is."""
        return self.fields.get("building", "")

    def _number(self, name: str, otherwise: int) -> int:
        text = self.fields.get(name, "")
        return int(text) if text.isdecimal() else otherwise


def cause_of(meta: ShardMeta, announced: int, own: str | None) -> str | None:
    """Why the shard has to be rebuilt; ``None`` when it has not, or when an operator decides that.

    ``announced`` is the highest epoch that the log knows of the shard, 0 without one; ``own`` is the rebuild that this process has under way or completes.
    """
    if not meta.fields:
        return "empty"
    if meta.fields.get("layout") != LAYOUT:
        return OTHER_LAYOUT
    if own is not None and meta.building == own and meta.epoch >= announced:
        return None
    if meta.fields.get("why") == ANOTHER_LOG:
        return None
    if not meta.is_ready:
        return meta.fields.get("why", "") or "closed"
    if meta.epoch < announced:
        return "epoch"
    if meta.fields.get("complete") != "1":
        return "incomplete"
    return None
