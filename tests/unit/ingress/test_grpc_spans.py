"""A call over gRPC is traced as a request over HTTP is."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from ingress.grpc.call_span import arriving, ended
from ingress.http.middleware import CLIENT_GONE, GONE
from tests.unit.ingress.grpc_gateway import KEY, grpc_gateway
from tests.unit.runtime.test_tracing import REQUEST_ID, tracer_of

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
METHOD = "tallygate.inference.v1.InferenceService/Infer"


def call_of(traceparent: bytes = b"") -> Any:
    return SimpleNamespace(request_id=REQUEST_ID, headers={b"traceparent": traceparent})


async def test_a_call_is_one_span_below_that_of_its_client() -> None:
    """From its metadata to its status; the same server without a tracer answers the same."""
    tracer = tracer_of("parentbased_always_off")
    async with grpc_gateway(tracer) as client:
        context = ("traceparent", f"00-{TRACE}-{SPAN}-01")
        await client.infer(metadata=(*KEY, context))
        await client.infer()

    (span,) = tracer.ended
    assert (span.name, span.error) == (METHOD, None)
    assert (span.trace_id.hex(), span.parent_id.hex()) == (TRACE, SPAN)
    assert span.attributes["rpc.method"] == METHOD


@pytest.mark.parametrize(
    ("status", "code", "error"),
    [
        (200, "", None),
        (402, "BUDGET_EXCEEDED", None),
        (503, "no_backend_available", "no_backend_available"),
    ],
)
def test_what_a_client_did_wrong_is_no_error_of_the_server(
    status: int, code: str, error: str | None
) -> None:
    """As over HTTP; the code of a refusal is told."""
    tracer = tracer_of()
    span = arriving(tracer, call_of(), METHOD, 0.0)
    assert span is not None
    ended(span, status, code)

    assert span.error == error
    assert span.attributes.get("tallygate.error_code", "") == code


def test_a_client_that_left_is_marked() -> None:
    """No status was told to anybody."""
    span = arriving(tracer_of(), call_of(), METHOD, 0.0)
    assert span is not None
    ended(span, CLIENT_GONE, GONE)

    assert span.attributes["tallygate.client_gone"] is True


@pytest.mark.parametrize("said", [b"", b"odd", f"00-{TRACE}-{SPAN}-00".encode()])
def test_a_call_that_does_not_ask_is_not_traced_where_clients_decide(said: bytes) -> None:
    """Whatever its metadata hold."""
    assert arriving(tracer_of("parentbased_always_off"), call_of(said), METHOD, 0.0) is None
