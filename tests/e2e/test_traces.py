"""A traced request is one trace over all processes, as a receiver of other people's messages has it."""

from __future__ import annotations

import asyncio
import json
import secrets
import subprocess
import time
from collections import Counter
from typing import Any

import pytest

from tests.support.harness.gateway_client import MODEL, GatewayClient, Reply, steer
from tests.support.harness.grants import MakeKey
from tests.support.harness.running_stack import TALLYGATE, RunningStack
from tests.support.otlp_receiver import Receiver, Seen

pytestmark = pytest.mark.timeout(90, func_only=True)

CLIENTS_SPAN = "00f067aa0ba902b7"
PROMPT = "a prompt that is nobody else's business"
ROLES = {"ingress", "limiter_worker", "dispatcher", "accounting"}
LIMITED, DISPATCHED, BOOKED = (
    f"process inference.{topic}.v1" for topic in ("requests", "dispatch", "outcomes")
)
"""The last span of each worker that has a part in a request."""


class Traced:
    """Posts requests each of which asks for a trace of its own."""

    def __init__(self, client: GatewayClient, receiver: Receiver) -> None:
        self._client = client
        self._receiver = receiver

    async def post(self, key: str, path: str, body: object, flags: str = "01") -> tuple[Reply, str]:
        """The answer, and the id of the trace."""
        trace_id = secrets.token_hex(16)
        context = {"traceparent": f"00-{trace_id}-{CLIENTS_SPAN}-{flags}"}
        return await self._client.post(path, key, body, context), trace_id

    async def chat(self, key: str, content: str, **more: Any) -> tuple[Reply, str]:
        """The same with a chat completion."""
        body = {"model": MODEL, "messages": [{"role": "user", "content": content}], **more}
        return await self.post(key, "/chat/completions", body)

    def spans(self, trace_id: str, *last: str) -> list[Seen]:
        """The spans of a trace, once its request is answered and these are there: processes export on their own."""
        wanted = set(last or (LIMITED, DISPATCHED, BOOKED))

        def is_whole(seen: list[Seen]) -> bool:
            return wanted <= set(named(seen)) and any(span.kind == "server" for span in seen)

        return self._receiver.wait_for(trace_id, is_whole)


@pytest.fixture
def traced(client: GatewayClient, traces: Receiver) -> Traced:
    return Traced(client, traces)


def tallygate(stack: RunningStack, *arguments: str) -> str:
    """What a command says of the stack."""
    command = [str(TALLYGATE), *arguments, "--url", stack.admin_url]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    return ran.stdout


def named(spans: list[Seen]) -> Counter[str]:
    return Counter(span.name for span in spans)


def parents(spans: list[Seen]) -> dict[str, str]:
    """Name to the name of the span above it; what is above the first is the client's."""
    known = {span.span_id: span.name for span in spans} | {CLIENTS_SPAN: "client"}
    return {span.name: known[span.parent_id] for span in spans}


async def test_a_trace_covers_every_hop_and_each_is_below_the_one_before(
    traced: Traced, traces: Receiver, make_key: MakeKey
) -> None:
    """HTTP, Kafka, Kafka, backend, store, reply, books: one span each, over four processes."""
    grant = make_key("traced")
    reply, trace_id = await traced.chat(grant.key, PROMPT)
    spans = traced.spans(trace_id)

    assert reply.status == 200
    assert parents(spans) == {
        "POST /v1/chat/completions": "client",
        "send inference.requests.v1": "POST /v1/chat/completions",
        "process inference.requests.v1": "send inference.requests.v1",
        "FCALL tg1_admit": "process inference.requests.v1",
        "send inference.dispatch.v1": "process inference.requests.v1",
        "process inference.dispatch.v1": "send inference.dispatch.v1",
        "FCALL tg1_start": "process inference.dispatch.v1",
        "chat fake-1": "process inference.dispatch.v1",
        "FCALL tg1_finish": "process inference.dispatch.v1",
        "send reply": "process inference.dispatch.v1",
        "send inference.outcomes.v1": "process inference.dispatch.v1",
        "process inference.outcomes.v1": "send inference.outcomes.v1",
        "send usage.records.v1": "process inference.outcomes.v1",
    }
    assert set(named(spans).values()) == {1}
    assert {span.process for span in spans} == ROLES
    assert {span.attributes["tallygate.request_id"] for span in spans} == {reply.request_id}
    assert not any(span.is_error for span in spans)
    assert all(span.ended_ns >= span.started_ns for span in spans)
    kinds = {span.name.split()[0]: span.kind for span in spans}
    assert kinds == {
        "POST": "server",
        "send": "producer",
        "process": "consumer",
        "FCALL": "client",
        "chat": "client",
    }
    assert not any(PROMPT.encode() in body for body in traces.bodies)
    assert not any("gen_ai.input.messages" in span.attributes for span in traces.spans)


async def test_each_attempt_of_a_failover_is_a_span(traced: Traced, make_key: MakeKey) -> None:
    """The first is an error, the second says what was used; the request is none."""
    grant = make_key("traced-failover")
    trace_id, spans = "", []
    for _ in range(20):  # Until the backend that fails is asked first.
        reply, trace_id = await traced.chat(grant.key, steer(mode="500", only="fake-a"))
        spans = traced.spans(trace_id)
        if named(spans)["chat fake-1"] > 1:
            break
    first, second = (span for span in spans if span.name == "chat fake-1")

    assert reply.status == 200
    assert (first.attributes["tallygate.attempt"], second.attributes["tallygate.attempt"]) == (1, 2)
    assert (first.is_error, second.is_error) == (True, False)
    assert first.attributes["http.response.status_code"] == 500
    assert first.attributes["tallygate.backend"] == "fake-a"
    assert second.attributes["gen_ai.usage.output_tokens"] == reply.usage["completion_tokens"]  # type: ignore[index]
    assert first.parent_id == second.parent_id
    assert named(spans)["send usage.records.v1"] == 2


async def test_a_stream_is_traced_to_its_last_byte(traced: Traced, make_key: MakeKey) -> None:
    """The request's span is as long as the stream; the attempt says when its first content left."""
    grant = make_key("traced-stream")
    words = steer(mode="slow", chunks=3)
    reply, trace_id = await traced.chat(grant.key, words, stream=True)
    spans = {span.name: span for span in traced.spans(trace_id)}
    attempt, request = spans["chat fake-1"], spans["POST /v1/chat/completions"]

    assert reply.events[-1] == "[DONE]"
    assert attempt.attributes["tallygate.first_content_ms"] >= 0
    assert attempt.ended_ns - attempt.started_ns > 300_000_000
    assert request.ended_ns - request.started_ns > 300_000_000


async def test_a_job_goes_on_in_the_trace_of_its_promise(traced: Traced, make_key: MakeKey) -> None:
    """Through the background topic, after its client was answered."""
    grant = make_key("traced-job")
    body = {"model": MODEL, "messages": [{"role": "user", "content": PROMPT}]}
    reply, trace_id = await traced.post(grant.key, "/jobs", body)
    spans = traced.spans(trace_id, "process inference.background.v1", DISPATCHED, BOOKED)

    assert reply.status == 202
    above = parents(spans)
    assert above["POST /v1/jobs"] == "client"
    assert above["send inference.background.v1"] == "POST /v1/jobs"
    assert above["process inference.background.v1"] == "send inference.background.v1"
    assert above["chat fake-1"] == "process inference.dispatch.v1"
    assert {span.process for span in spans} == ROLES


async def test_a_refusal_is_traced_to_whoever_said_it(traced: Traced, make_key: MakeKey) -> None:
    """By the limiter, which tells the auditors; no backend is in it, and no error of the server."""
    grant = make_key("traced-refusal", {"budgets": [{"usd": "0.000000001", "period": "total"}]})
    reply, trace_id = await traced.chat(grant.key, PROMPT)
    spans = traced.spans(trace_id, LIMITED, BOOKED)

    assert reply.status == 402
    above = parents(spans)
    assert above["FCALL tg1_admit"] == "process inference.requests.v1"
    assert above["send inference.outcomes.v1"] == "process inference.requests.v1"
    assert above["send audit.router"] == "process inference.requests.v1"
    assert "chat fake-1" not in above
    request = next(span for span in spans if span.kind == "server")
    assert (request.attributes["http.response.status_code"], request.is_error) == (402, False)


async def test_a_request_at_a_closed_door_is_one_span(traced: Traced, traces: Receiver) -> None:
    """Nothing of it reached the log."""
    reply, trace_id = await traced.chat("tg_live_no_such_key", PROMPT)
    spans = traces.wait_for(trace_id, bool)

    assert reply.status == 401
    assert [span.name for span in spans] == ["POST /v1/chat/completions"]


async def test_a_client_that_does_not_ask_is_not_traced(
    traced: Traced, client: GatewayClient, traces: Receiver, make_key: MakeKey
) -> None:
    """Neither one that says so, nor one that says nothing; a later one that asks is."""
    grant = make_key("not-traced")
    body = {"model": MODEL, "messages": [{"role": "user", "content": PROMPT}]}
    _, unasked = await traced.post(grant.key, "/chat/completions", body, flags="00")
    silent = await client.chat(grant.key, PROMPT)
    _, asked = await traced.chat(grant.key, PROMPT)
    traced.spans(asked)

    assert traces.of(unasked) == []
    assert not any(
        span.attributes["tallygate.request_id"] == silent.request_id for span in traces.spans
    )


async def test_requests_do_not_notice_that_the_receiver_is_away(
    traced: Traced, traces: Receiver, make_key: MakeKey
) -> None:
    """Their spans arrive once it is back."""
    grant = make_key("traced-outage")
    calls, until_s = len(traces.headers), time.monotonic() + 10
    traces.status = 503
    try:
        reply, trace_id = await traced.chat(grant.key, PROMPT)
        while len(traces.headers) < calls + len(ROLES) and time.monotonic() < until_s:  # noqa: ASYNC110  # of a thread
            await asyncio.sleep(0.1)
    finally:
        traces.status = 200
    assert len(traces.headers) >= calls + len(ROLES), "the processes tried in vain"

    assert reply.status == 200
    assert {span.process for span in traced.spans(trace_id)} == ROLES


async def test_the_command_draws_a_request_with_the_id_of_its_trace(
    traced: Traced, stack: RunningStack, make_key: MakeKey
) -> None:
    """From the log alone: each hop a line, in the order of time."""
    grant = make_key("traced-drawn")
    reply, trace_id = await traced.chat(grant.key, PROMPT)
    traced.spans(trace_id)
    command = ("requests", "show", reply.request_id, "--org", grant.org, "--trace")
    shown = tallygate(stack, *command)
    told = json.loads(tallygate(stack, *command, "--json"))

    _, trace, _, *hops = shown.splitlines()
    assert trace == f"trace {trace_id}  its spans are with your collector"
    backend = next(word for word in shown.split() if word in {"fake-a", "fake-b"})
    who = [hop.split()[0] for hop in hops]
    assert who == ["ingress", "limiter_worker", "dispatcher", backend, "dispatcher", "accounting"]
    assert told["trace"] == {"trace_id": trace_id, "is_recorded": True}
