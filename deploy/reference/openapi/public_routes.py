"""The public routes: operations from their table, the others from the paths that stand beside it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from deploy.reference.openapi.common_errors import CALLER, FRONT_DOOR
from deploy.reference.openapi.contract import (
    JSON,
    Answer,
    Named,
    RouteContract,
    header,
    in_path,
    query,
)
from deploy.reference.openapi.file_routes import batch_routes, file_routes
from deploy.reference.openapi.own_routes import own_routes
from ingress.admin.http.status_pages import AdminHealth
from ingress.apis.anthropic.contract import InputTokens, ModelInfo, ModelPage
from ingress.apis.anthropic.models import LIMIT_DEFAULT, LIMIT_MAX
from ingress.apis.native.contract import InferenceRequest, InferenceResponse, JobBody
from ingress.apis.native.limits import LimitList
from ingress.apis.openai.responses.resume import NUMBER_MAX
from ingress.endpoints.models import ModelList, ModelObject
from ingress.endpoints.status import StartDocument
from ingress.health.document import HealthDocument
from ingress.http import paths
from ingress.requests.job_document import Job, JobList
from schemas.api_pages import API_PAGE, API_PATHS, LLMS, LLMS_FULL, OPENAPI
from schemas.errors import ErrorCode
from schemas.operations import JOBS, OPERATIONS, RESPONSES, Operation
from schemas.readiness import STATUS_PATHS

ON_BOTH_PORTS: Final = STATUS_PATHS | API_PATHS
"""Paths that the admin port has too."""
_STREAM: Final = "text/event-stream"
_NEVER_OF_OPERATIONS: Final = frozenset(
    {
        ErrorCode.NOT_FOUND,
        ErrorCode.METHOD_NOT_ALLOWED,
        ErrorCode.CERTIFICATE_UNKNOWN,
        ErrorCode.ROLE_NOT_ALLOWED,
        ErrorCode.VERSION_CONFLICT,
        ErrorCode.REFERENCE_CONFLICT,
    }
)
_OPERATION: Final = frozenset(ErrorCode) - _NEVER_OF_OPERATIONS
_HEADERS: Final = (
    header(
        "Idempotency-Key",
        "Runs once: the same key and body joins the first request, or gets its answer again. 1 to 255 visible ASCII characters.",
    ),
    header("Prefer", "`respond-async`, `wait=<seconds>`: after that long the answer is 202 and a job."),
    header("X-Request-Timeout", "Seconds until the request ends, at most 600."),
    header(
        "X-Tallygate-Webhook-Url",
        "Where the end of what runs as a job is told; it begins with an address that the organization allows.",
    ),
    header("Last-Event-ID", "The id of the last event that came of a stream: it goes on after it, from any ingress, and is not billed again. Post the same body."),
    header("x-tallygate-resumable", "`1`: the stream is kept as with an Idempotency-Key, and runs on when its connection breaks."),
    header("traceparent", "W3C trace context; goes on through the log."),
)  # fmt: skip
_OPEN: Final[dict[str, Any]] = {"type": "object", "additionalProperties": True}
_MESSAGES: Final = {"type": "array", "items": {"type": "object"}, "minItems": 1}
_STREAM_FLAG: Final = {"type": ["boolean", "null"]}


def _open_request(name: str, *required: str, **properties: Any) -> Named:
    """A body of OpenAI's or Anthropic's, of which only what is judged here is told."""
    fields = {"model": {"type": "string", "minLength": 1}, **properties}
    return Named(name, {**_OPEN, "required": ["model", *required], "properties": fields})


_BODIES: Final = {
    "chat.completions": _open_request(
        "ChatCompletionRequest",
        "messages",
        messages=_MESSAGES,
        stream=_STREAM_FLAG,
    ),
    "completions": _open_request(
        "CompletionRequest",
        "prompt",
        prompt={"anyOf": [{"type": "string"}, {"type": "array", "items": {}, "minItems": 1}]},
        stream=_STREAM_FLAG,
    ),
    "embeddings": _open_request(
        "EmbeddingsRequest",
        "input",
        input={"anyOf": [{"type": "string"}, {"type": "array", "items": {}}]},
    ),
    "responses": _open_request(
        "ResponseRequest",
        "input",
        input={
            "anyOf": [
                {"type": "string"},
                {"type": "array", "items": {"type": "object"}, "minItems": 1},
            ]
        },
        stream=_STREAM_FLAG,
    ),
    "messages": _open_request(
        "MessageRequest",
        "max_tokens",
        "messages",
        max_tokens={"type": "integer", "minimum": 1},
        messages=_MESSAGES,
        stream=_STREAM_FLAG,
    ),
    "inference": InferenceRequest,
    "jobs": JobBody,
}
_MESSAGE: Final[dict[str, Any]] = {
    **_OPEN,
    "required": ["type", "content"],
    "properties": {
        "type": {"enum": ["message"]},
        "content": {"type": "array", "items": {"type": "object"}},
    },
}
_RESULTS: Final = {
    "chat.completions": Named("ChatCompletion", _OPEN),
    "completions": Named("Completion", _OPEN),
    "embeddings": Named("Embeddings", _OPEN),
    "responses": Named("Response", _OPEN),
    "messages": Named("Message", _MESSAGE),
    "inference": InferenceResponse,
}
"""What an operation answers that does not keep its result; bodies of OpenAI's and Anthropic's are theirs, and stay open."""


def public_routes() -> Iterator[RouteContract]:
    """All of them."""
    for row in OPERATIONS.values():
        yield _operation(row)
    yield from _jobs()
    yield from _responses()
    yield from _models()
    yield _count_tokens()
    yield from _limits()
    yield from own_routes()
    yield from file_routes()
    yield from batch_routes()
    yield from _status()


def _operation(row: Operation) -> RouteContract:
    answers = {202: Answer("A job; `location` says where.", Job, headers=("location",))}
    if not row.keeps_result:
        media = (JSON, _STREAM) if row.streams else (JSON,)
        answers[200] = Answer("The answer.", _RESULTS[row.name], media)
    return RouteContract(
        name=row.name,
        surface=row.surface,
        method="POST",
        path=row.path,
        summary=f"The operation `{row.name}`.",
        answers=answers,
        errors=_OPERATION,
        parameters=_HEADERS,
        body=_BODIES[row.name],
        relays_refusals=True,
    )


def _jobs() -> Iterator[RouteContract]:
    one, many = paths.job_path("{job_id}"), JOBS.path
    job_id = in_path("job_id", "The id of a job.")
    known = CALLER | {ErrorCode.NOT_FOUND}
    shown = {200: Answer("The job.", Job)}
    limit = query("limit", "How many.", type="integer", minimum=1, maximum=100, default=20)
    after = query("after", "The id of a job: those before it.")
    listed = {200: Answer("A page.", JobList)}
    yield RouteContract(
        "jobs.list", "native", "GET", many, "List jobs, newest first.", listed, CALLER, (limit, after)
    )  # fmt: skip
    yield RouteContract(
        "jobs.show",
        "native",
        "GET",
        one,
        "One job, with its result or error once it has ended.",
        shown,
        known,
        (job_id,),
    )
    cancel = "Cancel a job; the answer is what it is now."
    yield RouteContract("jobs.cancel", "native", "DELETE", one, cancel, shown, known, (job_id,))


def _responses() -> Iterator[RouteContract]:
    """Those that are kept."""
    response_id = in_path("response_id", "The id of a response.")
    stream = query(
        "stream",
        "Its events instead, of one that was created with background and stream.",
        type="boolean",
        default=False,
    )
    after = query(
        "starting_after",
        "The number of the last event that the client has; with stream.",
        type="integer",
        minimum=0,
        maximum=NUMBER_MAX,
    )
    last = header(
        "Last-Event-ID",
        "The id of the last event that the client has; it goes before starting_after.",
    )
    told_again = {
        200: Answer("The response, or its events.", _RESULTS[RESPONSES.name], (JSON, _STREAM))
    }
    shown = {200: Answer("The response.", _RESULTS[RESPONSES.name])}
    one = paths.response_path("{response_id}")
    told = "One response that is stored, or runs in the background."
    known = CALLER | {ErrorCode.NOT_FOUND, ErrorCode.INVALID_REQUEST}
    of_streams = {ErrorCode.RESULT_EXPIRED, ErrorCode.RATE_LIMIT_EXCEEDED}
    yield RouteContract(
        "responses.show",
        "openai",
        "GET",
        one,
        told,
        told_again,
        known | of_streams,
        (response_id, stream, after, last),
    )
    yield RouteContract(
        "responses.cancel",
        "openai",
        "POST",
        paths.cancel_path("{response_id}"),
        "Cancel a response; the answer is what it is a moment later.",
        shown,
        known,
        (response_id,),
    )


def _models() -> Iterator[RouteContract]:
    name = in_path("name", "The name of a model; it may contain slashes.")
    version = header(
        "anthropic-version", "Whatever it says: the answer is in Anthropic's terms, errors too."
    )
    yield RouteContract(
        name="models.list",
        surface="openai",
        method="GET",
        path=paths.MODELS,
        summary="The models that the key may use; in Anthropic's terms page by page.",
        answers={200: Answer("The models.", (ModelList, ModelPage))},
        errors=CALLER | {ErrorCode.INVALID_REQUEST},
        parameters=(
            version,
            query("limit", "How many; in Anthropic's terms only.", type="integer", minimum=1, maximum=LIMIT_MAX, default=LIMIT_DEFAULT),
            query("after_id", "Those behind this one; in Anthropic's terms only.", type="string"),
            query("before_id", "Those before this one, instead.", type="string"),
        ),
        also_spoken=("anthropic",),
    )  # fmt: skip
    yield RouteContract(
        name="models.show",
        surface="openai",
        method="GET",
        path=f"{paths.MODELS}/{{name}}",
        summary="One model.",
        answers={200: Answer("The model.", (ModelObject, ModelInfo))},
        errors=CALLER | {ErrorCode.MODEL_NOT_FOUND},
        parameters=(name, version),
        also_spoken=("anthropic",),
    )


def _count_tokens() -> RouteContract:
    body = _open_request(
        "CountTokensRequest",
        "messages",
        messages=_MESSAGES,
    )
    reading = {
        ErrorCode.INVALID_JSON,
        ErrorCode.UNSUPPORTED_MEDIA_TYPE,
        ErrorCode.BODY_TOO_LARGE,
        ErrorCode.BODY_TOO_SLOW,
        ErrorCode.MODEL_NOT_FOUND,
        ErrorCode.RATE_LIMIT_EXCEEDED,
    }
    return RouteContract(
        name="messages.count_tokens",
        surface="anthropic",
        method="POST",
        path=paths.COUNT_TOKENS,
        summary="An estimate of a message request's input, at no charge.",
        answers={200: Answer("The tokens.", InputTokens)},
        errors=CALLER | reading,
        body=body,
    )


def _limits() -> Iterator[RouteContract]:
    shown = {200: Answer("The limits of its organization, project, key and user.", LimitList)}
    summary = "What the caller may still use of each limit."
    yield RouteContract("limits.show", "native", "GET", paths.LIMITS, summary, shown, CALLER)


def _status() -> Iterator[RouteContract]:
    works = Answer("What works, and what is missing.", (HealthDocument, AdminHealth))
    started = Answer("What it has of all that it needs.", (StartDocument, AdminHealth))
    told: dict[str, tuple[str, str, dict[int, Answer]]] = {
        paths.HEALTHZ: ("status.health", "What works and what is missing; always 200.", {200: works}),
        paths.READYZ: (
            "status.ready",
            "The same; 503 when no request could be served.",
            {200: works, 503: works},
        ),
        paths.STARTUPZ: (
            "status.started",
            "Whether it has started.",
            {200: started, 503: started},
        ),
        paths.METRICS: (
            "metrics",
            "Metrics in Prometheus' text form.",
            {200: Answer("The exposition.", None, ("text/plain",))},
        ),
        OPENAPI: (
            "api.document",
            "This document.",
            {200: Answer("OpenAPI 3.1.", Named("ApiDocument", _OPEN)), 304: Answer("As before.", None, ())},
        ),
        API_PAGE: (
            "api.page",
            "This document as a page for people.",
            {200: Answer("The page.", None, ("text/html",)), 304: Answer("As before.", None, ())},
        ),
        LLMS: (
            "api.llms",
            "What there is to read, for language models.",
            {200: Answer("Markdown.", None, ("text/markdown",)), 304: Answer("As before.", None, ())},
        ),
        LLMS_FULL: (
            "api.llms_full",
            "All pages for clients as one.",
            {200: Answer("Markdown.", None, ("text/markdown",)), 304: Answer("As before.", None, ())},
        ),
    }  # fmt: skip
    for path, (name, summary, answers) in told.items():
        surface = paths.surface_of(path)
        yield RouteContract(name, surface, "GET", path, summary, answers, FRONT_DOOR, is_open=True)
