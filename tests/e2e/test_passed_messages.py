"""The anthropic package against a backend of Anthropic's protocol behind the gateway: nothing of a message is lost."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import anthropic
import httpx
import pytest

from tests.support.fakes.messages import THOUGHT
from tests.support.fakes.running_backend import RunningBackend
from tests.support.harness.claude import (
    CLAUDE,
    PRICE_NANO_USD,
    asked_of,
    claude_model,
    of_request,
)
from tests.support.harness.gateway_client import GatewayClient, steer
from tests.support.harness.grants import Grant, MakeKey
from tests.support.harness.jobs_api import jobs_client, until_ended
from tests.support.harness.kafka_log import KafkaLog
from tests.support.harness.messages_api import messages_client, tool_loop, usage_line
from tests.support.harness.running_stack import RunningStack

pytestmark = pytest.mark.timeout(90, func_only=True)

INTERLEAVED = "interleaved-thinking-2025-05-14"


@pytest.fixture(scope="module")
def claude(
    admin: httpx.Client, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningBackend]:
    """The backend, and a model that only it answers for."""
    with claude_model(admin, tmp_path_factory.mktemp("claude"), CLAUDE) as running:
        yield running


@pytest.fixture(scope="module")
def grant(make_key: MakeKey) -> Grant:
    return make_key("passed-org", {"budgets": [{"usd": "100", "period": "month"}]})


@pytest.fixture(scope="module")
def sdk(stack: RunningStack, grant: Grant, claude: RunningBackend) -> Iterator[anthropic.Anthropic]:
    with messages_client(stack.api_url, grant.key) as client:
        yield client


def _ask(content: Any, **more: Any) -> dict[str, Any]:
    messages = [{"role": "user", "content": content}]
    return {"model": CLAUDE, "max_tokens": 2_000, "messages": messages, **more}


def test_a_message_is_the_backends_own_and_so_is_what_it_was_asked(
    sdk: anthropic.Anthropic, claude: RunningBackend, kafka_log: KafkaLog
) -> None:
    """Thoughts with their signature, marks of a cache, betas that pass; booked are the counts of each kind."""
    mark = {"type": "ephemeral", "ttl": "1h"}
    system = [{"type": "text", "text": "one two three", "cache_control": mark}]
    thinking = {"type": "enabled", "budget_tokens": 1_024, "display": "summarized"}
    asked = _ask("say it", system=system, thinking=thinking, metadata={"user_id": "u"})
    headers = {"anthropic-beta": f"{INTERLEAVED},fast-mode-2026-02-01"}
    raw = sdk.messages.with_raw_response.create(
        **asked, extra_headers=headers, extra_body={"top_k": 3}
    )
    message = raw.parse()
    request_id = raw.headers["request-id"]
    (call,) = of_request(claude, request_id)
    seen = asked_of(claude, request_id)

    assert seen["body"] == {**asked, "top_k": 3}
    assert seen["headers"]["anthropic-beta"] == INTERLEAVED
    assert "authorization" not in seen["headers"]
    thought, text = message.content
    assert thought.type == "thinking"
    assert (thought.thinking, len(thought.signature)) == (THOUGHT, 64)
    assert text.type == "text"
    assert message.id.startswith("msg_claude-")
    usage = message.usage
    assert usage.cache_creation_input_tokens == 3
    assert usage.cache_creation is not None
    assert usage.cache_creation.ephemeral_1h_input_tokens == 3
    assert usage.input_tokens + 3 == call.prompt_tokens
    assert usage.output_tokens == call.completion_tokens
    wanted = (
        usage.input_tokens * PRICE_NANO_USD["input"]
        + 3 * PRICE_NANO_USD["written_1h"]
        + usage.output_tokens * PRICE_NANO_USD["output"]
    )
    assert Decimal(raw.headers["x-tallygate-cost-usd"]) == wanted * Decimal("1e-9")
    line = usage_line(kafka_log, request_id)
    assert (line["cost_nano_usd"], line["cache_write_1h_tokens"]) == (wanted, 3)


@pytest.mark.parametrize("streamed", [False, True])
def test_the_packages_tool_loop_runs_fifty_turns_with_thoughts(
    sdk: anthropic.Anthropic, claude: RunningBackend, *, streamed: bool
) -> None:
    """The backend refuses a thought whose signature is not its own, and a call without its result."""
    turns = tool_loop(
        sdk,
        CLAUDE,
        streamed=streamed,
        max_tokens=2_000,
        thinking={"type": "enabled", "budget_tokens": 1_024},
        betas=[INTERLEAVED],
    )

    assert all(turn.content[0].thinking == THOUGHT for turn in turns)
    calls = {call.start.call_id: call for call in claude.calls()}
    told = [calls[turn.id.removeprefix("msg_")].completion_tokens for turn in turns]
    assert told == [turn.usage.output_tokens for turn in turns]


def test_a_stream_is_relayed_event_by_event(sdk: anthropic.Anthropic) -> None:
    """In pieces; its usage stands in both ends, as the backend told it."""
    asked = _ask(steer(chunks=6, output_tokens=12), thinking={"type": "adaptive"})
    with sdk.messages.stream(**asked) as stream:
        kinds = [event.type for event in stream]
        message = stream.get_final_message()

    assert kinds.count("content_block_delta") == 2 + 6
    assert (kinds[0], kinds[-1]) == ("message_start", "message_stop")
    assert [block.type for block in message.content] == ["thinking", "text"]
    assert message.usage.output_tokens == 12 + len(THOUGHT.split())
    assert message.usage.input_tokens > 0


def test_errors_are_the_backends_own_words_in_anthropics_form(sdk: anthropic.Anthropic) -> None:
    """Whether they come instead of an answer or in the middle of it."""
    cases: list[tuple[dict[str, Any], int, str, str]] = [
        ({"extra_body": {"output_format": {}}}, 400, "invalid_request_error", "Extra inputs"),
        ({"messages": [{"role": "user", "content": [{"type": "text", "text": ""}]}]}, 400, "invalid_request_error", "non-empty"),
        ({"messages": [{"role": "user", "content": steer(mode="429")}]}, 429, "rate_limit_error", "told to"),
        ({"extra_body": {"speed": "fast"}}, 400, "invalid_request_error", "speed"),
    ]  # fmt: skip
    for more, status, kind, words in cases:
        with pytest.raises(anthropic.APIStatusError) as caught:
            sdk.messages.create(**{**_ask("x"), **more})
        body: Any = caught.value.body
        assert (caught.value.status_code, body["error"]["type"]) == (status, kind), more
        assert words in body["error"]["message"]
    asked = _ask(steer(mode="late_error", chunks=4))
    with pytest.raises(anthropic.APIStatusError) as caught, sdk.messages.stream(**asked) as stream:
        list(stream.text_stream)
    assert "it broke" in str(caught.value.body)


@pytest.mark.parametrize("mode", ["529", "early_error"])
def test_a_full_backend_is_an_overload(
    stack: RunningStack, make_key: MakeKey, claude: RunningBackend, mode: str
) -> None:
    """Whether its status says so or its first event."""
    key = make_key(f"passed-full-{mode.replace('_', '-')}").key
    base_url = stack.api_url.removesuffix("/v1")
    with (
        anthropic.Anthropic(base_url=base_url, api_key=key, max_retries=0) as client,
        pytest.raises(anthropic.APIStatusError) as caught,
    ):
        client.messages.create(**_ask(steer(mode=mode)), stream=mode != "529")

    body: Any = caught.value.body
    assert (caught.value.status_code, body["error"]["type"]) == (503, "overloaded_error")
    assert "told to" in body["error"]["message"]
    assert not any(c.prompt_tokens for c in of_request(claude, body["request_id"]))


@pytest.mark.parametrize("mode", ["no_usage", "bad_usage", "garbled_usage", "odd_events"])
def test_an_odd_backend_costs_its_own_request_at_most(
    sdk: anthropic.Anthropic, grant: Grant, stack: RunningStack, mode: str
) -> None:
    """What it sends passes as it came; the next request is answered as ever."""
    asked = _ask(steer(mode=mode, chunks=3, output_tokens=6), stream=True)
    headers = {"x-api-key": grant.key}
    answer = httpx.post(f"{stack.api_url}/messages", json=asked, headers=headers, timeout=30)
    assert answer.status_code == 200
    assert answer.text.count("text_delta") == 3
    assert answer.text.rstrip().endswith('data: {"type":"message_stop"}')
    assert sdk.messages.create(**_ask("x")).type == "message"


async def test_it_is_replayed_and_runs_as_a_job_like_all_others(
    client: GatewayClient, stack: RunningStack, grant: Grant, claude: RunningBackend
) -> None:
    """The result of a job is the message itself."""
    key = {"Idempotency-Key": uuid.uuid4().hex}
    first = await client.post("/messages", grant.key, _ask("alpha beta"), key)
    second = await client.post("/messages", grant.key, _ask("alpha beta"), key)
    later = {"Prefer": "respond-async, wait=0"}
    promise = await client.post("/messages", grant.key, _ask("alpha beta"), later)

    assert (first.status, second.status, promise.status) == (200, 200, 202)
    assert (second.body, second.headers["idempotent-replayed"]) == (first.body, "true")
    assert len(of_request(claude, first.request_id)) == 1
    async with jobs_client(stack.api_url, grant.key) as api:
        job = await until_ended(api, promise.json["id"])
    assert job["result"]["content"] == first.json["content"]


def test_counting_is_free_and_takes_all_that_is_passed(
    sdk: anthropic.Anthropic, claude: RunningBackend
) -> None:
    """Without a call of the backend."""
    asked = {"model": CLAUDE, "messages": [{"role": "user", "content": "hello world"}]}
    raw = sdk.messages.with_raw_response.count_tokens(**asked, system="be brief", thinking={"type": "adaptive"})  # type: ignore[arg-type]  # fmt: skip

    assert raw.parse().input_tokens == 2 + 2
    assert not of_request(claude, raw.headers["request-id"])


def test_a_mixed_model_is_answered_by_either_backend(
    admin: httpx.Client,
    sdk: anthropic.Anthropic,
    claude: RunningBackend,
    backends: list[RunningBackend],
) -> None:
    """In the form that both have; where one is full the other takes over, and what it counts is billed."""
    targets = [{"backend": claude.name, "weight": 1}, {"backend": backends[0].name, "weight": 0}]
    price = {"input_usd_per_mtok": "0.50", "output_usd_per_mtok": "1.50"}
    admin.put("/models/either", json={"backends": targets, **price}).raise_for_status()
    thinking: Any = {"type": "enabled", "budget_tokens": 1_024}
    for mode, answers in (("echo", claude), ("529", backends[0])):
        asked = _ask(steer(mode=mode, only=claude.name, output_tokens=4), thinking=thinking) | {"model": "either"}  # fmt: skip
        raw = sdk.messages.with_raw_response.create(**asked)
        message, request_id = raw.parse(), raw.headers["request-id"]
        (call,) = of_request(answers, request_id)
        assert raw.headers["x-tallygate-backend"] == answers.name
        assert [block.type for block in message.content] == ["text"]
        assert (message.usage.input_tokens, message.usage.output_tokens) == (call.prompt_tokens, call.completion_tokens)  # fmt: skip
        cost = call.prompt_tokens * 500 + call.completion_tokens * 1_500
        assert Decimal(raw.headers["x-tallygate-cost-usd"]) == cost * Decimal("1e-9")
