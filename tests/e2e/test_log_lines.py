"""An operator finds a request by its id in the logs of all processes that met something on its way."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.support.harness.gateway_client import GatewayClient, steer
from tests.support.harness.grants import MakeKey
from tests.support.harness.running_stack import RunningStack

_TRACE_ID = "4bf92f3577b34da6a3ce929d0e0e4736"


def _lines(stack: RunningStack) -> list[dict[str, Any]]:
    """What the four processes wrote, line by line; each is JSON, or this fails."""
    return [
        json.loads(line)
        for role in ("ingress", "limiter_worker", "dispatcher", "accounting")
        for path in Path(stack.state_dir, "logs").glob(f"{role}-*.log")
        for line in path.read_text(encoding="utf-8").splitlines()
    ]


async def test_a_failed_request_is_found_by_its_id_in_every_process_that_met_it(
    client: GatewayClient, stack: RunningStack, make_key: MakeKey
) -> None:
    """As a field, with what happened, its organization, and the trace of its client; one that succeeds
    has no line at all."""
    grant = make_key("log-lines")
    body = {"model": "fake-1", "messages": [{"role": "user", "content": steer(mode="500")}]}
    trace = {"traceparent": f"00-{_TRACE_ID}-00f067aa0ba902b7-01"}
    failed = await client.post("/chat/completions", grant.key, body, trace)
    good = await client.chat(grant.key, "hello")
    lines = _lines(stack)
    told = [line for line in lines if line.get("request_id") == failed.request_id]

    assert (failed.status, good.status) == (502, 200)
    assert {(line["service.name"], line["event"]) for line in told} == {
        ("dispatcher", "attempt_failed"),
        ("ingress", "answered_5xx"),
    }
    attempt = next(line for line in told if line["event"] == "attempt_failed")
    assert (attempt["org"], attempt["attempt"], attempt["code"]) == (
        grant.org,
        1,
        "upstream_error",
    )
    assert next(line for line in told if line["event"] == "answered_5xx")["trace_id"] == _TRACE_ID
    assert not any(good.request_id in json.dumps(line) for line in lines)
