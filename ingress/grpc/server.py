"""The gRPC server of ingress: the inference service, health and reflection, with bounds on what a client may hold.

Every call gets an id, is measured, and is answered whatever goes wrong, as requests over HTTP are.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final

import grpc
import grpc.aio
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from ingress.grpc.call import Call, Context
from ingress.grpc.call_span import arriving, ended
from ingress.grpc.calls import Answered, InferenceCalls
from ingress.grpc.statuses import metadata_of, status_of
from ingress.http.middleware import CLIENT_GONE, GONE
from ingress.http.refusals import Refusal
from ingress.routes import PublicParts
from schemas.errors import ErrorCode
from schemas.failures import Defect
from schemas.ids import UUID7_RANDOM_BYTES, uuid7
from schemas.log_events import LogEvent
from schemas.operations import INFERENCE, JOBS
from schemas.proto.tallygate.inference.v1 import inference_pb2 as pb
from schemas.runtime.process.clock import random_bytes
from schemas.runtime.process.event_log import EventLog
from schemas.runtime.process.telemetry import Metrics
from schemas.runtime.process.tracing import Tracer

__all__ = ["GrpcServer", "PortTaken", "create_grpc_server"]

_LOG = EventLog(__name__)

SERVICE: Final = pb.DESCRIPTOR.services_by_name["InferenceService"].full_name
_HEALTH: Final = health.SERVICE_NAME
_ASIDE_MAX: Final = 64
"""Calls of health and reflection beside those that the gatekeeper counts."""
_METADATA_BYTES_MAX: Final = 16 * 1024
_STREAMS_PER_CONNECTION: Final = 1_024
_IDLE_MS: Final = 15 * 60_000
_KEEPALIVE_MS: Final = 60_000
_KEEPALIVE_WITHIN_MS: Final = 20_000
_HEALTH_LOOK_S: Final = 1.0

Handler = Callable[[Call, Context], Awaitable[Answered]]


class PortTaken(Defect):
    """Nothing can listen on the port."""


@dataclass(slots=True)
class GrpcServer:
    """The server, and what is told of its health."""

    server: grpc.aio.Server
    health: health.aio.HealthServicer
    is_ready: Callable[[], bool]
    port: int
    _told: bool | None = field(default=None)

    async def start(self) -> None:
        """Serve from now on."""
        await self._tell()
        await self.server.start()

    async def tell_health(self) -> None:
        """Tell for ever whether requests can be served."""
        while True:
            await asyncio.sleep(_HEALTH_LOOK_S)
            await self._tell()

    async def stop(self, patience_s: float) -> None:
        """Take nothing new, let what runs end, and cut off what runs longer."""
        with suppress(asyncio.TimeoutError):
            await self.health.enter_graceful_shutdown()
        await self.server.stop(patience_s)

    async def _tell(self) -> None:
        now = self.is_ready()
        if now is not self._told:
            self._told = now
            told = health_pb2.HealthCheckResponse
            state = told.SERVING if now else told.NOT_SERVING
            for name in ("", SERVICE):
                await self.health.set(name, state)


def create_grpc_server(
    parts: PublicParts,
    metrics: Metrics,
    address: str,
    calls_max: int,
    is_ready: Callable[[], bool],
    tracer: Tracer | None = None,
) -> GrpcServer:
    """The server, whose port is bound. Raises ``PortTaken``. Call it inside the running loop."""
    # What clients do to their connections is not worth a line each, and none of these lines is ours.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    server = grpc.aio.server(
        options=_options(parts.gatekeeper.body_bytes_max),
        maximum_concurrent_rpcs=calls_max + _ASIDE_MAX,
    )
    handlers = _Handlers(parts, metrics, tracer)
    server.add_generic_rpc_handlers((handlers.generic(InferenceCalls(parts)),))
    told = health.aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(told, server)
    reflection.enable_server_reflection((SERVICE, _HEALTH, reflection.SERVICE_NAME), server)
    try:
        bound = server.add_insecure_port(address)
    except RuntimeError as error:
        raise PortTaken(f"{address} cannot be listened on: {error}") from error
    if not bound:
        raise PortTaken(f"{address} cannot be listened on")
    return GrpcServer(server, told, is_ready, bound)


def _options(message_bytes_max: int) -> list[tuple[str, int]]:
    return [
        ("grpc.so_reuseport", 0),  # A second process on the port is an error, not a rival.
        ("grpc.max_receive_message_length", message_bytes_max),
        ("grpc.max_send_message_length", -1),
        ("grpc.max_metadata_size", _METADATA_BYTES_MAX),
        ("grpc.max_concurrent_streams", _STREAMS_PER_CONNECTION),
        ("grpc.max_connection_idle_ms", _IDLE_MS),
        ("grpc.keepalive_time_ms", _KEEPALIVE_MS),
        ("grpc.keepalive_timeout_ms", _KEEPALIVE_WITHIN_MS),
    ]


@dataclass(frozen=True, slots=True)
class _Handlers:
    """Wraps the methods: what the middleware is over HTTP."""

    parts: PublicParts
    metrics: Metrics
    tracer: Tracer | None

    def generic(self, calls: InferenceCalls) -> grpc.GenericRpcHandler:
        """The service, whose messages are bytes here."""
        operation = INFERENCE.name
        unary: dict[str, tuple[str, Handler]] = {
            "Infer": (operation, calls.infer),
            "SubmitJob": (JOBS.name, calls.submit_job),
            "GetJob": (JOBS.name, calls.get_job),
            "CancelJob": (JOBS.name, calls.cancel_job),
        }
        # Read as streams, so that no message is held before its caller is known.
        found: dict[str, Any] = {
            name: grpc.stream_unary_rpc_method_handler(self._unary(name, *method))
            for name, method in unary.items()
        }
        streaming = self._streaming("InferStream", operation, calls.infer_stream)
        found["InferStream"] = grpc.stream_stream_rpc_method_handler(streaming)
        return grpc.method_handlers_generic_handler(SERVICE, found)

    def _unary(self, name: str, operation: str, handler: Handler) -> Any:
        async def answer(_: Any, context: Context) -> bytes:
            return await self._served(name, operation, handler, context)

        return answer

    def _streaming(self, name: str, operation: str, handler: Handler) -> Any:
        async def answer(_: Any, context: Context) -> None:
            await context.write(await self._served(name, operation, handler, context))

        return answer

    async def _served(self, name: str, operation: str, handler: Handler, context: Context) -> bytes:
        """The last message of the answer; a refusal ends the call with its status."""
        keeper = self.parts.gatekeeper
        started_s, status, code = keeper.clock.monotonic_s(), CLIENT_GONE, GONE
        request_id = uuid7(keeper.clock.now_ms(), random_bytes(UUID7_RANDOM_BYTES))
        call, tracer = Call(context, f"/{SERVICE}/{name}", request_id), self.tracer
        span = None if tracer is None else arriving(tracer, call, f"{SERVICE}/{name}", started_s)
        try:
            if (opening := keeper.opening()) is not None:
                await opening
            answered = await self._answered(handler, call, context)
            if isinstance(answered, bytes):
                status, code = 200, ""
                context.set_trailing_metadata(metadata_of(call.trailing, call.request_id))
                return answered
            refusal = answered or Refusal(ErrorCode.REQUEST_CANCELLED, "The client left.")
            if answered is not None:
                status, code = refusal.status, refusal.code
            told = status_of(refusal, call.request_id, call.trailing)
            await context.abort(told.code, told.message, told.metadata)
        finally:
            call.close()
            if span is not None:
                ended(span, status, code)
            self._measure(operation, call, status, code, started_s)

    async def _answered(self, handler: Handler, call: Call, context: Context) -> Answered:
        try:
            return await handler(call, context)
        except Exception as defect:  # noqa: BLE001  # a bug must cost one call its answer, not the process its life
            _LOG.event(LogEvent.REQUEST_DEFECT, request_id=call.request_id, defect=defect)
            return Refusal(ErrorCode.INTERNAL_ERROR, "Something went wrong here.")

    def _measure(
        self, operation: str, call: Call, status: int, code: str, started_s: float
    ) -> None:
        elapsed_s = self.parts.gatekeeper.clock.monotonic_s() - started_s
        self.metrics.count("tallygate_requests_total", operation, str(status), code)
        self.metrics.observe("tallygate_request_duration_seconds", elapsed_s, operation)
        if status >= 500:  # noqa: PLR2004  # HTTP 5xx
            request_id = call.request_id
            _LOG.event(LogEvent.ANSWERED_5XX, request_id=request_id, status=status, route=operation)
