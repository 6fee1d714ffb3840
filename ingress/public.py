"""The public application: its table of routes, the list of models, and errors of routing."""

from __future__ import annotations

from http import HTTPStatus

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from ingress.apis.catalogue import find_model, model_object, usable_models
from ingress.auth.api_key import Caller
from ingress.endpoints.completions import CompletionEndpoint
from ingress.endpoints.jobs import JobRoutes, JobSubmission
from ingress.endpoints.status import StatusRoutes
from ingress.http import paths
from ingress.http.middleware import RequestMiddleware
from ingress.http.refusals import Refusal
from ingress.http.responses import refusal_response
from ingress.requests.intake import Intake
from schemas.errors import ErrorCode
from schemas.operations import JOBS, OPERATIONS, Operation
from schemas.runtime.process.telemetry import Metrics


def create_public_app(intake: Intake, status: StatusRoutes, metrics: Metrics) -> Starlette:
    """The application that clients talk to."""
    models = ModelRoutes(intake)
    jobs = JobRoutes(intake)
    edge = Middleware(
        RequestMiddleware,
        metrics=metrics,
        clock=intake.clock,
        opening=intake.opening,
        is_leaving=lambda: intake.is_leaving,
    )
    app = Starlette(
        routes=[
            *(
                Route(row.path, _endpoint(intake, row), methods=["POST"])
                for row in OPERATIONS.values()
            ),
            Route(JOBS.path, jobs.list_all),
            Route(paths.job_path("{job_id}"), jobs.show),
            Route(paths.job_path("{job_id}"), jobs.cancel, methods=["DELETE"]),
            Route(paths.MODELS, models.list_all),
            Route(f"{paths.MODELS}/{{name:path}}", models.show),
            Route(paths.HEALTHZ, status.healthz),
            Route(paths.READYZ, status.readyz),
            Route(paths.STARTUPZ, status.startupz),
            Route(paths.METRICS, status.metrics),
        ],
        middleware=[edge],
        exception_handlers={HTTPException: _refuse_route},
    )
    app.router.redirect_slashes = False
    return app


def _endpoint(intake: Intake, operation: Operation) -> ASGIApp:
    """What answers a client at once, or with the promise of a result."""
    if operation.keeps_result:
        return JobSubmission(intake)
    return CompletionEndpoint(intake, operation)


class ModelRoutes:
    """The models a key may use."""

    def __init__(self, intake: Intake) -> None:
        self._intake = intake

    async def list_all(self, request: Request) -> Response:
        """All of them."""
        caller = self._caller(request)
        if isinstance(caller, Refusal):
            return refusal_response(request, caller)
        names = usable_models(self._intake.config.snapshot, caller)
        listed = [model_object(name, self._created_s(name)) for name in names]
        return JSONResponse({"object": "list", "data": listed})

    async def show(self, request: Request) -> Response:
        """One of them."""
        caller = self._caller(request)
        if isinstance(caller, Refusal):
            return refusal_response(request, caller)
        name = request.path_params["name"]
        model = find_model(self._intake.config.snapshot, caller, name)
        if isinstance(model, Refusal):
            return refusal_response(request, model)
        return JSONResponse(model_object(name, self._created_s(name)))

    def _caller(self, request: Request) -> Caller | Refusal:
        return self._intake.caller_now(dict(request.scope["headers"]))

    def _created_s(self, name: str) -> int:
        """When the model's entry was last written."""
        entry = self._intake.config.entry("model", name)
        return 0 if entry is None else entry.written_at_ms // 1000


async def _refuse_route(request: Request, error: Exception) -> Response:
    """404 and 405 of the router."""
    assert isinstance(error, HTTPException)
    method, path = request.method, request.scope["path"]
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        message = f"{method} is not allowed on {path}."
        refusal = Refusal(ErrorCode.METHOD_NOT_ALLOWED, message)
    else:
        refusal = Refusal(ErrorCode.NOT_FOUND, f"There is nothing at {path}.")
    response = refusal_response(request, refusal)
    response.headers.update(error.headers or {})
    return response
