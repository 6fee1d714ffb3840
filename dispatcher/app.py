"""The dispatcher's composition root."""

from __future__ import annotations

import random
from collections.abc import Mapping

from dispatcher.abort import DrainCap
from dispatcher.attempts.excess import Excesses
from dispatcher.attempts.failover import Failover
from dispatcher.backends.health_report import HealthReport
from dispatcher.backends.probe_client import ProbeClient
from dispatcher.backends.probes import Prober
from dispatcher.backends.registry import Backends
from dispatcher.backends.slots import Slots
from dispatcher.claims.claiming import Claiming
from dispatcher.claims.leases import Leases
from dispatcher.handler import Dispatching
from dispatcher.settings import DispatcherSettings
from dispatcher.settlement.answering import Answering
from dispatcher.settlement.closing import Closing
from dispatcher.settlement.recording import Recording
from dispatcher.settlement.settling import Settling
from dispatcher.settlement.unreadable import Unreadable
from dispatcher.upstream.bodies import BodySource
from dispatcher.upstream.connecting import tls_context
from dispatcher.upstream.upstreams import Upstreams
from dispatcher.webhooks.delivering import Deliveries
from dispatcher.webhooks.reader import WebhookReader
from dispatcher.webhooks.receivers import Receivers
from dispatcher.webhooks.sending import Sender
from schemas import topics
from schemas.runtime.kafka.consume.flow import Bounds
from schemas.runtime.kafka.consume.records import Record
from schemas.runtime.kafka.outcome_lookup import OutcomeLookup
from schemas.runtime.kafka.record_reader import RecordReader
from schemas.runtime.kafka.results import Results
from schemas.runtime.process.worker import Worker, WorkerShape
from schemas.runtime.valkey.bodies import Bodies
from schemas.runtime.valkey.bus import cancel_channel_of
from schemas.runtime.valkey.subscription import Subscription

_SHAPE = WorkerShape(
    role="dispatcher",
    produces=(
        *(topics.OUTCOMES, topics.RESULTS, topics.dead_letters_of(topics.DISPATCH)),
        *(topics.WEBHOOKS, *topics.WEBHOOK_PAUSES_MS, topics.WEBHOOKS_GIVEN_UP),
    ),
)
_BATCHES_UNDER_WAY = 8
_CLOSE_S = 1.0
"""For booking and recording what was ended."""


def create_app(settings: DispatcherSettings, api_keys: Mapping[str, str]) -> Worker:
    """All parts of the dispatcher, wired; nothing runs yet."""
    worker = Worker.create(settings, _SHAPE)
    upstreams = Upstreams(api_keys, worker.clock, settings.log_upstream_texts)
    slots = Slots(
        Backends(worker.config, worker.clock, settings.concurrency), worker.metrics, worker.clock
    )
    cap = DrainCap(settings.drain_max_s, settings.drain_max_bytes)
    leases = Leases(worker.ledger, cap, settings.instance_id, settings.times)
    dispatching = _reader(worker, settings, upstreams, slots, leases)
    _watch_backends(worker, upstreams, slots, dispatching.failover.calls.excesses)
    _listen_for_cancels(worker, leases)
    _tell_organizations(worker, settings)
    worker.background.append(leases.keep)
    worker.checks.append(lambda: {"slots": slots.component()})

    async def drain() -> None:
        """Let what was taken run to its end, and end what takes too long. The partitions have been
        handed over by then: nothing new comes."""
        await dispatching.wait_until_idle(settings.stop_after_s)
        leases.end_all()
        await dispatching.wait_until_idle(settings.drain_max_s + _CLOSE_S)

    worker.before_drain.append(drain)
    return worker


def _reader(
    worker: Worker,
    settings: DispatcherSettings,
    upstreams: Upstreams,
    slots: Slots,
    leases: Leases,
) -> Dispatching:
    """From the dispatch topic to the outcome."""
    ledger, metrics, clock = worker.ledger, worker.metrics, worker.clock
    records = RecordReader(settings.kafka_brokers)
    worker.before_stop.append(records.stop)
    lookup = OutcomeLookup(settings.kafka_brokers)
    worker.before_stop.append(lookup.stop)
    bodies = BodySource(Bodies(worker.bus), records, clock)
    claiming = Claiming(ledger, clock, settings.instance_id, settings.times.ledger.attempt_lease_ms)
    closing = Closing(
        claiming,
        Answering(worker.bus, Results(records), clock),
        Recording(worker.producer, clock),
        Settling(ledger, clock),
        lookup,
        metrics,
        clock,
    )
    unreadable = Unreadable(
        worker.ledger_store,
        lambda: worker.ledger.shards,
        records,
        closing,
        worker.dead_letters,
        metrics,
    )

    def is_fresh(record: Record) -> bool:
        return worker.app.direct_consumer.starts.is_fresh(record)

    dispatching = Dispatching(
        claiming=claiming,
        failover=Failover(
            ledger, slots, upstreams, bodies, leases, metrics, clock, tracer=worker.tracer
        ),
        closing=closing,
        leases=leases,
        unreadable=unreadable,
        dead_letters=worker.dead_letters,
        metrics=metrics,
        clock=clock,
        is_fresh=is_fresh,
        run_max_ms=settings.times.deadline_max_ms,
    )
    worker.read(
        topics.DISPATCH,
        dispatching.handle,
        on_defect=unreadable.end,
        batches_under_way=_BATCHES_UNDER_WAY,
        bounds=Bounds(records_max=8 * settings.concurrency),
    )
    return dispatching


def _watch_backends(worker: Worker, upstreams: Upstreams, slots: Slots, excesses: Excesses) -> None:
    """Probes, and the report of what they and the calls find."""
    client = ProbeClient(upstreams.authorization)
    prober = Prober(worker.config, slots.backends, client, random.uniform)
    report = HealthReport(
        slots,
        worker.ledger_store,
        worker.metrics,
        worker.clock,
        worker.settings.instance_id,
        excesses.at,
        prober.said,
        upstreams.lacks_key,
    )
    worker.before_start += [client.start]
    worker.background += [prober.run, report.run]
    worker.before_stop += [client.stop, upstreams.stop]


def _tell_organizations(worker: Worker, settings: DispatcherSettings) -> None:
    """Webhooks, where somebody can sign them."""
    peppers = settings.webhook_peppers
    if not peppers.live:
        return
    sender = Sender(tls_context(), settings.webhook_private)
    deliveries = Deliveries(
        sender=sender,
        receivers=Receivers(),
        producer=worker.producer,
        config=lambda: worker.config.snapshot,
        peppers=peppers,
        clock=worker.clock,
        metrics=worker.metrics,
    )
    reader = WebhookReader(settings.kafka_brokers, deliveries, lambda: worker.config.is_read)
    worker.background.append(reader.run)

    async def stop() -> None:
        await reader.stop()
        sender.close()

    worker.before_stop.append(stop)


def _listen_for_cancels(worker: Worker, leases: Leases) -> None:
    """The signal of cancellations; one that is not heard is seen when the lease is renewed."""

    def on_message(request_id: bytes) -> None:
        leases.end(request_id.decode(errors="replace"), "cancelled")

    cancel_signal = Subscription(
        worker.settings.bus_url,
        cancel_channel_of(worker.settings.instance_id),
        on_message,
        on_subscribed=lambda: None,
    )
    worker.before_start.append(cancel_signal.start)
    worker.before_stop.append(cancel_signal.stop)
