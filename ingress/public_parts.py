"""Builds what the public routes are made of: how requests begin, and where they are looked for."""

from __future__ import annotations

from ingress.gatekeeper.gatekeeper import Gatekeeper
from ingress.replies.mailbox import PendingRequests
from ingress.requests.begin import RequestStarter
from ingress.requests.cancellations import Cancellations
from ingress.requests.claims import Claims
from ingress.requests.exact_counts import ExactCounts
from ingress.requests.job_list import JobList
from ingress.requests.lookup import RequestLookup
from ingress.requests.request_desk import RequestDesk
from ingress.requests.tokenizer_files import TokenizerFiles
from ingress.routes import PublicParts
from ingress.settings import IngressSettings
from schemas.runtime.kafka.outcome_lookup import OutcomeLookup
from schemas.runtime.kafka.produce import Producer
from schemas.runtime.kafka.record_reader import RecordReader
from schemas.runtime.kafka.request_records import RequestRecords
from schemas.runtime.kafka.results import Results
from schemas.runtime.ledger.client import LedgerClient
from schemas.runtime.process.clock import Clock
from schemas.runtime.valkey.bodies import Bodies
from schemas.runtime.valkey.bus import Bus, channel_of


def public_parts(
    settings: IngressSettings,
    gatekeeper: Gatekeeper,
    producer: Producer,
    pending: PendingRequests,
    ledger: LedgerClient,
    bus: Bus,
    clock: Clock,
) -> PublicParts:
    """What the public routes are made of; nothing connects."""
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
        reply_to=channel_of(settings.instance_id),
        counts=ExactCounts(files=TokenizerFiles(settings.tokenizers_dir)),
    )
    trails = RequestRecords(settings.kafka_brokers)
    desk = RequestDesk(ledger, trails, Results(records), clock)
    said = settings.deadlines_s, settings.origins, settings.default_limits
    return PublicParts(gatekeeper, starter, ledger, lookup, desk, *said)
