"""What a rebuild does once the shard is open: marks, keys, jobs and usage hours. Nobody's money waits for them.

Until marks are back, whoever may have one waits, and nothing is booked. Until keys and jobs are back, whoever brings a
key or asks for a list is told to come again. A request that was being produced when the shard closed, and comes into
the log after it was read here, finds at its admission whether its key is another's by then, and is listed there if it
is a job.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import Final

from aiokafka import TopicPartition

from accounting.booking import KEPT_LONGER_MS
from accounting.rebuild.build import ShardBuild
from accounting.rebuild.chunks import chunks, period_end_ms
from accounting.rebuild.fold import TableName
from accounting.rebuild.kept import Kept
from accounting.rebuild.log import Log
from accounting.rebuild.records import LogRecord
from accounting.rebuild.stretches import FoldedHours
from accounting.table_records import hour_kept_until_ms
from schemas.codec import MalformedRecord, decode_as
from schemas.events import RequestAccepted, TableSnapshot
from schemas.ledger import rebuild_calls
from schemas.ledger.documents import KeptKey
from schemas.ledger.keys import usage_suffix
from schemas.ledger.rebuild_calls import RestoredUsage
from schemas.ledger.table_calls import Written
from schemas.runtime.process.clock import Clock
from schemas.snapshots import key_of, part_of, table_key
from schemas.times import MINUTE_MS
from schemas.topics import BACKGROUND, REQUESTS, USAGE_TABLES

__all__ = ["complete"]

_ENTRIES_PER_CALL: Final = 500
_HOURS_PER_CALL: Final = 20


async def complete(build: ShardBuild, log: Log, clock: Clock) -> None:
    """Restore what is left of an open shard. Raises ``Transient``; then it may be called again."""
    await _restore_marks(build)
    await build.do(rebuild_calls.restored(build.shard, build.building, "marks"))
    await _restore_kept(build, log, clock)
    await _note_records(build)
    await build.do(rebuild_calls.restored(build.shard, build.building, "claims"))
    # Clients wait for keys and jobs, and nobody for usage.
    await _restore_usage(build, log, await build.fold_hours(log))
    await build.do(rebuild_calls.restored(build.shard, build.building, "all"))


async def _restore_marks(build: ShardBuild) -> None:
    await build.at("restores marks")
    pieces = build.fold.marks
    while pieces:
        await build.do(rebuild_calls.restore_marks(build.shard, build.building, pieces[0]))
        pieces.pop(0)


async def _restore_kept(build: ShardBuild, log: Log, clock: Clock) -> None:
    await build.at("restores keys and jobs")
    kept, times = Kept(build.parts.times), build.parts.times
    await build.write_late()
    for each in (*build.snapshots.kept.values(), *build.fold.kept):
        kept.end(each)
    for (_, req), before in build.before.items():
        if req not in build.fold.seen:
            kept.carry(*before)
    now_ms = clock.now_ms()
    for topic, reach_ms in (
        (REQUESTS, times.deadline_max_ms + MINUTE_MS),
        (BACKGROUND, times.ledger.job_kept_ms),
    ):
        partition = TopicPartition(topic, build.shard)
        at = (await log.bounds([partition]))[partition]
        begin = await log.first_since(partition, now_ms - reach_ms, at.end)
        async for page in log.pages(partition, begin, at.end):
            for accepted in _accepted_in(page, build):
                kept.accept(accepted)
    for claims in chunks(kept.claims.values(), _ENTRIES_PER_CALL):
        await build.do(rebuild_calls.restore_claims(build.shard, build.building, claims))
    for jobs in chunks(kept.jobs.values(), _ENTRIES_PER_CALL):
        await build.do(rebuild_calls.restore_jobs(build.shard, build.building, jobs))
    known = (
        mark
        for scope, mark in kept.marks.items()
        if mark.due_ms > build.clock_ms or scope in kept.jobs
    )
    for marks in map(rebuild_calls.encoded_marks, chunks(known, _ENTRIES_PER_CALL)):
        await build.do(rebuild_calls.restore_marks(build.shard, build.building, marks))


async def _note_records(build: ShardBuild) -> None:
    """Note which records the log has of the shard, and until when it is to keep each."""
    snapshots, kept_ms = build.snapshots, build.parts.times.ledger.table_kept_ms
    hours = (
        KeptKey(
            key=table_key(org, usage_suffix(hour), number, len(parts)),
            until_ms=hour_kept_until_ms(hour, kept_ms),
        )
        for (org, hour), parts in snapshots.hours().items()
        for number in range(len(parts))
    )
    balances = (
        KeptKey(key=table_key(org, suffix), until_ms=None if end_ms is None else end_ms + kept_ms)
        for org, suffix in snapshots.balances
        for end_ms in (period_end_ms(suffix),)
    )
    requests = (
        KeptKey(key=key_of(each), until_ms=each.expires_at_ms + KEPT_LONGER_MS)
        for each in snapshots.kept.values()
    )
    for piece in chunks((*hours, *balances, *requests), _ENTRIES_PER_CALL):
        await build.parts.ledger.written(build.shard, Written(kept=piece))


def _accepted_in(page: Iterable[LogRecord], build: ShardBuild) -> Iterator[RequestAccepted]:
    """Requests of the page that the fold saw no end of: how those ended counts."""
    for record in page:
        request_id = dict(record.headers).get("request_id", b"").decode(errors="replace")
        if request_id in build.fold.seen:
            continue
        try:
            yield decode_as(record.value, RequestAccepted)
        except MalformedRecord:
            continue  # It never ran.


async def _restore_usage(build: ShardBuild, log: Log, added: FoldedHours) -> None:
    """Add snapshot and fold of each usage hour, part by part; at last those without a snapshot."""
    await build.at("restores usage hours")
    wanted: dict[int, dict[int, TableName]] = defaultdict(dict)
    hours = build.snapshots.hours()
    for table, parts in hours.items():
        for part in parts:
            wanted[part.partition][part.place] = table
    for number, places in wanted.items():
        partition = TopicPartition(USAGE_TABLES, number)
        async for page in log.pages(partition, min(places), max(places) + 1):
            found = [each for each in page if each.offset in places]
            await _write_hours(build, (_hour_of(each, build, added) for each in found))
    new = (table for table in added.cells if table not in hours)
    await _write_hours(
        build, (_restored(build, table, "0/1", added.cells[table], added) for table in new)
    )


def _hour_of(record: LogRecord, build: ShardBuild, added: FoldedHours) -> RestoredUsage:
    snapshot = decode_as(record.value, TableSnapshot)
    table = snapshot.org, snapshot.hour or ""
    cells = dict(snapshot.values)
    for name, amount in added.cells.get(table, {}).items():
        if part_of(name.rpartition("\t")[0], snapshot.parts) == snapshot.part:
            cells[name] = cells.get(name, 0) + amount
    return _restored(build, table, f"{snapshot.part}/{snapshot.parts}", cells, added)


def _restored(
    build: ShardBuild, table: TableName, part: str, cells: dict[str, int], added: FoldedHours
) -> RestoredUsage:
    org, hour = table
    return RestoredUsage(
        org=org,
        hour=hour,
        part=part,
        cells=cells,
        until_ms=hour_kept_until_ms(hour, build.parts.times.ledger.table_kept_ms),
        changed=added.changed.get(table),
    )


async def _write_hours(build: ShardBuild, hours: Iterable[RestoredUsage]) -> None:
    for piece in chunks(hours, _HOURS_PER_CALL):
        await build.do(rebuild_calls.restore_usage(build.shard, build.building, piece))
