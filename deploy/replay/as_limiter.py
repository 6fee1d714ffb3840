"""A replay as the limiter: decides a range of requests again under the configuration in force now. Writes nothing that is live."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from aiokafka import TopicPartition

from accounting.rebuild.log import Log
from deploy.replay.checkpoint import Checkpoint
from deploy.replay.deciding import Decider
from deploy.replay.live import LedgerReading, StoredLedger
from deploy.replay.merged import Part, merged
from deploy.replay.pace import Pace
from deploy.replay.plan import Plan, Source, partitions_of
from deploy.replay.problem import ReplayProblem
from deploy.replay.ranges import Stretch
from limiter_worker.settings import LimiterSettings
from schemas.codec import UNDECODABLE, decode, decode_as
from schemas.config_state import ConfigState, Snapshot
from schemas.events import AttemptAdjusted, ConfigEntry, RequestFinished
from schemas.ledger.documents import TakeSnapshot
from schemas.ledger.errors import LedgerNotReady
from schemas.runtime.valkey.cold_store import open_cold_store
from schemas.stated_limits import Defaults
from schemas.topics import BACKGROUND, CONFIG, OUTCOMES, REQUESTS

__all__ = ["LimiterReplay", "check_requests"]

_LEAD_MS: Final = 10 * 60_000
"""So long before the range reading begins: what was under way then, and what buckets had left."""
_ENDS_WITHIN_MS: Final = 15 * 60_000
"""Longer than any request lasts; later outcomes are of none in the range."""
_LISTED_MAX: Final = 1_000
_SUM: Final = (
    "INSERT INTO period VALUES (?, ?, ?, 0) ON CONFLICT DO UPDATE SET fold = fold + excluded.fold"
)


def check_requests(topic: str) -> None:
    """Raises ``ReplayProblem`` for a topic of other records."""
    if topic != REQUESTS:
        raise ReplayProblem(
            f"the limiter is not asked again about {topic}",
            f"it decides what stands in {REQUESTS}; jobs are counted beside that",
            "leave --topic away",
            is_usage=True,
        )


@dataclass(frozen=True, slots=True)
class LimiterReplay:
    """One such replay. Partitions are decided one after the other; one that was killed in is decided anew."""

    source: Source
    plan: Plan
    brokers: str
    ledger_url: str
    checkpoint: Checkpoint
    pace: Pace

    async def run(self) -> dict[str, Any]:
        """Decide and compare. Raises ``KafkaError``, ``Transient`` and ``Defect`` failures."""
        counts = {t: await partitions_of(self.brokers, t) for t in (REQUESTS, BACKGROUND, OUTCOMES)}
        if len(set(counts.values())) > 1:
            why = ", ".join(f"{topic} has {n}" for topic, n in counts.items())
            fix = "no organization can be decided alone; tallygate topics list shows them"
            raise ReplayProblem("the topics differ in their partitions", why, fix)
        config = await config_now(self.source.log)
        done = self.checkpoint.places()
        async with open_cold_store(self.ledger_url) as store:
            for stretch in self.plan.stretches:
                if stretch.records and stretch.partition not in done:
                    await self._decide(stretch, config, StoredLedger(store))
                    self.checkpoint.commit({stretch.partition: stretch.end})
                self.pace.note(stretch.records)
        return _document(self.checkpoint, config)

    async def _decide(self, stretch: Stretch, config: Snapshot, ledger: LedgerReading) -> None:
        log, number = self.source.log, stretch.partition
        parts, begins = await _parts(log, stretch)
        await _sum_up(log, parts[0], self.checkpoint)

        async def spent_before(org: str, balances: Sequence[str]) -> Mapping[str, int]:
            return await _spent_before(ledger, self.checkpoint, number, org, balances)

        fields = LimiterSettings.model_fields
        defaults = Defaults(
            fields["rate_limit_default_rps"].default,
            fields["rate_limit_burst_size"].default,
            fields["org_inflight_default"].default,
        )
        selection = self.plan.selection
        decider = Decider(config, defaults, selection, self.checkpoint, begins, spent_before)
        async for piece in merged(log, parts):
            for record in piece:
                await decider.take(record)
            self.checkpoint.count("read", len(piece))
            await self.pace.after(0)
        decider.end()


async def _parts(log: Log, stretch: Stretch) -> tuple[list[Part], dict[str, int]]:
    """Outcomes, requests and jobs that bear on a stretch of requests, and where verdicts begin to be told."""
    number = stretch.partition
    partition = TopicPartition(REQUESTS, number)
    begin_ms = await _appended_ms(log, partition, stretch.begin, stretch.end)
    last_ms = await _appended_ms(log, partition, stretch.end - 1, stretch.end)
    parts, begins = [], {REQUESTS: stretch.begin}
    for topic in (OUTCOMES, REQUESTS, BACKGROUND):
        at = TopicPartition(topic, number)
        stands = (await log.bounds([at]))[at]
        first = await log.first_since(at, begin_ms - _LEAD_MS, stands.end)
        end = stretch.end
        if topic != REQUESTS:
            margin_ms = _ENDS_WITHIN_MS if topic == OUTCOMES else 1
            end = await log.first_since(at, last_ms + margin_ms, stands.end)
        begins[topic] = begins.get(topic, end)
        parts.append(Part(at, first, max(first, end)))
    return parts, begins


async def _sum_up(log: Log, outcomes: Part, checkpoint: Checkpoint) -> None:
    """Add up what the outcomes since then have booked, so that it can be taken out of what is booked now."""
    at = (await log.bounds([outcomes.partition]))[outcomes.partition]
    async for page in log.pages(outcomes.partition, outcomes.begin, at.end):
        for record in page:
            try:
                event = decode(record.value)
            except UNDECODABLE:
                continue
            if not isinstance(event, RequestFinished | AttemptAdjusted):
                continue
            ref = (
                f"{event.delta.attempt}:{event.revision}"
                if isinstance(event, AttemptAdjusted)
                else ""
            )
            name = f"{event.org}|{event.request_id}|{ref}"
            seen = checkpoint.file.execute("INSERT OR IGNORE INTO seen VALUES (?, 0)", (name,))
            if seen.rowcount:
                sums = [(event.org, each.key, each.amount) for each in event.bookings]
                checkpoint.file.executemany(_SUM, sums)


async def _spent_before(
    ledger: LedgerReading, checkpoint: Checkpoint, shard: int, org: str, balances: Sequence[str]
) -> Mapping[str, int]:
    try:
        snapshot = await ledger.snapshot(shard, TakeSnapshot(org=org, balances=tuple(balances)))
    except LedgerNotReady:
        checkpoint.count("balances of which it is not known what was spent before", len(balances))
        return {}
    found = {}
    for balance in balances:
        row = checkpoint.file.execute(
            "SELECT fold FROM period WHERE org = ? AND balance = ?", (org, balance)
        ).fetchone()
        total = snapshot.totals.get(balance, {}).get("settled", 0)
        found[balance] = max(0, total - (row[0] if row else 0))
    return found


async def config_now(log: Log) -> Snapshot:
    """The configuration in force, from its topic."""
    state, partition = ConfigState(), TopicPartition(CONFIG, 0)
    at = (await log.bounds([partition]))[partition]
    async for page in log.pages(partition, at.begin, at.end):
        for record in page:
            try:
                state.apply(decode_as(record.value, ConfigEntry), record.offset)
            except UNDECODABLE:
                continue
    return state.snapshot()


async def _appended_ms(log: Log, partition: TopicPartition, offset: int, end: int) -> int:
    async for page in log.pages(partition, offset, min(offset + 1, end)):
        for record in page:
            return int(record.timestamp)
    return 0


def _document(checkpoint: Checkpoint, config: Snapshot) -> dict[str, Any]:
    counts, file = checkpoint.counts(), checkpoint.file
    names = ("request_id", "org", "key", "model", "was", "now", "at_ms", "why")
    listed = file.execute("SELECT * FROM changed ORDER BY at_ms, id LIMIT ?", (_LISTED_MAX,))
    pairs = file.execute(
        "SELECT was, now, COUNT(*) FROM changed GROUP BY 1, 2 ORDER BY 3 DESC, 1, 2"
    )
    return {
        "difference": counts.get("changed", 0),
        "config_offset": config.offset,
        "judged": counts.get("judged", 0),
        "not_judged": {
            name.removeprefix("not judged: "): amount
            for name, amount in sorted(counts.items())
            if name.startswith("not judged: ") and amount
        },
        "changes": [{"was": was, "now": now, "requests": n} for was, now, n in pairs],
        "changed": [dict(zip(names, row, strict=True)) for row in listed],
        "totals": [],
    }
