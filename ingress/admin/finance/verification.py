"""Proves that the ledger and the log agree, or says where they do not and who explains it; it runs as a scan."""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, TypedDict

import msgspec
from aiokafka import TopicPartition
from aiokafka.errors import KafkaError

from ingress.admin.finance.checkpoint import (
    Checkpoint,
    CheckpointBroken,
    discard_checkpoint,
    open_checkpoint,
)
from ingress.admin.finance.comparison import Comparison
from ingress.admin.finance.explain import Explanation
from ingress.admin.finance.explaining import Explaining, Question
from ingress.admin.finance.ledger_tables import (
    ShardState,
    list_unbooked,
    open_attempts,
    shard_states,
)
from ingress.admin.finance.usage_log import LogReplaced, UsageLog, open_usage_log
from ingress.admin.finance.verdicts import Progress, ShardFindings, is_lag, shown, verdict_of
from ingress.admin.finance.verify import LISTED_MAX, Difference
from ingress.admin.log.scans import Tell
from schemas.ledger.shards import Shards
from schemas.runtime.kafka.free_consumer import committed_offsets
from schemas.runtime.valkey.cold_store import ColdStore, open_cold_store
from schemas.topics import OUTCOMES, group_of

_COMPARE_MARGIN_S: Final = 60.0
"""One comparison may outlast the deadline by this."""
_EXPLAIN_WITHIN_S: Final = 60.0
_EXPLAINED_MAX: Final = 8
"""Organizations whose differences are explained, the largest ones."""
_MARGIN_MS: Final = 2 * 60_000
"""So much before the books were last equal reading for reasons begins: what was under way then."""
_UNKNOWN_EQUAL_MS: Final = 15 * 60_000
"""Without an earlier verification that found the books equal, reading for reasons begins so long ago."""


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
    is_full: bool = False
    """Read everything anew."""


class CheckpointShown(TypedDict):
    """Why the checkpoint was made anew, where it was, and how many records were read."""

    made_anew: str | None
    records_read: int


class Verdict(TypedDict):
    """Whether ledger and log agree, and where they do not."""

    difference: int
    differences: list[dict[str, Any]]
    differences_total: int
    organizations: int
    open_attempts: dict[str, int]
    settled_not_booked: list[dict[str, Any]]
    shards: list[dict[str, Any]]


class Verification(Verdict):
    """A verdict, and what it was read from."""

    usage_lines: int
    malformed_lines: int
    since: str
    checkpoint: CheckpointShown


async def verify(job: VerifyJob, tell: Tell) -> Verification:
    """The verdict. What stands in the way of going on from the checkpoint is told in it, once.

    Raises ``Transient`` failures and ``TimeoutError``; what was read by then is not read again.
    """
    folder = Path(job.folder)
    why_anew = "asked for" if job.is_full else None
    try:
        return await _verify(job, folder, tell, why_anew)
    except CheckpointBroken as error:
        why_anew = f"it could not be used: {error}"
        discard_checkpoint(folder)
    except LogReplaced as error:
        why_anew = str(error)
    return await _verify(job, folder, tell, why_anew)


async def _verify(job: VerifyJob, folder: Path, tell: Tell, why_anew: str | None) -> Verification:
    oldest = datetime.fromtimestamp(job.oldest_ms / 1_000, UTC)
    with open_checkpoint(folder, job.oldest_ms) as checkpoint:
        async with (
            open_usage_log(job.brokers, checkpoint, tell) as log,
            open_cold_store(job.ledger_url) as store,
        ):
            async with asyncio.timeout(job.read_within_s):
                why_anew = await log.resume(job.brokers, job.from_ms, why_anew)
                await log.fold_to_end()
            verification = _Verification(job, store, log, checkpoint, oldest)
            async with asyncio.timeout(job.deadline_s + _COMPARE_MARGIN_S):
                await verification.compare()
            return {
                **await verification.answer(),
                "usage_lines": checkpoint.lines,
                "malformed_lines": checkpoint.malformed,
                "since": oldest.isoformat(),
                "checkpoint": {"made_anew": why_anew, "records_read": log.records},
            }


@dataclass(slots=True)
class _Verification:
    """One verification, and what it has found out so far."""

    job: VerifyJob
    store: ColdStore
    log: UsageLog
    checkpoint: Checkpoint
    oldest: datetime
    states: dict[int, ShardState] = field(default_factory=dict)
    progress: dict[int, Progress] = field(default_factory=dict)
    comparison: Comparison = field(init=False)
    differences: list[Difference] = field(default_factory=list)
    """Those that are no lag, the largest first."""
    lagging: list[Difference] = field(default_factory=list)

    @property
    def shards(self) -> Shards:
        """All shards."""
        return Shards(self.job.shards)

    async def compare(self) -> None:
        """Compare the shards that can be, until they are equal or the time is over."""
        self.states = await shard_states(self.store, self.shards)
        ends = await self._ends()
        compared = {n for n, state in self.states.items() if state.is_ready and state.is_complete}
        oldest_hour = self.oldest.strftime("%Y-%m-%dT%H")
        self.comparison = Comparison(self.store, self.shards, self.log, oldest_hour, compared)
        await self.comparison.until_equal(self.job.deadline_s)
        # Whoever closed meanwhile says why.
        self.states |= await shard_states(self.store, self.shards)
        processed = await self._processed() if self.comparison.differences else ends
        self.progress = {n: Progress(ends[n], processed.get(n, 0)) for n in self.shards}
        self._sort_out()

    def _sort_out(self) -> None:
        reached = {one.org: one.tables.reached for one in self.comparison.examined}
        for each in self.comparison.differences:
            progress = self.progress[self.shards.of(each.org)]
            lags = is_lag(each, reached[each.org], progress)
            (self.lagging if lags else self.differences).append(each)
        self.differences.sort(key=lambda each: -abs(each.difference))

    async def _ends(self) -> dict[int, int]:
        partitions = [TopicPartition(OUTCOMES, number) for number in self.shards]
        ends = await self.log.consumer.end_offsets(partitions)
        return {partition.partition: end for partition, end in ends.items()}

    async def _processed(self) -> dict[int, int]:
        group = group_of("accounting")
        found = (await committed_offsets(self.job.brokers, [group]))[group]
        return {p.partition: offset for p, offset in found.items() if p.topic == OUTCOMES}

    async def answer(self) -> Verdict:
        """The verdict on all shards together and on each."""
        explanations = await self._explanations()
        verdicts = [verdict_of(each, explanations) for each in self._findings()]
        equal = [each.shard for each in verdicts if each.state == "equal"]
        self.checkpoint.note_equal(equal, self.job.began_ms)
        opened = sorted(self.comparison.open_shards)
        # What was finished before all this began has had its time to be booked.
        unbooked = await list_unbooked(self.store, opened, self.job.began_ms, LISTED_MAX)
        listed = self.differences[:LISTED_MAX]
        return {
            "difference": sum(abs(each.difference) for each in self.differences),
            "differences": [shown(each, explanations.get(each)) for each in listed],
            "differences_total": len(self.differences),
            "organizations": len(self.comparison.organizations),
            "open_attempts": await open_attempts(self.store, self.shards),
            "settled_not_booked": [msgspec.structs.asdict(entry) for entry in unbooked],
            "shards": [msgspec.structs.asdict(each) for each in verdicts],
        }

    def _findings(self) -> list[ShardFindings]:
        orgs = Counter(map(self.shards.of, self.comparison.organizations))
        unjudged = Counter(map(self.shards.of, {one.org for one in self.comparison.unjudged}))
        lagging = Counter(self.shards.of(each.org) for each in self.lagging)
        differing = defaultdict[int, list[Difference]](list)
        for each in self.differences:
            differing[self.shards.of(each.org)].append(each)
        return [
            ShardFindings(
                shard=shard,
                is_ready=state.is_ready,
                is_complete=state.is_complete,
                why=state.why,
                organizations=orgs[shard],
                differences=differing[shard],
                lagging=lagging[shard],
                unjudged=unjudged[shard],
            )
            for shard, state in self.states.items()
        ]

    async def _explanations(self) -> dict[Difference, Explanation]:
        """Of the organizations that differ most; none of those for which time or the broker is lacking."""
        explanations: dict[Difference, Explanation] = {}
        orgs = list(dict.fromkeys(each.org for each in self.differences))
        explaining = Explaining(self.job.brokers, self.store)
        with suppress(TimeoutError, KafkaError):
            async with asyncio.timeout(_EXPLAIN_WITHIN_S):
                for org in orgs[:_EXPLAINED_MAX]:
                    explanations |= await explaining.explained(self._question(org))
        return explanations

    def _question(self, org: str) -> Question:
        shard = self.shards.of(org)
        unknown_ms = self.job.began_ms - _UNKNOWN_EQUAL_MS
        equal_ms = self.checkpoint.equal_at_ms.get(shard, unknown_ms)
        earlier_ms = self.job.oldest_ms - self.job.from_ms + _MARGIN_MS
        return Question(
            org=org,
            shards=self.shards,
            differences=[each for each in self.differences if each.org == org],
            tables=[one.tables for one in self.comparison.examined if one.org == org],
            from_ms=equal_ms - earlier_ms,
            earlier_ms=earlier_ms,
            processed=self.progress[shard].processed,
        )
