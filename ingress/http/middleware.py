"""The ASGI edge: every request gets an id, is measured, and is answered whatever goes wrong.

An endpoint leaves in the request's ``state``: ``code``, the error code of the answer or of the end of its stream, ``""`` for
a success; ``caller`` once that is known, ``rates`` where a worker told them, and
``is_replayed`` where it did so in an earlier answer; and of a request that was begun ``model``, ``traceparent``, ``accepted_at_ms`` and, once the workers have
ended it, ``latency_ms``. Nothing in it is what a client typed: a model that is not configured is refused before.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Iterable, Mapping
from http import HTTPStatus
from typing import Any, Final, Protocol

from starlette.applications import Starlette
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ingress.http.anthropic_headers import anthropic_headers
from ingress.http.paths import OF_MODELS, PLACES, Place, place_of_request
from ingress.http.refusals import Headers, Refusal
from ingress.http.request import traceparent_of
from ingress.http.request_span import answered, arriving
from ingress.http.responses import refuse
from schemas.errors import ErrorCode
from schemas.gen_ai import OPERATION_NAMES, SERVER
from schemas.ids import UUID7_RANDOM_BYTES, uuid7
from schemas.log_events import LogEvent
from schemas.runtime.process.clock import Clock, random_bytes
from schemas.runtime.process.event_log import EventLog, traced
from schemas.runtime.process.telemetry import Metrics
from schemas.runtime.process.tracing import Span, Tracer

_LOG = EventLog(__name__)

_ALWAYS_ANSWERED: Final = frozenset({"status", "metrics", "docs"})
CLIENT_GONE: Final = 499
"""In metrics only: the client left before it was answered."""
GONE: Final = "client_gone"
"""The code of that, and of a stream whose client left."""
_MS_PER_S: Final = 1_000
_OPENAI_VERSION: Final = (b"openai-version", b"2020-10-01")
"""The only one that OpenAI's API has had; beside it the milliseconds from the head of a request to that of its answer."""
_CALLERS_MAX: Final = 4_096
"""Of whose rates is remembered what was told; the one that was told of first is forgotten first."""


class Doors(Protocol):
    """Whether this process takes requests."""

    is_leaving: bool
    """It was told to end: answers tell their clients to connect elsewhere."""

    def opening(self) -> Awaitable[None] | None:
        """What to wait for in a process that has just begun."""


class RatesTold(Protocol):
    """What is left of callers' rates, as far as this process heard of it."""

    heard: dict[tuple[str, str], tuple[float, Any]]
    """By organization and key: when a worker told what (monotonic), the newest only."""

    def headers(self, caller: Any, said: Headers) -> Headers:
        """What an answer tells of it beside what it says already."""


class Shortcut:
    """Hands what is posted to a known path straight to its application, and all else to the framework.

    The framework would call the same application with the same request, after a walk through its layers and routes that
    is an eighth of what ingress spends on one.
    """

    def __init__(self, posts: Mapping[str, ASGIApp], others: Starlette) -> None:
        self._posts = posts
        self.others = others

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        is_post = scope["type"] == "http" and scope["method"] == "POST"
        app = self._posts.get(scope["path"]) if is_post else None
        await (app or self.others)(scope, receive, send)


class RequestMiddleware:
    """Outermost middleware of the public application."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        metrics: Metrics,
        clock: Clock,
        doors: Doors,
        tracer: Tracer | None = None,
        rates: RatesTold | None = None,
    ) -> None:
        self._app = app
        self._rates = rates
        self._tracer = tracer
        self._doors = doors
        self._metrics = metrics
        self._clock = clock

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started_s, started_at_ms = self._clock.monotonic_s(), self._clock.now_ms()
        place = PLACES.get(scope["path"], OF_MODELS)
        if place is OF_MODELS:
            place = place_of_request(scope)
        state = scope.setdefault("state", {})
        # Routes replace it where the answer is that of an earlier request.
        state["request_id"] = uuid7(started_at_ms, random_bytes(UUID7_RANDOM_BYTES))
        state["code"] = ""
        status, is_status = CLIENT_GONE, place.operation in _ALWAYS_ANSWERED
        tracer = self._tracer
        span = None if tracer is None or is_status else arriving(tracer, scope, started_s)

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                said = message.get("headers", ())
                message["headers"] = self._headers(said, state, place, started_s)
            await send(message)

        try:
            if not is_status and (opening := self._doors.opening()) is not None:
                await opening
            await self._app(scope, receive, send_with_id)
        except asyncio.CancelledError:
            if status != CLIENT_GONE or not self._doors.is_leaving:
                raise
            # The process gave it up before its answer began; the task ends with that answer.
            refusal = Refusal(ErrorCode.SERVICE_UNAVAILABLE, "This ingress is being stopped.")
            await refuse(send_with_id, refusal, place.surface, state, [])
        except Exception as defect:
            # A bug must cost one request its answer, not the process its life.
            _LOG.event(LogEvent.REQUEST_DEFECT, **traced(_headers_to_tell(scope)), defect=defect)
            state["code"] = ErrorCode.INTERNAL_ERROR
            if status != CLIENT_GONE:
                raise  # The answer has begun; the server can only break the connection off.
            refusal = Refusal(ErrorCode.INTERNAL_ERROR, "Something went wrong here.")
            await refuse(send_with_id, refusal, place.surface, state, [])
        finally:
            elapsed_s = self._clock.monotonic_s() - started_s
            _measure(self._metrics, scope, place.operation, status, started_at_ms, elapsed_s, span)

    def _headers(
        self,
        said: Iterable[tuple[bytes, bytes]],
        state: Mapping[str, Any],
        place: Place,
        started_s: float,
    ) -> Headers:
        """The headers of an answer: who it is of, and what is left of its caller's rates."""
        headers = [*said, (b"x-request-id", state["request_id"].encode())]
        caller, rates = state.get("caller"), self._rates
        if caller is not None and rates is not None:
            told = state.get("rates")
            if told and "is_replayed" not in state:
                heard = rates.heard
                heard[caller.org, caller.alias or caller.key_id] = self._clock.monotonic_s(), told
                if len(heard) > _CALLERS_MAX:
                    del heard[next(iter(heard))]
            else:
                headers += rates.headers(caller, headers)
        if place.surface == "openai":
            taken_ms = (self._clock.monotonic_s() - started_s) * _MS_PER_S
            headers += ((b"openai-processing-ms", b"%d" % taken_ms), _OPENAI_VERSION)
        if place.surface == "anthropic" or self._doors.is_leaving:
            headers += self._more(headers, state, place)
        return headers

    def _more(self, headers: Headers, state: Mapping[str, str], place: Place) -> Headers:
        """What only some answers carry beside their own headers."""
        more: Headers = []
        if place.surface == "anthropic":
            more += anthropic_headers(headers, state["request_id"], self._clock.now_ms())
        if self._doors.is_leaving:
            more.append((b"connection", b"close"))
        return more


def _measure(
    metrics: Metrics,
    scope: Scope,
    operation: str,
    status: int,
    started_at_ms: int,
    elapsed_s: float,
    span: Span | None,
) -> None:
    """Count the answer; ``started_at_ms`` is when its head was there."""
    state = scope["state"]
    if span is not None:
        # Exemplars name the trace that is recorded, also where its client sent none.
        state["traceparent"] = span.traceparent
        answered(span, None if status == CLIENT_GONE else status)
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR and operation != "status":
        whose = _headers_to_tell(scope)
        _LOG.event(LogEvent.ANSWERED_5XX, **traced(whose), status=status, route=operation)
    code = GONE if status == CLIENT_GONE else state["code"]
    metrics.count("tallygate_requests_total", operation, str(status), code)
    model = state.get("model")
    if model is None:
        metrics.observe("tallygate_request_duration_seconds", elapsed_s, operation)
        return
    request_id, trace = state["request_id"], state["traceparent"]
    metrics.observe(
        "tallygate_request_duration_seconds",
        elapsed_s,
        operation,
        request_id=request_id,
        traceparent=trace,
    )
    metrics.observe(
        "gen_ai_server_request_duration_seconds",
        elapsed_s,
        OPERATION_NAMES[operation],
        SERVER,
        model,
        code,
        request_id=request_id,
        traceparent=trace,
    )
    if not code and "latency_ms" in state:
        ingress_s = (state["accepted_at_ms"] - started_at_ms) / _MS_PER_S
        reply_s = elapsed_s - ingress_s - state["latency_ms"] / _MS_PER_S
        metrics.observe("tallygate_stage_duration_seconds", max(0.0, ingress_s), "ingress")
        metrics.observe("tallygate_stage_duration_seconds", max(0.0, reply_s), "reply")


def _headers_to_tell(scope: Scope) -> dict[str, bytes]:
    """What names the request in the log: its id, and the trace that its client sent."""
    traceparent = traceparent_of(dict(scope["headers"])) or b""
    return {"request_id": scope["state"]["request_id"].encode(), "traceparent": traceparent}
