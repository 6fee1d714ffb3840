"""The routes of the public application, and its errors of routing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp

from ingress.batches.desk import BatchDesk
from ingress.batches.store import BatchStore
from ingress.endpoints.batches import BatchRoutes
from ingress.endpoints.count_tokens import CountTokensEndpoint
from ingress.endpoints.files import FileRoutes
from ingress.endpoints.jobs import JobRoutes
from ingress.endpoints.limits import LimitRoutes
from ingress.endpoints.models import ModelRoutes
from ingress.endpoints.operations import OperationEndpoint
from ingress.endpoints.requests import RequestRoutes
from ingress.endpoints.responses import ResponseRoutes
from ingress.endpoints.status import StatusRoutes
from ingress.endpoints.uploads import UploadEndpoint
from ingress.endpoints.usage import UsageRoutes
from ingress.files.shelf import Shelf
from ingress.gatekeeper.caller_rates import CallerRates
from ingress.gatekeeper.gatekeeper import Gatekeeper
from ingress.http import paths
from ingress.http.cross_origin import preflight_headers
from ingress.http.middleware import RequestMiddleware, Shortcut
from ingress.http.refusals import Refusal
from ingress.http.responses import refusal_response
from ingress.requests.begin import RequestStarter
from ingress.requests.conversations import Conversations
from ingress.requests.job_desk import JobDesk
from ingress.requests.lookup import RequestLookup
from ingress.requests.request_desk import RequestDesk
from schemas.errors import ErrorCode
from schemas.operations import JOBS, OPERATIONS, RESPONSES
from schemas.runtime.ledger.client import LedgerClient
from schemas.runtime.process.allow import allow_header
from schemas.runtime.process.published import api_routes
from schemas.runtime.process.telemetry import Metrics
from schemas.runtime.process.tracing import Tracer
from schemas.stated_limits import Defaults


@dataclass(frozen=True, slots=True)
class PublicParts:
    """What the public routes are made of."""

    gatekeeper: Gatekeeper
    starter: RequestStarter
    ledger: LedgerClient
    lookup: RequestLookup
    requests: RequestDesk
    """Where one request is asked for."""
    deadlines_s: tuple[float, float]
    """How long a request has: where it says nothing, and at most."""
    origins: frozenset[bytes]
    """Of pages that browsers may show the answers to."""
    default_limits: Defaults
    """Of those that state none."""
    files: Shelf | None
    """Where there are any."""
    file_bytes_max: int
    """Of one file."""
    flex_s: tuple[float, float]
    """How long a flex request has: where it says nothing, and at most."""

    @property
    def batches(self) -> BatchDesk | None:
        """Where batches are asked for; ``None`` where no files are kept."""
        files = self.files
        if files is None:
            return None
        return BatchDesk(BatchStore(files.store), files, self.gatekeeper.clock)

    @property
    def desk(self) -> JobDesk:
        """Where one job is asked for."""
        return JobDesk(self.ledger, self.lookup, self.starter.cancellations)


def create_public_app(
    parts: PublicParts, status: StatusRoutes, metrics: Metrics, tracer: Tracer | None = None
) -> Shortcut:
    """The application that clients talk to."""
    keeper = parts.gatekeeper
    rates = CallerRates(
        lambda: keeper.config.snapshot, parts.default_limits, keeper.clock.monotonic_s
    )
    edge = partial(
        RequestMiddleware,
        metrics=metrics,
        clock=keeper.clock,
        doors=keeper,
        tracer=tracer,
        rates=rates,
    )
    go_on = {RESPONSES.name: Conversations(parts.lookup)}
    operations: dict[str, ASGIApp] = {
        row.path: OperationEndpoint(
            row, keeper, parts.starter, parts.deadlines_s, parts.flex_s, go_on.get(row.name)
        )
        for row in OPERATIONS.values()
    }
    operations[paths.COUNT_TOKENS] = CountTokensEndpoint(keeper, parts.starter.counts)
    posts = {path: edge(endpoint) for path, endpoint in operations.items()}
    return Shortcut(posts, _router(parts, operations, status, Middleware(edge)))


def _router(
    parts: PublicParts,
    operations: Mapping[str, ASGIApp],
    status: StatusRoutes,
    edge: Middleware,
) -> Starlette:
    """All routes in the framework's hands, those that the shortcut knows included."""
    models = ModelRoutes(parts.gatekeeper)
    jobs = JobRoutes(parts.gatekeeper, parts.ledger, parts.desk)
    responses = ResponseRoutes(parts.gatekeeper, parts.desk, Conversations(parts.lookup))
    requests = RequestRoutes(parts.gatekeeper, parts.requests)
    uploads = UploadEndpoint(parts.gatekeeper, parts.files, parts.file_bytes_max)
    files = FileRoutes(parts.gatekeeper, parts.files)
    batches = BatchRoutes(parts.gatekeeper, parts.batches)
    usage = UsageRoutes(parts.gatekeeper, parts.ledger)
    limits = LimitRoutes(parts.gatekeeper, parts.ledger, parts.default_limits)
    app = Starlette(
        routes=[
            *(Route(path, endpoint, methods=["POST"]) for path, endpoint in operations.items()),
            Route(JOBS.path, jobs.list_all),
            Route(paths.job_path("{job_id}"), jobs.show),
            Route(paths.job_path("{job_id}"), jobs.cancel, methods=["DELETE"]),
            Route(paths.response_path("{response_id}"), responses.show),
            Route(paths.cancel_path("{response_id}"), responses.cancel, methods=["POST"]),
            Route(paths.MODELS, models.list_all),
            Route(f"{paths.MODELS}/{{name:path}}", models.show),
            Route(paths.LIMITS, limits.show),
            Route(paths.USAGE, usage.show),
            Route(paths.COMPLETIONS_USAGE, usage.completions),
            Route(f"{paths.ORGANIZATION_USAGE}/{{name}}", usage.unkept),
            Route(paths.COSTS, usage.costs),
            Route(paths.request_path("{request_id}"), requests.show),
            Route(paths.events_path("{request_id}"), requests.events),
            Route(paths.FILES, uploads, methods=["POST"]),
            Route(paths.FILES, files.list_all),
            Route(f"{paths.FILES}/{{file_id}}", files.show),
            Route(f"{paths.FILES}/{{file_id}}", files.delete, methods=["DELETE"]),
            Route(f"{paths.FILES}/{{file_id}}/content", files.content),
            Route(paths.BATCHES, batches.create, methods=["POST"]),
            Route(paths.BATCHES, batches.list_all),
            Route(f"{paths.BATCHES}/{{batch_id}}", batches.show),
            Route(f"{paths.BATCHES}/{{batch_id}}/cancel", batches.cancel, methods=["POST"]),
            Route(paths.HEALTHZ, status.healthz),
            Route(paths.READYZ, status.readyz),
            Route(paths.STARTUPZ, status.startupz),
            Route(paths.METRICS, status.metrics),
            *api_routes(),
        ],
        middleware=[edge],
        exception_handlers={HTTPException: partial(_refuse_route, parts.origins)},
    )
    app.router.redirect_slashes = False
    return app


async def _refuse_route(origins: frozenset[bytes], request: Request, error: Exception) -> Response:
    """404 and 405 of the router; the question of a browser whether it may ask is nobody's route either."""
    assert isinstance(error, HTTPException)
    method, path = request.method, request.scope["path"]
    if method == "OPTIONS":
        preflight = preflight_headers(origins, request.scope["headers"])
        if preflight is not None:
            answer = Response(status_code=HTTPStatus.NO_CONTENT)
            answer.raw_headers.extend(preflight)
            return answer
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        message = f"{method} is not allowed on {path}."
        refusal = Refusal(ErrorCode.METHOD_NOT_ALLOWED, message)
    else:
        refusal = Refusal(ErrorCode.NOT_FOUND, f"There is nothing at {path}.")
    response = refusal_response(request, refusal)
    if refusal.code is ErrorCode.METHOD_NOT_ALLOWED:
        response.headers["allow"] = allow_header(request.app.routes, request.scope)
    return response
