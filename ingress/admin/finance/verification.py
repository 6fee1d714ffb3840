"""Proves that the ledger and the log agree, or says where they do not; it runs as a scan.

Accounting may be behind the calls, therefore both sides of an organization are read again until they are
equal or the deadline passed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import msgspec

from ingress.admin.finance.checkpoint import (
    Checkpoint,
    CheckpointBroken,
    discard_checkpoint,
    open_checkpoint,
)
from ingress.admin.finance.ledger_tables import (
    find_tables,
    list_unbooked,
    open_attempts,
    read_tables,
    steps,
)
from ingress.admin.finance.usage_log import LogReplaced, UsageLog, open_usage_log
from ingress.admin.finance.verify import LISTED_MAX, Difference, OrgKeys, compare, report
from ingress.admin.log.scans import Tell
from schemas.ledger.shards import Shards
from schemas.runtime.valkey.cold_store import ColdStore, open_cold_store

_PAUSE_FIRST_S: Final = 0.25
_PAUSE_MAX_S: Final = 2.0
_COMPARE_MARGIN_S: Final = 20.0
"""One comparison may outlast the deadline by this."""
_ORGANIZATIONS_PER_STEP: Final = 256


class VerifyJob(msgspec.Struct, frozen=True, kw_only=True):
    """What a verification is told; times in Unix milliseconds."""

    brokers: str
    ledger_url: str
    shards: int
    folder: str
    """Where its checkpoint stands."""
    began_ms: int
    oldest_ms: int
    """The beginning of the first day that is compared, by the ledger's clock."""
    from_ms: int
    """No line of that day was appended earlier, by the broker's clock."""
    deadline_s: float
    """How long accounting may catch up, once the log is read."""
    read_within_s: float
    is_from_start: bool = False


async def verify(job: VerifyJob, tell: Tell) -> dict[str, Any]:
    """The verdict. What stands in the way of going on from the checkpoint is told in it, once.

    Raises ``Transient`` failures and ``TimeoutError``; what was read by then is not read again.
    """
    folder = Path(job.folder)
    why_anew = "asked for" if job.is_from_start else None
    try:
        return await _verify(job, folder, tell, why_anew)
    except CheckpointBroken as error:
        why_anew = f"it could not be used: {error}"
        discard_checkpoint(folder)
    except LogReplaced as error:
        why_anew = str(error)
    return await _verify(job, folder, tell, why_anew)


async def _verify(job: VerifyJob, folder: Path, tell: Tell, why_anew: str | None) -> dict[str, Any]:
    oldest = datetime.fromtimestamp(job.oldest_ms / 1_000, UTC)
    with open_checkpoint(folder, job.oldest_ms) as checkpoint:
        async with (
            open_usage_log(job.brokers, checkpoint, tell) as log,
            open_cold_store(job.ledger_url) as store,
        ):
            async with asyncio.timeout(job.read_within_s):
                why_anew = await log.resume(job.brokers, job.from_ms, why_anew)
                await log.fold_to_end()
            comparison = _Comparison(
                store, Shards(job.shards), log, checkpoint, oldest.strftime("%Y-%m-%dT%H")
            )
            async with asyncio.timeout(job.deadline_s + _COMPARE_MARGIN_S):
                differences = await comparison.until_equal(job.deadline_s)
                attempts = await open_attempts(store, comparison.shards)
                # What was finished before all this began has had its time to be booked.
                unbooked = await list_unbooked(store, comparison.shards, job.began_ms, LISTED_MAX)
            return {
                **report(differences),
                "organizations": len(comparison.organizations),
                "usage_lines": checkpoint.lines,
                "malformed_lines": checkpoint.malformed,
                "since": oldest.isoformat(),
                "open_attempts": attempts,
                "settled_not_booked": [msgspec.structs.asdict(entry) for entry in unbooked],
                "checkpoint": {"made_anew": why_anew, "records_read": log.records},
            }


@dataclass(slots=True)
class _Comparison:
    """Both sides, organization by organization."""

    store: ColdStore
    shards: Shards
    log: UsageLog
    checkpoint: Checkpoint
    oldest_hour: str
    organizations: set[str] = field(default_factory=set)

    async def until_equal(self, deadline_s: float) -> list[Difference]:
        """What differs; an organization that was equal once is not asked for again."""
        loop = asyncio.get_running_loop()
        give_up_s, pause_s = loop.time() + deadline_s, _PAUSE_FIRST_S
        found = await find_tables(self.store, self.oldest_hour)
        unequal = sorted(found.keys() | self.checkpoint.sums().keys())
        self.organizations.update(unequal)
        while True:
            differences: list[Difference] = []
            for some in steps(unequal, _ORGANIZATIONS_PER_STEP):
                differences += await self._compare({org: found.get(org, _NO_KEYS) for org in some})
            unequal = sorted({difference.org for difference in differences})
            if not unequal or loop.time() >= give_up_s:
                return differences
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, _PAUSE_MAX_S)
            found = await find_tables(self.store, self.oldest_hour)

    async def _compare(self, wanted: dict[str, OrgKeys]) -> Sequence[Difference]:
        tables = await read_tables(self.store, self.shards, wanted)
        await self.log.fold_to_end()
        sums = self.checkpoint.sums()
        return compare(tables, {org: sums[org] for org in wanted if org in sums})


_NO_KEYS: Final = OrgKeys((), ())
