"""The application of the control plane: the admin API below ``/admin/v1``, status pages, errors as problem+json."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

from aiokafka.errors import KafkaError
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Mount, Router
from starlette.types import ASGIApp

from ingress.admin.access import Access, guarded
from ingress.admin.config.config_routes import ConfigRoutes
from ingress.admin.config.config_writer import ConfigWriter
from ingress.admin.config.entity_routes import EntityRoutes
from ingress.admin.config.key_routes import KeyRoutes
from ingress.admin.config.override_routes import OverrideRoutes
from ingress.admin.deps import AdminDeps
from ingress.admin.finance.ledger_routes import LedgerRoutes
from ingress.admin.finance.reconcile_routes import ReconcileRoutes
from ingress.admin.finance.shard_routes import ShardRoutes
from ingress.admin.finance.usage_routes import UsageRoutes
from ingress.admin.finance.verifier import Verifier
from ingress.admin.fleet.explain_routes import ExplainRoutes
from ingress.admin.fleet.lag_routes import LagRoutes
from ingress.admin.fleet.status_routes import StatusRoutes
from ingress.admin.http.guard import Guard
from ingress.admin.http.refusal import Refusal, problem_response
from ingress.admin.http.request_count import RequestCount
from ingress.admin.http.status_pages import StatusPages
from ingress.admin.http.turns import Turns
from ingress.admin.log.audit_routes import AuditRoutes
from ingress.admin.log.dead_letter_routes import DeadLetterRoutes
from ingress.admin.log.request_routes import RequestRoutes
from ingress.admin.log.scan_routes import ScanRoutes
from ingress.admin.log.scans import ScanUnavailable
from ingress.admin.log.webhook_routes import WebhookRoutes
from schemas.errors import ErrorCode
from schemas.ledger.errors import LedgerUnavailable
from schemas.log_events import LogEvent
from schemas.readiness import missing
from schemas.runtime.kafka.produce import ProduceFailed
from schemas.runtime.process.allow import allow_header
from schemas.runtime.process.event_log import EventLog
from schemas.runtime.process.published import api_routes
from schemas.runtime.process.telemetry import Metrics
from schemas.runtime.valkey.store import StoreUnavailable

_LOG = EventLog(__name__)

_TRANSIENT = (
    ScanUnavailable,
    StoreUnavailable,
    LedgerUnavailable,
    ProduceFailed,
    KafkaError,
    TimeoutError,
)
_METHOD_NOT_ALLOWED = 405

Components = Callable[[], Mapping[str, str]]
"""Component of readiness to its state."""


def create_http_app(components: Components, metrics: Metrics, verifier: Verifier) -> ASGIApp:
    """The application; nothing runs before its first request."""
    deps, scans = verifier.deps, verifier.scans
    writer = ConfigWriter(deps)
    searches = (
        UsageRoutes(deps),
        RequestRoutes(deps),
        AuditRoutes(deps),
        DeadLetterRoutes(deps),
        WebhookRoutes(deps),
        LagRoutes(deps),
    )
    others = (
        StatusRoutes(deps, lambda: verifier.component),
        ScanRoutes(scans),
        LedgerRoutes(verifier),
        ShardRoutes(deps),
        ReconcileRoutes(deps, scans),
        ConfigRoutes(deps, writer),
        KeyRoutes(deps, writer),
        OverrideRoutes(deps, writer),
        ExplainRoutes(deps),
        EntityRoutes(deps, writer),
    )
    access = _access(deps)
    routes = Turns().of(route for group in searches for route in group.routes())
    routes += [route for group in others for route in group.routes()]
    # The role is looked at before a search waits for its turn.
    routes = guarded(routes, access)
    # No redirects: an address that is not quite one is refused like any other that is none.
    open_routes = [*StatusPages(components, metrics, deps.clock).routes(), *api_routes()]
    app = Starlette(
        routes=[
            Mount("/admin/v1", app=Router(routes, redirect_slashes=False)),
            *open_routes,
        ],
        middleware=[Middleware(Guard, missing=lambda: missing(components()), door=access)],
        exception_handlers={
            HTTPException: partial(_unroutable, [*routes, *open_routes]),
            **dict.fromkeys(_TRANSIENT, _unavailable),
            # The ASGI edge: a defect must still be answered in the form clients parse.
            Exception: _internal_error,
        },
    )
    app.router.redirect_slashes = False
    return RequestCount(app, metrics)


def _access(deps: AdminDeps) -> Access | None:
    """Who is let in by certificate; ``None`` where the port is plain HTTP."""
    settings = deps.settings
    if settings.admin_tls is None or settings.admin_roles is None:
        return None
    return Access(settings.admin_roles, deps.clock, deps.producer)


async def _unroutable(routes: Sequence[BaseRoute], request: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 404
    code = ErrorCode.METHOD_NOT_ALLOWED if status == _METHOD_NOT_ALLOWED else ErrorCode.NOT_FOUND
    answer = problem_response(Refusal(code, f"{request.method} {request.scope['path']}"))
    if code is ErrorCode.METHOD_NOT_ALLOWED:
        answer.headers["allow"] = allow_header(routes, request.scope)
    return answer


async def _unavailable(request: Request, error: Exception) -> Response:
    _LOG.event(
        LogEvent.CALL_UNAVAILABLE, method=request.method, path=request.scope["path"], error=error
    )
    detail = f"a store or broker did not answer in time ({error!r}); a write may have been made"
    return problem_response(Refusal(ErrorCode.SERVICE_UNAVAILABLE, detail))


async def _internal_error(request: Request, error: Exception) -> Response:
    _LOG.event(
        LogEvent.REQUEST_DEFECT, method=request.method, path=request.scope["path"], defect=error
    )
    return problem_response(Refusal(ErrorCode.INTERNAL_ERROR, "see the log of the admin process"))
