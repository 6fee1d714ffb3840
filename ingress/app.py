"""The composition root of ingress: builds the parts of the process from its settings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from ingress.auth.api_key import ApiKeys
from ingress.auth.caller import Authenticator
from ingress.auth.callers import Callers
from ingress.auth.outside import Outside, open_outside
from ingress.batches.lease import BatchLeases
from ingress.batches.pace import Pace
from ingress.batches.runner import BatchRunner
from ingress.batches.store import BatchStore
from ingress.files.settings import FileSettings
from ingress.files.shelf import Quota, Shelf
from ingress.gatekeeper.gatekeeper import Gatekeeper
from ingress.gatekeeper.refusal_audit import RefusalAudit
from ingress.gatekeeper.signatures import Signatures
from ingress.health.watch import HealthWatch
from ingress.process import Ingress
from ingress.replies.mailbox import PendingRequests
from ingress.requests.begin import RequestStarter
from ingress.requests.cancellations import Cancellations
from ingress.requests.claims import Claims
from ingress.requests.exact_counts import ExactCounts
from ingress.requests.job_list import JobList
from ingress.requests.lookup import RequestLookup
from ingress.requests.request_desk import RequestDesk
from ingress.requests.resumption import Resumption
from ingress.requests.tokenizer_files import TokenizerFiles
from ingress.routes import PublicParts
from ingress.settings import IngressSettings
from schemas.runtime.config.feed import ConfigFeed
from schemas.runtime.kafka.outcome_lookup import OutcomeLookup
from schemas.runtime.kafka.produce import Producer
from schemas.runtime.kafka.record_reader import RecordReader
from schemas.runtime.kafka.request_records import RequestRecords
from schemas.runtime.ledger.client import LedgerClient, ledger_store
from schemas.runtime.ledger.meetings import Meetings
from schemas.runtime.ledger.time_source import LedgerTime
from schemas.runtime.process.clock import Clock, random_bytes
from schemas.runtime.process.loop_counts import expose_loop
from schemas.runtime.process.telemetry import Metrics
from schemas.runtime.process.traces import tracing_of
from schemas.runtime.valkey.bodies import Bodies
from schemas.runtime.valkey.bus import Bus, channel_of
from schemas.runtime.valkey.store import Store
from schemas.runtime.valkey.subscription import Subscription

_TOKEN_BYTES: Final = 8


def create_app(settings: IngressSettings) -> Ingress:
    """Build all parts; nothing connects before ``run``. Call it inside the running loop."""
    clock, metrics = Clock(), Metrics()
    expose_loop(metrics)
    tracing = tracing_of(settings, "ingress", clock, metrics)
    tracer = None if tracing is None else tracing.tracer
    producer = Producer(
        settings.kafka_brokers,
        settings.instance_id,
        on_appended=clock.learn_broker,
        tracer=tracer,
    )
    producer.expose(metrics)
    config = ConfigFeed(
        settings.kafka_brokers, settings.data_dir, verifier=settings.config_verifier
    )
    bus = Bus(settings.bus_url, settings.times)
    bus.store.expose(metrics, "bus")
    meetings = Meetings()
    store = ledger_store(settings.ledger_url, settings.times.ledger, meetings)
    store.expose(metrics, "ledger")
    ledger = LedgerClient(
        store, meetings=meetings, epochs=lambda: config.snapshot.ledger_epochs, tracer=tracer
    )
    pending = PendingRequests()
    subscription = Subscription(
        settings.bus_url,
        channel_of(settings.instance_id),
        pending.on_message,
        pending.on_subscribed,
    )
    watch = HealthWatch(
        config,
        lambda: ledger.known,
        store,
        bus.store,
        producer.ask_broker,
        clock,
        settings.disk_free_min_bytes,
    )
    outside = _outside(settings, clock, metrics)
    gatekeeper = Gatekeeper.create(
        settings,
        config,
        clock,
        watch.conditions,
        lambda: producer.unacknowledged_s,
        callers_of(settings, outside.authenticators),
        Signatures(ledger),
        metrics,
    )
    public = _public_parts(settings, gatekeeper, producer, pending, ledger, bus, clock)
    return Ingress(
        settings=settings,
        config=config,
        producer=producer,
        ledger_store=store,
        bus=bus,
        subscription=subscription,
        pending=pending,
        public=public,
        refusals=RefusalAudit(gatekeeper.tally, producer, clock),
        watch=watch,
        metrics=metrics,
        clock=clock,
        ledger_time=LedgerTime(clock, store, metrics),
        outside=outside,
        tracing=tracing,
        batches=_batches(settings, public, store),
    )


def _batches(settings: IngressSettings, public: PublicParts, store: Store) -> BatchRunner | None:
    """Who runs batches here; ``None`` where there are none, or others run them. Their lines take at most half of what an organization
    has of keys, so that its clients' own find room."""
    files, lines_max, keeper = public.files, settings.batch_lines_max, public.gatekeeper
    if files is None or not lines_max:
        return None
    token = f"{settings.instance_id} {random_bytes(_TOKEN_BYTES).hex()}"
    leases = BatchLeases(store, token)
    batches = BatchStore(files.store)
    claims = replace(public.starter.claims, keys_max=max(1, settings.idempotency_keys_max // 2))
    starter = replace(public.starter, claims=claims)
    pace = Pace(settings.batch_lines_per_s)
    return BatchRunner(batches, leases, starter, keeper.clock, lines_max, keeper, pace)


def shelf_of(settings: FileSettings, clock: Clock) -> Shelf | None:
    """Where files are kept; ``None`` where none are, and then nothing of it is loaded."""
    if not settings.files_url:
        return None
    from ingress.files.store import open_files  # noqa: PLC0415

    quota = Quota(settings.org_files_max, settings.org_files_bytes_max)
    return Shelf(open_files(settings.files_url), quota, clock)


def callers_of(settings: IngressSettings, others: Sequence[Authenticator] = ()) -> Callers:
    """Whose credentials are known here, beside those whom others vouch for."""
    return Callers(ApiKeys(settings.key_peppers, settings.signing_peppers), others)


def _outside(settings: IngressSettings, clock: Clock, metrics: Metrics) -> Outside:
    """Who vouches for callers without an API key."""
    token = settings.user_org_token
    return open_outside(
        settings.callers,
        None if token is None else token.get_secret_value(),
        settings.data_dir / "issuers",
        clock,
        metrics,
    )


def _public_parts(
    settings: IngressSettings,
    gatekeeper: Gatekeeper,
    producer: Producer,
    pending: PendingRequests,
    ledger: LedgerClient,
    bus: Bus,
    clock: Clock,
) -> PublicParts:
    log, records = OutcomeLookup(settings.kafka_brokers), RecordReader(settings.kafka_brokers)
    lookup = RequestLookup(ledger, bus, log, records, clock)
    starter = RequestStarter(
        gatekeeper=gatekeeper,
        claims=Claims(ledger, lookup, settings.idempotency_keys_max),
        jobs=JobList(ledger, settings.jobs_max),
        producer=producer,
        bodies=Bodies(bus),
        pending=pending,
        cancellations=Cancellations(ledger, bus),
        resumption=Resumption(ledger, lookup, bus),
        reply_to=channel_of(settings.instance_id),
        counts=ExactCounts(files=TokenizerFiles(settings.tokenizers_dir)),
    )
    return PublicParts(
        gatekeeper=gatekeeper,
        starter=starter,
        ledger=ledger,
        lookup=lookup,
        requests=RequestDesk(ledger, RequestRecords(settings.kafka_brokers), clock),
        deadlines_s=settings.deadlines_s,
        origins=settings.origins,
        default_limits=settings.default_limits,
        files=shelf_of(settings, clock),
        file_bytes_max=settings.file_bytes_max,
        flex_s=settings.flex_s,
    )
