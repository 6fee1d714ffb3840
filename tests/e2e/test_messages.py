"""The anthropic package runs unmodified against the gateway."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import aiohttp
import anthropic
import pytest

from schemas.operations import OPERATIONS
from tests.support.harness.gateway_client import MODEL, GatewayClient, steer
from tests.support.harness.grants import Grant, MakeKey
from tests.support.harness.jobs_api import jobs_client, until_ended
from tests.support.harness.kafka_log import KafkaLog
from tests.support.harness.messages_api import TURNS, messages_client, tool_loop, usage_line
from tests.support.harness.oracle import Oracle, cost_nano_usd
from tests.support.harness.running_stack import RunningStack

pytestmark = pytest.mark.timeout(90, func_only=True)

KINDS = {"cached": 1, "written": 1}


@pytest.fixture(scope="module")
def grant(make_key: MakeKey) -> Grant:
    return make_key("messages-org", {"budgets": [{"usd": "100", "period": "month"}]})


@pytest.fixture(scope="module")
def sdk(stack: RunningStack, grant: Grant) -> Iterator[anthropic.Anthropic]:
    with messages_client(stack.api_url, grant.key) as client:
        yield client


def _ask(content: Any, **more: Any) -> dict[str, Any]:
    return {
        "model": MODEL,
        "max_tokens": 500,
        "messages": [{"role": "user", "content": content}],
        **more,
    }


def test_models_are_listed_page_by_page(sdk: anthropic.Anthropic) -> None:
    """The SDK asks for the next page by itself."""
    listed = list(sdk.models.list(limit=1))

    assert MODEL in {each.id for each in listed}
    assert len(listed) > 1
    assert sdk.models.retrieve(MODEL) in listed
    with pytest.raises(anthropic.NotFoundError, match="does not exist"):
        sdk.models.retrieve("of/nobody")


def test_a_message_has_the_backends_text_and_what_is_billed(
    sdk: anthropic.Anthropic, oracle: Oracle, kafka_log: KafkaLog
) -> None:
    """Its usage line is of this operation; both headers name the request."""
    raw = sdk.messages.with_raw_response.create(**_ask("the quick brown fox", system="be brief"))
    message = raw.parse()
    request_id = raw.headers["x-request-id"]
    (call,) = oracle.calls_of([request_id])

    assert raw.headers["request-id"] == request_id == message._request_id
    assert message.usage.input_tokens == call.prompt_tokens
    assert message.usage.output_tokens == call.completion_tokens
    (block,) = message.content
    assert block.type == "text"
    assert len(block.text.split()) == call.completion_tokens
    told = Decimal(raw.headers["x-tallygate-cost-usd"])
    assert told == cost_nano_usd(call) * Decimal("1e-9") > 0
    line = usage_line(kafka_log, request_id)
    assert line["route"] == "messages"
    assert (line["input_tokens"], line["output_tokens"]) == (
        call.prompt_tokens,
        call.completion_tokens,
    )
    assert (line["cost_nano_usd"], line["estimated"]) == (cost_nano_usd(call), False)


@pytest.mark.parametrize("bearer", [False, True])
def test_the_key_may_come_as_bearer(stack: RunningStack, grant: Grant, *, bearer: bool) -> None:
    """As well as in x-api-key; beta headers mean nothing here."""
    base_url = stack.api_url.removesuffix("/v1")
    key: dict[str, Any] = {"auth_token": grant.key} if bearer else {"api_key": grant.key}
    with anthropic.Anthropic(base_url=base_url, max_retries=0, **key) as client:
        message = client.messages.create(
            **_ask("hello"), extra_headers={"anthropic-beta": "prompt-caching-2024-07-31"}
        )

    assert message.type == "message"


def test_a_stream_adds_up_to_the_message(sdk: anthropic.Anthropic, oracle: Oracle) -> None:
    """Its text comes in pieces; its last usage is the backend's, with its caches beside the input."""
    asked = _ask(steer(chunks=6, output_tokens=12, kinds=KINDS), system="one two three")
    with sdk.messages.stream(**asked) as stream:
        pieces = list(stream.text_stream)
        message = stream.get_final_message()
        request_id = stream.response.headers["request-id"]
    (call,) = oracle.calls_of([request_id])

    assert len(pieces) == 6
    assert message.content[0].type == "text"
    assert message.content[0].text == "".join(pieces)
    assert message.usage.output_tokens == call.completion_tokens == 12
    assert message.usage.input_tokens == call.prompt_tokens - 2
    assert message.usage.cache_read_input_tokens == 1
    assert message.usage.cache_creation_input_tokens == 1
    assert message.stop_reason == "end_turn"


def test_an_answer_that_met_its_limit_says_so(sdk: anthropic.Anthropic) -> None:
    """`max_tokens`."""
    message = sdk.messages.create(**_ask(steer(output_tokens=9), max_tokens=3))

    assert (message.stop_reason, message.usage.output_tokens) == ("max_tokens", 3)


@pytest.mark.parametrize("streamed", [False, True])
def test_the_packages_tool_loop_runs_fifty_turns(
    sdk: anthropic.Anthropic, oracle: Oracle, *, streamed: bool
) -> None:
    """Each result of the tool says what the backend calls next; each turn is one call of the backend."""
    betas = ["fine-grained-tool-streaming-2025-05-14"]
    turns = tool_loop(sdk, MODEL, streamed=streamed, max_tokens=500, betas=betas)

    ids = [str(uuid.UUID(turn.id.removeprefix("msg_"))) for turn in turns]
    calls = {call.start.request_id: call for call in oracle.calls_of(ids)}
    assert [calls[each].completion_tokens for each in ids] == [
        turn.usage.output_tokens for turn in turns
    ]
    assert len(calls) == TURNS


def test_counting_is_free(sdk: anthropic.Anthropic, oracle: Oracle) -> None:
    """An estimate, and no call of a backend."""
    asked = {"model": MODEL, "messages": [{"role": "user", "content": "hello world"}]}
    raw = sdk.messages.with_raw_response.count_tokens(**asked, system="be brief")  # type: ignore[arg-type]

    assert raw.parse().input_tokens == 2 + 2 + 8
    assert not oracle.calls_of([raw.headers["request-id"]])
    assert "x-tallygate-cost-usd" not in raw.headers


def test_a_stream_that_breaks_raises(sdk: anthropic.Anthropic) -> None:
    """With what was said before it; the error names its request."""
    pieces: list[str] = []
    with (
        pytest.raises(anthropic.APIStatusError) as caught,
        sdk.messages.stream(**_ask(steer(mode="reset", chunks=6, output_tokens=12))) as stream,
    ):
        pieces += stream.text_stream

    body: Any = caught.value.body
    assert pieces
    assert (body["error"]["type"], body["error"]["code"]) == ("api_error", "upstream_interrupted")
    assert body["request_id"] == caught.value.request_id


def test_errors_are_the_packages_own(
    sdk: anthropic.Anthropic, stack: RunningStack, make_key: MakeKey
) -> None:
    """By status, with Anthropic's type and our code."""
    spent = make_key("messages-spent", {"budgets": [{"usd": "0.000001", "period": "total"}]})
    with (
        messages_client(stack.api_url, "tg_live_nobody") as stranger,
        messages_client(stack.api_url, spent.key) as poor,
    ):
        cases: list[tuple[Any, dict[str, Any], Any, str, str]] = [
            (sdk, {"model": "nope"}, anthropic.NotFoundError, "not_found_error", "model_not_found"),
            (sdk, {"max_tokens": 0}, anthropic.BadRequestError, "invalid_request_error", "invalid_request"),
            (stranger, {}, anthropic.AuthenticationError, "authentication_error", "invalid_api_key"),
            (poor, {}, anthropic.APIStatusError, "billing_error", "BUDGET_EXCEEDED"),
        ]  # fmt: skip
        for client, more, kind, its_type, code in cases:
            with pytest.raises(kind) as caught:
                client.messages.create(**{**_ask("hello"), **more})
            body: Any = caught.value.body
            assert (body["type"], body["error"]["type"]) == ("error", its_type)
            assert body["error"]["code"] == code
            assert body["request_id"] == caught.value.request_id


def test_the_package_does_not_retry_a_spent_budget_and_comes_back_after_a_rate(
    stack: RunningStack, make_key: MakeKey
) -> None:
    """402 says that no retry helps; 429 says when one does, in Anthropic's headers as well."""
    limits = {"requests_per_s": 1, "burst": 1}
    rated = make_key("messages-rated", limits)
    spent = make_key("messages-spent-2", {"budgets": [{"usd": "0.000001", "period": "total"}]})
    with messages_client(stack.api_url, rated.key, max_retries=5) as client:
        raws = [client.messages.with_raw_response.create(**_ask("hello")) for _ in range(3)]
    assert max(raw.retries_taken for raw in raws) >= 1
    headers = raws[0].headers
    assert headers["anthropic-ratelimit-requests-limit"] == headers["x-ratelimit-limit-requests"]
    reset = datetime.fromisoformat(headers["anthropic-ratelimit-requests-reset"])
    assert abs((reset - datetime.now(UTC)).total_seconds()) < 30

    with (
        messages_client(stack.api_url, spent.key, max_retries=5) as client,
        pytest.raises(anthropic.APIStatusError) as caught,
    ):
        client.messages.create(**_ask("hello"))
    assert caught.value.status_code == 402
    assert caught.value.response.headers["x-should-retry"] == "false"


@pytest.mark.parametrize(
    "body",
    [
        b"\xff\xfe",
        b"[]",
        b'{"a":1,"a":2}',
        b'{"model":"\\ud800"}',
        b'{"messages":' + b"[" * 90 + b"]" * 90 + b"}",
        json.dumps(_ask("x", tools=[{"name": "t", "input_schema": [0] * 99_999}])).encode(),
    ],
    ids=["bytes", "list", "twice", "half", "deep", "huge"],
)
async def test_odd_bytes_are_refused_in_anthropics_form(
    stack: RunningStack, grant: Grant, oracle: Oracle, body: bytes
) -> None:
    """400, and no call of a backend."""
    path = OPERATIONS["messages"].path.removeprefix("/v1")
    headers = {"x-api-key": grant.key, "content-type": "application/json"}
    async with aiohttp.ClientSession() as session:
        answer = await session.post(f"{stack.api_url}{path}", data=body, headers=headers)
        error = json.loads(await answer.read())

    assert answer.status == 400
    assert error["error"]["type"] == "invalid_request_error"
    assert error["request_id"] == answer.headers["request-id"]
    assert len(oracle.calls_of([error["request_id"]])) == 0


async def test_it_is_replayed_and_runs_as_a_job_like_all_others(
    client: GatewayClient, stack: RunningStack, grant: Grant, oracle: Oracle
) -> None:
    """The answer that is kept is the backend's own, as jobs show it; a replay is the message again."""
    key = {"Idempotency-Key": uuid.uuid4().hex}
    first = await client.post("/messages", grant.key, _ask("alpha beta"), key)
    second = await client.post("/messages", grant.key, _ask("alpha beta"), key)
    later = {"Prefer": "respond-async, wait=0"}
    promise = await client.post("/messages", grant.key, _ask("alpha beta"), later)

    assert (first.status, second.status, promise.status) == (200, 200, 202)
    assert (second.body, second.headers["idempotent-replayed"]) == (first.body, "true")
    assert len(oracle.calls_of([first.request_id])) == 1
    async with jobs_client(stack.api_url, grant.key) as api:
        job = await until_ended(api, promise.json["id"])
    text = first.json["content"][0]["text"]
    assert job["result"]["choices"][0]["message"]["content"] == text
