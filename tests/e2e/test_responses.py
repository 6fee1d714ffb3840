"""The openai package's responses run unmodified against the gateway."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import openai
import pydantic
import pytest

from tests.support.harness.gateway_client import MODEL, GatewayClient, steer
from tests.support.harness.grants import Grant, MakeKey
from tests.support.harness.kafka_log import KafkaLog
from tests.support.harness.oracle import Oracle, cost_nano_usd
from tests.support.harness.running_stack import RunningStack

pytestmark = pytest.mark.timeout(90, func_only=True)

CATCH_UP_S = 30.0
KINDS = {"cached": 1, "written": 1, "reasoning": 2}
STEP: Any = {
    "type": "function",
    "name": "step",
    "description": "Go one step on.",
    "parameters": {"type": "object", "properties": {"number": {"type": "integer"}}},
    "strict": False,
}


@pytest.fixture(scope="module")
def grant(make_key: MakeKey) -> Grant:
    return make_key("responses-org", {"budgets": [{"usd": "100", "period": "month"}]})


@pytest.fixture(scope="module")
def sdk(stack: RunningStack, grant: Grant) -> Iterator[openai.OpenAI]:
    with _client(stack, grant.key) as client:
        yield client


def _client(stack: RunningStack, key: str, **more: Any) -> openai.OpenAI:
    options: dict[str, Any] = {"max_retries": 0, "timeout": 30, **more}
    return openai.OpenAI(base_url=stack.api_url, api_key=key, **options)


def test_a_response_has_the_backends_text_and_what_is_billed(
    sdk: openai.OpenAI, oracle: Oracle, kafka_log: KafkaLog
) -> None:
    """Its usage line is of this operation; its id is the request's."""
    raw = sdk.responses.with_raw_response.create(
        model=MODEL, input="the quick brown fox", instructions="be brief", metadata={"a": "b"}
    )
    response = raw.parse()
    request_id = raw.headers["x-request-id"]
    (call,) = oracle.calls_of([request_id])

    assert str(uuid.UUID(response.id.removeprefix("resp_"))) == request_id
    assert (response.status, response.metadata) == ("completed", {"a": "b"})
    assert len(response.output_text.split()) == call.completion_tokens
    assert response.usage is not None
    assert (response.usage.input_tokens, response.usage.output_tokens) == (
        call.prompt_tokens,
        call.completion_tokens,
    )
    told = Decimal(raw.headers["x-tallygate-cost-usd"])
    assert told == cost_nano_usd(call) * Decimal("1e-9") > 0

    def of_it(records: list[Any]) -> list[dict[str, Any]]:
        return [r.value for r in records if r.value["request_id"] == request_id]

    (line,) = of_it(kafka_log.read("usage.records.v1", lambda read: bool(of_it(read)), CATCH_UP_S))
    assert (line["route"], line["cost_nano_usd"]) == ("responses", cost_nano_usd(call))


@pytest.mark.parametrize("helper", [False, True])
def test_a_stream_adds_up_to_the_response(
    sdk: openai.OpenAI, oracle: Oracle, *, helper: bool
) -> None:
    """Plain and by the package's helper: its text in pieces, usage with what is inside."""
    asked: Any = {"model": MODEL, "input": steer(chunks=6, output_tokens=12, kinds=KINDS)}
    if helper:
        with sdk.responses.stream(**asked) as stream:
            events: list[Any] = list(stream)
            response = stream.get_final_response()
    else:
        events = list(sdk.responses.create(**asked, stream=True))
        response = events[-1].response
    (call,) = oracle.calls_of([str(uuid.UUID(response.id.removeprefix("resp_")))])

    pieces = [each.delta for each in events if each.type == "response.output_text.delta"]
    assert len(pieces) == 6
    assert response.output_text == "".join(pieces)
    assert [each.sequence_number for each in events] == list(range(len(events)))
    usage = response.usage
    assert usage is not None
    assert (usage.input_tokens, usage.output_tokens) == (call.prompt_tokens, 12)
    assert usage.input_tokens_details.cached_tokens == 1
    assert usage.output_tokens_details.reasoning_tokens == 2


def test_an_answer_that_met_its_limit_is_incomplete(sdk: openai.OpenAI) -> None:
    """With the reason."""
    response = sdk.responses.create(model=MODEL, input=steer(output_tokens=9), max_output_tokens=3)

    assert response.status == "incomplete"
    assert response.incomplete_details is not None
    assert response.incomplete_details.reason == "max_output_tokens"


@pytest.mark.parametrize("streamed", [False, True])
def test_a_tool_loop_runs_with_the_packages_own_items(
    sdk: openai.OpenAI, oracle: Oracle, *, streamed: bool
) -> None:
    """What the package gave is sent back as it is; each turn is one call of the backend."""
    given: list[Any] = [{"role": "user", "content": _next(1)}]
    seen, ids = [], []
    for _ in range(5):
        asked: Any = {"model": MODEL, "input": given, "tools": [STEP]}
        if streamed:
            with sdk.responses.stream(**asked) as stream:
                response: Any = stream.get_final_response()
        else:
            response = sdk.responses.create(**asked)
        ids.append(str(uuid.UUID(response.id.removeprefix("resp_"))))
        calls = [item for item in response.output if item.type == "function_call"]
        given += [item.to_dict() for item in response.output]
        for call in calls:
            seen.append(json.loads(call.arguments)["number"])
            output = _next(seen[-1] + 1)
            given.append(
                {"type": "function_call_output", "call_id": call.call_id, "output": output}
            )
        if not calls:
            break

    assert seen == [1, 2, 3]
    assert response.output_text
    assert len(oracle.calls_of(ids)) == 4


def _next(number: int) -> str:
    """What makes the backend ask for a step, or end."""
    if number == 4:
        return steer(output_tokens=3)
    call = {"name": "step", "arguments": json.dumps({"number": number})}
    return steer(output_tokens=2, call=call)


def test_a_form_of_the_answer_is_parsed_by_the_package(sdk: openai.OpenAI) -> None:
    """The backend echoes what was asked, which is of that form, once."""

    class Answer(pydantic.BaseModel):
        number: int

    response = sdk.responses.parse(
        model=MODEL, input='{"number":7}', text_format=Answer, max_output_tokens=1
    )

    assert response.output_parsed == Answer(number=7)


def test_a_stream_that_breaks_raises(sdk: openai.OpenAI) -> None:
    """Behind what was said, and behind the failed response."""
    events: list[Any] = []
    asked = steer(mode="reset", chunks=6, output_tokens=12)
    with pytest.raises(openai.APIError) as caught:
        events.extend(sdk.responses.create(model=MODEL, input=asked, stream=True))

    *_, last = events
    assert "response.output_text.delta" in {each.type for each in events}
    assert (last.type, last.response.status) == ("response.failed", "failed")
    assert caught.value.code == "upstream_interrupted"


def test_errors_are_the_packages_own(
    sdk: openai.OpenAI, stack: RunningStack, make_key: MakeKey
) -> None:
    """By status, with our code; what cannot be translated is named."""
    spent = make_key("responses-spent", {"budgets": [{"usd": "0.000001", "period": "total"}]})
    with _client(stack, "tg_live_nobody") as stranger, _client(stack, spent.key) as poor:
        cases: list[tuple[Any, dict[str, Any], Any, str, str | None]] = [
            (sdk, {"model": "nope"}, openai.NotFoundError, "model_not_found", "model"),
            (sdk, {"tools": [{"type": "web_search"}]}, openai.BadRequestError, "invalid_request", "tools[0].type"),
            (sdk, {"conversation": "conv_1"}, openai.BadRequestError, "invalid_request", "conversation"),
            (stranger, {}, openai.AuthenticationError, "invalid_api_key", None),
            (poor, {}, openai.APIStatusError, "BUDGET_EXCEEDED", None),
        ]  # fmt: skip
        for client, more, kind, code, param in cases:
            with pytest.raises(kind) as caught:
                client.responses.create(**{"model": MODEL, "input": "hello", **more})
            assert (caught.value.code, caught.value.param) == (code, param)


def test_one_in_the_background_is_polled_to_its_answer(sdk: openai.OpenAI, oracle: Oracle) -> None:
    """Queued at once; one call of a backend, whoever asks how often."""
    asked = {"model": MODEL, "input": steer(delay_ms=300, output_tokens=5), "metadata": {"a": "b"}}
    promised = sdk.responses.create(background=True, **asked)  # type: ignore[call-overload]
    response = _until_ended(sdk, promised.id)

    assert (promised.status, response.status) == ("queued", "completed")
    assert (response.background, response.metadata) == (True, {"a": "b"})
    assert len(response.output_text.split()) == 5
    assert len(oracle.calls_of([str(uuid.UUID(response.id.removeprefix("resp_")))])) == 1


def _until_ended(sdk: openai.OpenAI, response_id: str) -> Any:
    until_s = time.monotonic() + 20
    while True:
        response = sdk.responses.retrieve(response_id)
        if response.status not in ("queued", "in_progress"):
            return response
        assert time.monotonic() < until_s, response
        time.sleep(0.1)


def test_one_in_the_background_is_cancelled(sdk: openai.OpenAI) -> None:
    """While its backend works on it."""
    asked: Any = {"model": MODEL, "input": steer(delay_ms=20_000, output_tokens=5)}
    promised = sdk.responses.create(background=True, **asked)
    sdk.responses.cancel(promised.id)

    assert _until_ended(sdk, promised.id).status == "cancelled"


@pytest.mark.parametrize("streamed", [False, True])
def test_a_response_goes_on_from_another(sdk: openai.OpenAI, *, streamed: bool) -> None:
    """Right behind it, with all that was said but its instructions; the new one pays for that input, whole."""
    asked: Any = {"model": MODEL, "input": "alpha beta", "instructions": "be brief"}
    if streamed:
        with sdk.responses.stream(**asked) as stream:
            first: Any = stream.get_final_response()
    else:
        first = sdk.responses.create(**asked)
    second = sdk.responses.create(model=MODEL, input="gamma", previous_response_id=first.id)

    assert second.previous_response_id == first.id
    assert second.usage is not None
    said = [["alpha", "beta"], first.output_text.split(), ["gamma"]]
    assert second.usage.input_tokens == sum(1 + len(words) for words in said)
    again = sdk.responses.retrieve(first.id)
    assert (again.status, again.output_text) == ("completed", first.output_text)


@pytest.mark.parametrize("streamed", [False, True])
def test_a_large_answer_is_kept_as_well(sdk: openai.OpenAI, *, streamed: bool) -> None:
    """Beside its outcome, where that is small."""
    large = steer(chunks=40, output_tokens=3_000)
    asked: Any = {"model": MODEL, "input": large, "max_output_tokens": 3_000}
    if streamed:
        with sdk.responses.stream(**asked) as stream:
            first: Any = stream.get_final_response()
    else:
        first = sdk.responses.create(**asked)
    again = sdk.responses.retrieve(first.id)

    assert len(again.output_text.split()) == 3_000
    assert again.output_text == first.output_text


def test_one_that_is_not_stored_is_not_found(sdk: openai.OpenAI) -> None:
    """404, with how long others are kept; neither to be read nor to go on from."""
    response = sdk.responses.create(model=MODEL, input="hello", store=False)
    with pytest.raises(openai.NotFoundError, match="72 hours"):
        sdk.responses.retrieve(response.id)
    with pytest.raises(openai.NotFoundError, match="72 hours") as caught:
        sdk.responses.create(model=MODEL, input="more", previous_response_id=response.id)

    assert (caught.value.code, caught.value.param) == ("not_found", "previous_response_id")


async def test_a_stream_goes_on_after_the_last_event_that_its_client_has(
    client: GatewayClient, grant: Grant, oracle: Oracle
) -> None:
    """With the numbers that its events had the first time."""
    asked = {"model": MODEL, "input": steer(chunks=4, output_tokens=8), "stream": True}
    first = await client.post("/responses", grant.key, asked)
    ids = [line[4:] for line in first.body.splitlines() if line.startswith("id: ")]
    for event_id in (ids[1], ids[-1]):
        _, _, rest = first.body.partition(f"id: {event_id}\n\n")
        resumed = await client.post("/responses", grant.key, asked, {"Last-Event-ID": event_id})
        assert (resumed.status, resumed.body) == (200, rest)
        assert "sequence_number" in rest
    assert len(oracle.calls_of([first.request_id])) == 1


async def test_it_is_replayed_like_all_others(
    client: GatewayClient, grant: Grant, oracle: Oracle
) -> None:
    """The same response, also its id, and one call of a backend."""
    key = {"Idempotency-Key": uuid.uuid4().hex}
    asked = {"model": MODEL, "input": "alpha beta"}
    first = await client.post("/responses", grant.key, asked, key)
    second = await client.post("/responses", grant.key, asked, key)

    assert (first.status, second.status) == (200, 200)
    assert (second.body, second.headers["idempotent-replayed"]) == (first.body, "true")
    assert len(oracle.calls_of([first.request_id])) == 1
