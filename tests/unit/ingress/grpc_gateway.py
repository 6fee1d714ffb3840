"""The gateway of memory, spoken to over gRPC on a loopback port."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, Final

import grpc
import grpc.aio
from google.protobuf.json_format import ParseDict
from google.rpc import error_details_pb2, status_pb2

from ingress.grpc.server import SERVICE, GrpcServer, create_grpc_server
from schemas.frames import Chunk, Started, Terminal, Usage
from schemas.proto.tallygate.inference.v1 import inference_pb2 as pb
from tests.support.configuration import SECRET
from tests.support.gateway import Gateway

CLIENT_ID: Final = "7f2c1c9e-2f5e-4f0e-9a57-0a3d2c1b4e5f"
KEY: Final = (("x-api-key", SECRET),)
COMPLETION: Final = b'{"choices":[{"message":{"role":"assistant","content":"Hello"}}]}'
USAGE: Final = Usage(3, 2, 1_000, False)
END: Final = Terminal(200, body=COMPLETION, backend="b", latency_ms=7, usage=USAGE)
PIECES: Final = (
    Started("b", ()),
    Chunk(b'data: {"choices":[{"delta":{"content":"Hel"}}]}\n\n'),
    Chunk(b'data: {"choices":[{"delta":{"content":"lo"}}]}\n\n'),
    Terminal(200, backend="b", latency_ms=7, usage=USAGE),
)
_RESPONSES: Final[dict[str, Any]] = {
    "Infer": pb.InferResponse,
    "InferStream": pb.InferStreamResponse,
    "SubmitJob": pb.SubmitJobResponse,
    "GetJob": pb.GetJobResponse,
    "CancelJob": pb.CancelJobResponse,
}
_REQUESTS: Final[dict[str, Any]] = {
    "Infer": pb.InferRequest,
    "InferStream": pb.InferStreamRequest,
    "SubmitJob": pb.SubmitJobRequest,
    "GetJob": pb.GetJobRequest,
    "CancelJob": pb.CancelJobRequest,
}


@dataclass
class GrpcClient:
    """Calls methods by name, with fields as they stand in JSON."""

    gateway: Gateway
    channel: grpc.aio.Channel
    server: GrpcServer

    def call(self, method: str, fields: dict[str, Any] | bytes, **more: Any) -> Any:
        """The call, under way."""
        make = self.channel.unary_stream if method == "InferStream" else self.channel.unary_unary
        message = fields
        if not isinstance(message, bytes):
            message = ParseDict(message, _REQUESTS[method]()).SerializeToString()
        of_bytes: Any = make(
            f"/{SERVICE}/{method}", response_deserializer=_RESPONSES[method].FromString
        )
        return of_bytes(message, **{"metadata": KEY, "timeout": 10, **more})

    def infer(self, **more: Any) -> Any:
        """An ordinary request."""
        return self.call("Infer", request(), **more)


def request(**more: Any) -> dict[str, Any]:
    """The fields of an ordinary request."""
    return {"request_id": CLIENT_ID, "model": "echo", "payload": "hi", **more}


def details(error: grpc.aio.AioRpcError) -> dict[str, Any]:
    """The details of a refusal, by the name of their kind."""
    told = dict(error.trailing_metadata())["grpc-status-details-bin"]
    status = status_pb2.Status.FromString(told)
    assert status.code == error.code().value[0]
    found = {}
    for detail in status.details:
        kind = detail.type_url.rpartition(".")[2]
        message = getattr(error_details_pb2, kind)()
        detail.Unpack(message)
        found[kind] = message
    return found


@contextlib.asynccontextmanager
async def grpc_gateway(tracer: Any = None, **settings: Any) -> AsyncIterator[GrpcClient]:
    """A server that is there until the block is left, and a client of it."""
    gateway = Gateway(**settings)
    gateway.log.worker = lambda accepted: PIECES if accepted.stream else (END,)
    server = create_grpc_server(
        gateway.public,
        gateway.metrics,
        "127.0.0.1:0",
        64,
        lambda: gateway.health().is_ready,
        tracer,
    )
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        yield GrpcClient(gateway, channel, server)
    await server.stop(0)
