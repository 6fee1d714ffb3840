"""Chat completions asked of a backend that speaks Anthropic's protocol, by the openai package; its own log is the oracle."""

from __future__ import annotations

import json
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import httpx
import openai
import pytest

from tests.support.fakes.call_log import Call
from tests.support.fakes.messages import THOUGHT
from tests.support.fakes.running_backend import RunningBackend
from tests.support.harness.claude import CLAUDE, PRICE_NANO_USD, claude_model, of_request
from tests.support.harness.gateway_client import steer
from tests.support.harness.grants import Grant, MakeKey
from tests.support.harness.running_stack import RunningStack

pytestmark = pytest.mark.timeout(90, func_only=True)

TURNS = 10


@pytest.fixture(scope="module")
def claude(
    admin: httpx.Client, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningBackend]:
    """The backend, and a model that only it answers for."""
    with claude_model(admin, tmp_path_factory.mktemp("claude"), CLAUDE) as running:
        yield running


@pytest.fixture(scope="module")
def grant(make_key: MakeKey) -> Grant:
    return make_key("claude-org", {"budgets": [{"usd": "100", "period": "month"}]})


@pytest.fixture
def sdk(stack: RunningStack, grant: Grant, claude: RunningBackend) -> openai.OpenAI:
    return openai.OpenAI(base_url=stack.api_url, api_key=grant.key, max_retries=0, timeout=30)


def _ask(content: Any, **more: Any) -> dict[str, Any]:
    return {"model": CLAUDE, "messages": [{"role": "user", "content": content}], **more}


def _call_of(claude: RunningBackend, request_id: str) -> Call:
    (call,) = of_request(claude, request_id)
    return call


def test_a_completion_has_the_backends_text_and_counts(
    sdk: openai.OpenAI, claude: RunningBackend
) -> None:
    """And costs what the backend's log says."""
    asked = _ask("the quick brown fox")
    asked["messages"].insert(0, {"role": "system", "content": "be brief"})
    raw = sdk.chat.completions.with_raw_response.create(**asked)
    answer = raw.parse()
    call = _call_of(claude, raw.headers["x-request-id"])

    assert answer.usage is not None
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (
        call.prompt_tokens,
        call.completion_tokens,
    )
    assert len((answer.choices[0].message.content or "").split()) == call.completion_tokens
    assert answer.choices[0].finish_reason == "stop"
    assert raw.headers["x-tallygate-backend"] == claude.name
    told = Decimal(raw.headers["x-tallygate-cost-usd"])
    wanted = call.prompt_tokens * PRICE_NANO_USD["input"] + call.completion_tokens * PRICE_NANO_USD["output"]  # fmt: skip
    assert told == wanted * Decimal("1e-9")
    assert not call.start.has_gateway_key


def test_a_stream_adds_up_to_the_completion(sdk: openai.OpenAI, claude: RunningBackend) -> None:
    """In pieces; its usage comes for those who ask."""
    asked = _ask(steer(chunks=6, output_tokens=12), stream=True)
    raw = sdk.chat.completions.with_raw_response.create(**asked, stream_options={"include_usage": True})  # fmt: skip
    chunks = list(raw.parse())
    call = _call_of(claude, raw.headers["x-request-id"])

    text = [c.choices[0].delta.content for c in chunks if c.choices and c.choices[0].delta.content]
    assert len(text) == 6
    assert len("".join(text).split()) == call.completion_tokens == 12
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.prompt_tokens == call.prompt_tokens
    assert all(c.usage is None for c in sdk.chat.completions.create(**asked))


@pytest.mark.parametrize("streamed", [False, True])
def test_a_loop_of_tools_runs_with_its_thoughts(sdk: openai.OpenAI, *, streamed: bool) -> None:
    """Each result says what is called next; thoughts go back with the signatures that the backend insists on."""
    tools: Any = [{"type": "function", "function": {"name": "step", "parameters": {"type": "object"}}}]  # fmt: skip
    messages: list[Any] = [{"role": "user", "content": _next(1)}]
    seen: list[int] = []
    while True:
        asked = {"model": CLAUDE, "messages": messages, "tools": tools}
        thinking = {"thinking": {"type": "enabled", "budget_tokens": 1024}}
        if streamed:
            stream = sdk.chat.completions.create(**asked, stream=True, extra_body=thinking)
            message = _joined([chunk.to_dict() for chunk in stream])
        else:
            answer = sdk.chat.completions.create(**asked, extra_body=thinking)
            message = answer.choices[0].message.to_dict()
        assert message["reasoning_content"] == THOUGHT
        messages.append(message)
        if not message.get("tool_calls"):
            break
        for call in message["tool_calls"]:
            number = json.loads(call["function"]["arguments"])["number"]
            seen.append(number)
            result = {"role": "tool", "tool_call_id": call["id"], "content": _next(number + 1)}
            messages.append(result)

    assert seen == list(range(1, TURNS))


def _next(number: int) -> str:
    if number == TURNS:
        return steer(output_tokens=3)
    call = {"name": "step", "arguments": json.dumps({"number": number})}
    return steer(output_tokens=2, call=call)


def _joined(chunks: list[Any]) -> dict[str, Any]:
    """The message that chunks add up to, as clients add them."""
    message: dict[str, Any] = {"role": "assistant", "content": "", "reasoning_content": "", "thinking_blocks": []}  # fmt: skip
    calls: dict[int, Any] = {}
    for chunk in chunks:
        for choice in chunk["choices"]:
            delta = choice["delta"]
            for name in ("content", "reasoning_content", "thinking_blocks"):
                message[name] += delta.get(name) or type(message[name])()
            for piece in delta.get("tool_calls") or ():
                known = calls.setdefault(piece["index"], {"type": "function", "function": {"arguments": ""}})  # fmt: skip
                known.update({n: v for n, v in piece.items() if n == "id"})
                known["function"]["arguments"] += piece["function"].get("arguments") or ""
                known["function"].setdefault("name", piece["function"].get("name"))
    return message | ({"tool_calls": [*calls.values()]} if calls else {})


def test_writes_and_reads_of_a_cache_have_their_prices(
    sdk: openai.OpenAI, claude: RunningBackend
) -> None:
    """A marked prefix is written once, for an hour at its own price, and read then."""
    mark = {"type": "ephemeral", "ttl": "1h"}
    prefix = {"type": "text", "text": "one two three four", "cache_control": mark}
    costs = []
    for _ in range(2):
        asked: Any = _ask("say")
        asked["messages"].insert(0, {"role": "system", "content": [prefix]})
        raw = sdk.chat.completions.with_raw_response.create(**asked)
        usage = raw.parse().usage
        call = _call_of(claude, raw.headers["x-request-id"])
        assert usage is not None
        assert usage.prompt_tokens == call.prompt_tokens
        plain = (call.prompt_tokens - 4) * PRICE_NANO_USD["input"]
        output = call.completion_tokens * PRICE_NANO_USD["output"]
        costs.append(Decimal(raw.headers["x-tallygate-cost-usd"]) * 10**9 - plain - output)

    assert costs == [4 * PRICE_NANO_USD["written_1h"], 4 * PRICE_NANO_USD["cached"]]


def test_errors_keep_their_words_and_kinds(sdk: openai.OpenAI) -> None:
    """Those of the backend, and those of what its protocol cannot ask."""
    cases: list[tuple[dict[str, Any], type[openai.APIStatusError], int, str]] = [
        ({"extra_body": {"min_p": 0.1}}, openai.BadRequestError, 400, "Extra inputs"),
        ({"response_format": {"type": "json_object"}}, openai.BadRequestError, 400, "response_format"),
        ({"messages": [{"role": "user", "content": steer(mode="429")}]}, openai.RateLimitError, 429, "told to answer"),
        ({"messages": [{"role": "user", "content": steer(mode="500")}]}, openai.InternalServerError, 502, "told to answer"),
    ]  # fmt: skip
    for more, kind, status, words in cases:
        with pytest.raises(kind) as caught:
            sdk.chat.completions.create(**{**_ask("x"), **more})
        assert caught.value.status_code == status
        assert words in caught.value.message
    with pytest.raises(openai.APIError, match="it broke"):
        list(sdk.chat.completions.create(**_ask(steer(mode="late_error", chunks=4), stream=True)))


@pytest.mark.parametrize("mode", ["529", "early_error"])
def test_a_full_backend_is_an_overload(
    stack: RunningStack, make_key: MakeKey, claude: RunningBackend, mode: str
) -> None:
    """Whether its status says so or its first event; each is an organization's own, since ingress slows down who meets one."""
    key = make_key(f"claude-full-{mode.replace('_', '-')}").key
    with (
        openai.OpenAI(base_url=stack.api_url, api_key=key, max_retries=0, timeout=30) as client,
        pytest.raises(openai.InternalServerError) as caught,
    ):
        client.chat.completions.create(**_ask(steer(mode=mode)), stream=mode != "529")

    assert caught.value.status_code == 503
    assert "told to" in caught.value.message
    assert not any(c.prompt_tokens for c in of_request(claude, caught.value.request_id or ""))


@pytest.mark.parametrize("mode", ["no_usage", "bad_usage", "garbled_usage", "odd_events"])
@pytest.mark.parametrize("stream", [False, True])
def test_an_odd_backend_costs_its_own_request_at_most(
    sdk: openai.OpenAI, mode: str, *, stream: bool
) -> None:
    """The text arrives; what it says of its use is believed as far as it can be."""
    said: Any = sdk.chat.completions.create(**_ask(steer(mode=mode, chunks=3, output_tokens=6)), stream=stream)  # fmt: skip
    if stream:
        text = "".join(c.choices[0].delta.content or "" for c in said if c.choices)
    else:
        text = said.choices[0].message.content
    assert len(text.split()) == 6


def test_its_key_is_known_to_probes(admin: httpx.Client, claude: RunningBackend) -> None:
    """Which ask for its models with it, so that doctor tells a wrong key."""
    (row,) = [each for each in admin.get("/backends").json()["items"] if each["id"] == claude.name]

    assert row["protocol"] == "anthropic"
    assert row["health"]
    assert {(seen["lacks_key"], seen["probe"]) for seen in row["health"]} <= {
        (False, ""),
        (False, "status 200"),
    }


def test_other_operations_are_refused_by_name(sdk: openai.OpenAI) -> None:
    """Its protocol has no embeddings."""
    with pytest.raises(openai.BadRequestError, match="no embeddings"):
        sdk.embeddings.create(model=CLAUDE, input="x")


def test_a_backend_of_the_other_protocol_takes_over(
    admin: httpx.Client, sdk: openai.OpenAI, claude: RunningBackend, backends: list[RunningBackend]
) -> None:
    """Where this one cannot ask, or is full; each attempt is billed as its backend counts."""
    targets = [{"backend": claude.name, "weight": 1}, {"backend": backends[0].name, "weight": 0}]
    price = {"input_usd_per_mtok": "0.50", "output_usd_per_mtok": "1.50"}
    admin.put("/models/mixed", json={"backends": targets, **price}).raise_for_status()
    for more in ({"logprobs": True}, {}):
        asked = _ask(steer(mode="529", only=claude.name), **more) | {"model": "mixed"}
        raw = sdk.chat.completions.with_raw_response.create(**asked)
        (call,) = [c for c in backends[0].calls() if c.start.request_id == raw.headers["x-request-id"]]  # fmt: skip
        usage = raw.parse().usage
        assert usage is not None
        assert (usage.prompt_tokens, usage.completion_tokens) == (call.prompt_tokens, call.completion_tokens)  # fmt: skip
