"""Accounting's composition root."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from accounting.books import Books
from accounting.earlier import EarlierRecords
from accounting.hold_watch import HoldWatch
from accounting.identity import ShardIdentity, log_facts
from accounting.ledger_start import open_ledger
from accounting.positions import OutcomePositions
from accounting.rebuild.build import Parts
from accounting.rebuild.folders import Folders
from accounting.rebuild.old_layout import OldLayout
from accounting.rebuild.owner import ShardOwner
from accounting.reconciler import Reconciler
from accounting.settings import AccountingSettings
from accounting.snapshots import Snapshots
from accounting.spend_reports import SpendReports
from accounting.tables_log import TablesLog
from accounting.threshold_watch import ThresholdWatch
from schemas import topics
from schemas.runtime.budget_service import budget_service
from schemas.runtime.kafka.consume.flow import Bounds
from schemas.runtime.process.worker import Worker, WorkerShape

_SHAPE = WorkerShape(
    role="accounting",
    produces=(
        topics.OUTCOMES,
        topics.USAGE_RECORDS,
        topics.USAGE_TABLES,
        topics.CONFIG,
        topics.AUDIT,
        topics.dead_letters_of(topics.OUTCOMES),
    ),
    # Nobody waits for the books; a larger batch costs less per outcome.
    fetch_pause_s=0.05,
)
_BOUNDS = Bounds(records_max=32_768, bytes_max=256 * 1024 * 1024, partition_share=32)
"""Partitions whose ledger shards are closed fill up to their own bound, 1 024 records or 8 MiB, and wait
there. The bound of all of them lies so high that the others have room beside 15 of those."""


def create_app(settings: AccountingSettings) -> Worker:
    """All parts of accounting, wired; nothing runs yet."""
    worker = Worker.create(settings, _SHAPE)
    tables = TablesLog(worker.producer)
    owned = partial(worker.owned, topics.OUTCOMES)
    earlier = EarlierRecords(settings.kafka_brokers)
    thresholds = ThresholdWatch(
        ledger=worker.ledger,
        store=worker.ledger_store,
        producer=worker.producer,
        config=lambda: worker.config.snapshot,
        owned=owned,
        metrics=worker.metrics,
        clock=worker.clock,
        percents=settings.thresholds,
    )
    books = Books(
        ledger=worker.ledger,
        producer=worker.producer,
        dead_letters=worker.dead_letters,
        metrics=worker.metrics,
        clock=worker.clock,
        tables=tables,
        earlier=earlier,
        times=settings.times.ledger,
        thresholds=thresholds,
    )
    snapshots = Snapshots(
        ledger=worker.ledger,
        log=tables,
        clock=worker.clock,
        times=settings.times.ledger,
        owned=owned,
        booked=books.booked,
    )
    reconciler = Reconciler(
        ledger=worker.ledger,
        producer=worker.producer,
        positions=OutcomePositions(settings.kafka_brokers),
        owned=owned,
        clock=worker.clock,
        metrics=worker.metrics,
        times=settings.times,
    )

    async def open_books() -> None:
        brokers = settings.kafka_brokers
        await open_ledger(worker.ledger, worker.ledger_store, worker.config, brokers)

    worker.before_start.append(open_books)
    worker.read(
        topics.OUTCOMES,
        books.handle,
        # A skipped outcome would be lost money.
        defects_end_process=True,
        by_partition=True,
        waits=books.waits,
        bounds=_BOUNDS,
    )
    holds = HoldWatch(worker.ledger_store, owned, worker.clock, worker.metrics)
    worker.background += [snapshots.run, reconciler.run, thresholds.run, holds.run]
    _tell_spend(worker, settings)
    _look_after_shards(worker, settings, books, owned)
    worker.before_stop.append(snapshots.publish)
    return worker


def _tell_spend(worker: Worker, settings: AccountingSettings) -> None:
    """Tell an external budget service what was spent, where there is one."""
    service = budget_service(settings)
    if service is None:
        return
    reports = SpendReports(
        brokers=settings.kafka_brokers,
        service=service,
        store=worker.ledger_store,
        clock=worker.clock,
        metrics=worker.metrics,
    )
    worker.background.append(reports.run)
    worker.checks.append(reports.components)


def _look_after_shards(
    worker: Worker,
    settings: AccountingSettings,
    books: Books,
    owned: Callable[[], frozenset[int]],
) -> None:
    """Compare the shards that this process owns with the log, and make them again where they have to be."""
    identity = ShardIdentity(
        ledger=worker.ledger,
        facts=partial(log_facts, settings.kafka_brokers),
        config=worker.config,
        owned=owned,
        metrics=worker.metrics,
    )
    shards = ShardOwner(
        parts=Parts(
            worker.ledger,
            worker.producer,
            Folders(EarlierRecords(settings.kafka_brokers)),
            settings.times,
            OldLayout(worker.ledger_store, worker.ledger),
        ),
        brokers=settings.kafka_brokers,
        store=worker.ledger_store,
        config=worker.config,
        owned=owned,
        clock=worker.clock,
        metrics=worker.metrics,
        booked=books.booked,
        compare=identity.compare,
        signer=settings.config_signer,
    )
    worker.background += [identity.run, shards.run]
    worker.checks += [identity.components, shards.components]
