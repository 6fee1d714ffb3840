"""Reads what `reconcile` compares, and names by request what does not fit; it runs as a scan."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any, Final, TypedDict

import msgspec
from aiokafka import ConsumerRecord, TopicPartition

from ingress.admin.finance.comparison import portions
from ingress.admin.finance.ledger_tables import (
    busy_organizations,
    examine,
    find_tables,
    known_requests,
    list_unbooked,
    look,
)
from ingress.admin.finance.reconcile import (
    HARMLESS,
    Finding,
    Reading,
    Span,
    judge,
    summary,
)
from ingress.admin.finance.verify import Difference, OrgKeys, balance_differences, suspects
from ingress.admin.log.scans import Tell
from ingress.admin.log.search import TO_THE_END_MS, Bounds, search_log
from schemas.codec import UNDECODABLE, decode
from schemas.events import AttemptAdjusted, RecordRef, RequestFinished, UsageRecorded
from schemas.ledger import keys
from schemas.ledger.shards import Shards
from schemas.runtime.kafka.topic_admin import list_topics
from schemas.runtime.process.clock import Clock
from schemas.runtime.valkey.cold_store import ColdStore, open_cold_store
from schemas.topics import OUTCOMES, USAGE_RECORDS

_BOUNDS: Final = Bounds(deadline_s=40.0, records_max=200_000)
_LISTED_MAX: Final = 1_000
_BALANCES_WITHIN_S: Final = 5.0
_PAUSE_S: Final = 0.25
_NO_HOURS: Final = "9999"


class ReconcileJob(msgspec.Struct, frozen=True, kw_only=True):
    """What a reconciliation is told; times in Unix milliseconds."""

    brokers: str
    ledger_url: str
    shards: int
    now_ms: int
    start_ms: int
    end_ms: int
    read_from_ms: int
    from_ms: int
    """The same by the broker's clock, as early as it may be."""


Reconciliation = TypedDict(
    "Reconciliation",
    {
        "from": str,
        "to": str,
        "gave_up": dict[str, str],
        "outcomes": int,
        "usage_lines": int,
        "waiting": int,
        "difference": int,
        "kinds": dict[str, int],
        "findings": list[dict[str, Any]],
        "findings_total": int,
    },
)
"""Everything that does not fit among what was appended in a time, and what it was compared with."""


async def reconcile(job: ReconcileJob, tell: Tell) -> Reconciliation:
    """Everything that does not fit among what was appended in a time. Raises ``Transient`` failures."""
    shards = Shards(job.shards)
    reading = Reading(Span(job.start_ms, job.end_ms, job.read_from_ms))
    gave_up = {OUTCOMES: await _read(job, OUTCOMES, reading, tell)}
    async with open_cold_store(job.ledger_url) as store:
        # What is processed has its lines in the log, so it is asked for before these are read.
        processed = await _processed(store, reading)
        gave_up[USAGE_RECORDS] = await _read(job, USAGE_RECORDS, reading, tell)
        reading.is_complete = not any(gave_up.values())
        known = await known_requests(store, shards, reading.outcomes.values())
        findings, waiting = judge(reading, processed, known)
        findings += await _balances(store, shards)
        unbooked = await list_unbooked(store, shards, min(job.now_ms, job.end_ms), _LISTED_MAX)
    findings += [
        Finding("settled_not_booked", e.org, e.req, e.req, f"finished at {e.finished_ms}")
        for e in unbooked
        if e.finished_ms in reading.span
    ]
    counted = [finding for finding in findings if finding.kind not in HARMLESS]
    return {
        "from": _time(job.start_ms),
        "to": _time(job.end_ms),
        "gave_up": {topic: why for topic, why in gave_up.items() if why},
        "outcomes": len(reading.outcomes),
        "usage_lines": len(reading.lines),
        "waiting": waiting,
        "difference": len(counted),
        "kinds": summary(findings),
        "findings": [asdict(finding) for finding in findings[:_LISTED_MAX]],
        "findings_total": len(findings),
    }


async def _read(job: ReconcileJob, topic: str, reading: Reading, tell: Tell) -> str | None:
    """Read the topic from the span's begin; why it was not read to its end, if it was not.

    Lines come later than their outcomes, so both are read to what is the end now.
    """
    partitions = [
        TopicPartition(topic, number)
        for state in await list_topics(job.brokers)
        if state.name == topic
        for number in range(state.partitions)
    ]
    appended_ms = job.from_ms, TO_THE_END_MS
    async with search_log(job.brokers, partitions, appended_ms, Clock(), _BOUNDS) as search:
        async for batch in search.batches():
            for record in batch:
                take_in(reading, record)
            tell(search.records, search.records + len(search.ends))
    return search.gave_up


async def _processed(store: ColdStore, reading: Reading) -> dict[int, int]:
    """How far accounting is in each partition of the outcomes that were read."""
    done: dict[int, int] = {}
    for number in sorted({outcome.place[0] for outcome in reading.outcomes.values()}):
        offset = await store.hget(keys.processed(OUTCOMES, number), "offset")
        if offset is not None:
            done[number] = int(offset)
    return done


async def _balances(store: ColdStore, shards: Shards) -> list[Finding]:
    """Balances whose fields nothing speaks for; read again for a while, since accounting is behind."""
    loop = asyncio.get_running_loop()
    give_up_s = loop.time() + _BALANCES_WITHIN_S
    found = await find_tables(store, _NO_HOURS)
    looked = [
        difference
        for org, known in found.items()
        for difference in balance_differences(org, await look(store, shards.of(org), org, known))
    ]
    busy = await busy_organizations(store, shards)
    suspected = suspects(looked) | {org: found.get(org, OrgKeys()) for org in busy}
    while True:
        differences = await _examined(store, shards, suspected)
        if not differences or loop.time() >= give_up_s:
            break
        await asyncio.sleep(_PAUSE_S)
        suspected = suspects(differences)
    return [
        Finding(
            "balance_differs",
            d.org,
            None,
            f"{d.what} {d.field}",
            f"the balance says {d.ledger}, what speaks for it {d.log}",
        )
        for d in differences
    ]


async def _examined(
    store: ColdStore, shards: Shards, suspected: Mapping[str, OrgKeys]
) -> list[Difference]:
    differences: dict[Difference, None] = {}
    for org, known in suspected.items():
        for wanted in portions(known):
            tables = await examine(store, shards.of(org), org, wanted)
            differences |= dict.fromkeys(balance_differences(org, tables))
    return list(differences)


def take_in(reading: Reading, record: ConsumerRecord) -> None:
    """Add what the record says; one that says nothing of this is left out."""
    try:
        event: Any = decode(record.value)
    except UNDECODABLE:
        return
    match event:
        case RequestFinished() | AttemptAdjusted():
            ref = RecordRef(topic=record.topic, partition=record.partition, offset=record.offset)
            reading.add_outcome(event, ref, record.timestamp)
        case UsageRecorded():
            reading.add_line(event, record.timestamp, record.value)


def _time(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms / 1_000, UTC).isoformat()
