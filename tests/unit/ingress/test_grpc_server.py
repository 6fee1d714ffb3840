"""The gRPC server says what it has and whether it can serve, keeps its port to itself, and leaves in order."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import grpc
import grpc.aio
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from ingress.grpc.server import SERVICE, PortTaken, create_grpc_server
from schemas.frames import Terminal
from tests.support.gateway import Gateway
from tests.unit.ingress.grpc_gateway import COMPLETION, grpc_gateway


async def test_reflection_names_all_services() -> None:
    """To anybody, with the file that describes them."""
    async with grpc_gateway() as client:
        stub: Any = reflection_pb2_grpc.ServerReflectionStub(client.channel)  # type: ignore[arg-type]
        asked: Any = reflection_pb2.ServerReflectionRequest
        call = stub.ServerReflectionInfo()
        await call.write(asked(list_services=""))
        listed = await call.read()
        await call.write(asked(file_containing_symbol=SERVICE))
        file = await call.read()
        call.cancel()

    names = {service.name for service in listed.list_services_response.service}
    assert names == {
        SERVICE,
        "grpc.health.v1.Health",
        "grpc.reflection.v1alpha.ServerReflection",
    }
    assert file.file_descriptor_response.file_descriptor_proto


@pytest.mark.parametrize("service", ["", SERVICE])
async def test_health_is_readiness(service: str) -> None:
    """As it was at the last look."""
    gateway = Gateway()
    server = create_grpc_server(
        gateway.public, gateway.metrics, "127.0.0.1:0", 8, lambda: gateway.health().is_ready
    )
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        ready = await stub.Check(health_pb2.HealthCheckRequest(service=service))
        gateway.components["kafka"] = "away"
        looking = asyncio.create_task(server.tell_health())
        await asyncio.sleep(1.2)
        away = await stub.Check(health_pb2.HealthCheckRequest(service=service))
        looking.cancel()
    await server.stop(0)

    told = health_pb2.HealthCheckResponse
    assert (ready.status, away.status) == (told.SERVING, told.NOT_SERVING)


async def test_a_port_that_is_taken_is_a_defect() -> None:
    """Also by another server of this kind: two on one port would share its callers."""
    gateway = Gateway()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(PortTaken, match=address):
            create_grpc_server(gateway.public, gateway.metrics, address, 8, lambda: True)


async def test_a_call_that_runs_ends_when_the_server_leaves() -> None:
    """With its answer; nothing new is taken meanwhile."""
    async with grpc_gateway() as client:
        gateway = client.gateway
        gateway.log.worker = lambda _: ()
        gateway.log.arrived.clear()
        running = asyncio.ensure_future(client.infer())
        await asyncio.wait_for(gateway.log.arrived.wait(), 5)
        stopping = asyncio.create_task(client.server.stop(5))
        await asyncio.sleep(0.1)
        gateway.log.worker = lambda _: (Terminal(200, body=COMPLETION, backend="b"),)
        gateway.log.work(gateway.log.accepted[0])
        answer = await asyncio.wait_for(running, 5)
        await stopping

    assert answer.output == "Hello"
