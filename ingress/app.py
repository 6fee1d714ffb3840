"""The composition root of ingress: builds the parts of the process from its settings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from ingress.auth.api_key import ApiKeys
from ingress.auth.caller import Authenticator
from ingress.auth.callers import Callers
from ingress.auth.outside import Outside, open_outside
from ingress.files.settings import FileSettings
from ingress.files.shelf import Quota, Shelf
from ingress.gatekeeper.gatekeeper import Gatekeeper
from ingress.gatekeeper.refusal_audit import RefusalAudit
from ingress.gatekeeper.signatures import Signatures
from ingress.plumbing import Plumbing
from ingress.process import Ingress
from ingress.requests.request_desk import RequestDesk
from ingress.routes import PublicParts
from ingress.settings import IngressSettings
from schemas.runtime.kafka.request_records import RequestRecords
from schemas.runtime.process.clock import Clock
from schemas.runtime.process.telemetry import Metrics

_TOKEN_BYTES: Final = 8


def create_app(settings: IngressSettings) -> Ingress:
    """Build all parts; nothing connects before ``run``. Call it inside the running loop."""
    plumbing = Plumbing.create(settings, "ingress")
    clock, metrics, producer = plumbing.clock, plumbing.metrics, plumbing.producer
    outside = _outside(settings, clock, metrics)
    gatekeeper = Gatekeeper.create(
        settings,
        plumbing.config,
        clock,
        plumbing.watch.conditions,
        lambda: producer.unacknowledged_s,
        callers_of(settings, outside.authenticators),
        Signatures(plumbing.ledger),
        metrics,
    )
    return Ingress(
        settings=settings,
        plumbing=plumbing,
        public=_public_parts(settings, gatekeeper, plumbing),
        refusals=RefusalAudit(gatekeeper.tally, producer, clock),
        outside=outside,
    )


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
    settings: IngressSettings, gatekeeper: Gatekeeper, plumbing: Plumbing
) -> PublicParts:
    ledger, clock = plumbing.ledger, plumbing.clock
    return PublicParts(
        gatekeeper=gatekeeper,
        starter=plumbing.starter(gatekeeper, settings.idempotency_keys_max, settings.jobs_max),
        ledger=ledger,
        lookup=plumbing.lookup,
        requests=RequestDesk(ledger, RequestRecords(settings.kafka_brokers), clock),
        deadlines_s=settings.deadlines_s,
        origins=settings.origins,
        default_limits=settings.default_limits,
        files=shelf_of(settings, clock),
        file_bytes_max=settings.file_bytes_max,
        flex_s=settings.flex_s,
    )
