"""A signed key's calls are proved by the bytes of their message, whichever method they call."""

from __future__ import annotations

from typing import Any, Final

import grpc
import msgspec
import pytest
from pydantic import SecretStr

from ingress.grpc.server import SERVICE
from schemas.ids import signing_secret
from schemas.peppers import pepper_name
from schemas.proto.tallygate.inference.v1 import inference_pb2 as pb
from tests.support.configuration import NOW_MS
from tests.support.signing import signed
from tests.unit.ingress.grpc_gateway import CLIENT_ID, KEY, GrpcClient, grpc_gateway

_PEPPER: Final = "a pepper to derive signing secrets"
_SIGNING: Final = signing_secret(_PEPPER.encode(), "key_a", 1)
_SETTINGS: Final = {"signing_pepper": SecretStr(_PEPPER)}
_JOB: Final = pb.GetJobRequest(job_id=CLIENT_ID).SerializeToString()
_OTHER_JOB: Final = pb.GetJobRequest(job_id=CLIENT_ID[::-1]).SerializeToString()


def _sign_all(client: GrpcClient) -> None:
    """The first key is a signed one from now on."""
    snapshot = client.gateway.config.snapshot
    key = msgspec.structs.replace(snapshot.keys["key_a"], signing=pepper_name(_PEPPER.encode()))
    object.__setattr__(snapshot, "keys", {**snapshot.keys, "key_a": key})


def _metadata(method: str, message: bytes) -> tuple[tuple[str, str], ...]:
    headers = signed(_SIGNING, "POST", f"/{SERVICE}/{method}", message, NOW_MS // 1_000)
    return (*KEY, *((name.lower(), value) for name, value in headers.items()))


async def _code(call: Any) -> grpc.StatusCode | None:
    try:
        await call
    except grpc.aio.AioRpcError as error:
        return error.code()
    return None


async def test_a_signed_call_is_served() -> None:
    """With the path of its method in the place of that of a request."""
    message = pb.InferRequest(request_id=CLIENT_ID, model="echo")
    message.payload.string_value = "hi"
    raw = message.SerializeToString()
    async with grpc_gateway(**_SETTINGS) as client:
        _sign_all(client)
        metadata = _metadata("Infer", raw)
        first = await _code(client.call("Infer", raw, metadata=metadata))
        again = await _code(client.call("Infer", raw, metadata=metadata))

    assert (first, again) == (None, grpc.StatusCode.UNAUTHENTICATED)


@pytest.mark.parametrize("method", ["Infer", "SubmitJob", "GetJob", "CancelJob"])
@pytest.mark.parametrize("changed", ["message", "method", "signature"])
async def test_what_was_not_signed_is_refused(method: str, changed: str) -> None:
    """A message that is another one; the right one for another method; no signature at all."""
    signed_as = "GetJob" if changed == "method" and method != "GetJob" else method
    signed_as = "CancelJob" if changed == "method" and method == "GetJob" else signed_as
    metadata = KEY if changed == "signature" else _metadata(signed_as, _JOB)
    message = _OTHER_JOB if changed == "message" else _JOB
    async with grpc_gateway(**_SETTINGS) as client:
        _sign_all(client)
        code = await _code(client.call(method, message, metadata=metadata))

    assert code is grpc.StatusCode.UNAUTHENTICATED


async def test_a_job_is_told_to_who_signed_for_it() -> None:
    """There is none of this id, which is not told to others."""
    async with grpc_gateway(**_SETTINGS) as client:
        _sign_all(client)
        code = await _code(client.call("GetJob", _JOB, metadata=_metadata("GetJob", _JOB)))

    assert code is grpc.StatusCode.NOT_FOUND
