"""Watches what every shard of the ledger says of itself, so that it is known when each was closed and open again."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from pathlib import Path

from tests.chaos.stores import Meta, ledger_servers, metas

LOOK_EVERY_S = 0.1
_GONE = Meta(0, is_ready=False, has_claims=False, is_complete=False)


@dataclass(frozen=True)
class Reopened:
    """When a shard was open again (monotonic s, or ``None`` when it was not), and under which epoch."""

    epoch: int
    ready_s: float | None
    claims_s: float | None
    complete_s: float | None


@dataclass
class ShardWatch:
    """Looks ten times a second and notes what changed."""

    state_dir: Path
    seen: dict[int, list[tuple[float, Meta]]] = field(default_factory=dict)

    async def run(self) -> None:
        """Until it is cancelled."""
        while True:
            at_s = time.monotonic()
            found = await asyncio.to_thread(metas, ledger_servers(self.state_dir))
            self.note(found, at_s)
            await asyncio.sleep(LOOK_EVERY_S)

    def note(self, found: dict[int, Meta], at_s: float) -> None:
        """What a look showed; a known shard that is not found has gone."""
        for number in found.keys() | self.seen.keys():
            meta, history = found.get(number, _GONE), self.seen.setdefault(number, [])
            if not history or history[-1][1] != meta:
                history.append((at_s, meta))

    def reopened(self, since_s: float) -> dict[int, Reopened | None]:
        """By shard; ``None`` for one that was never closed after that time."""
        return {number: _reopened(history, since_s) for number, history in self.seen.items()}


def _reopened(history: list[tuple[float, Meta]], since_s: float) -> Reopened | None:
    later = [(at_s, meta) for at_s, meta in history if at_s >= since_s]
    closed = next((i for i, (_, meta) in enumerate(later) if not meta.is_ready), None)
    before = next((meta for at_s, meta in reversed(history) if at_s < since_s), _GONE)
    if closed is None:
        # A look may miss a shard that was closed for a moment; its epoch tells.
        closed = next((i for i, (_, m) in enumerate(later) if m.epoch > before.epoch), None)
    if closed is None:
        return None
    after = later[closed:]
    return Reopened(
        epoch=after[-1][1].epoch,
        ready_s=next((at_s for at_s, meta in after if meta.is_ready), None),
        claims_s=next((at_s for at_s, meta in after if meta.is_ready and meta.has_claims), None),
        complete_s=next((at_s for at_s, meta in after if meta.is_ready and meta.is_complete), None),
    )
