"""Text completions: the openai package runs unmodified, and what is billed is what the backend's own log says."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import openai
import pytest

from tests.support.fakes import text_completions as fake
from tests.support.harness.gateway_client import MODEL, GatewayClient
from tests.support.harness.grants import Grant, MakeKey
from tests.support.harness.jobs_api import jobs_client, until_ended
from tests.support.harness.kafka_log import KafkaLog, LogRecord
from tests.support.harness.oracle import Oracle, cost_nano_usd
from tests.support.harness.running_stack import RunningStack

pytestmark = pytest.mark.timeout(90, func_only=True)

CATCH_UP_S = 30.0
ASKED: list[dict[str, Any]] = [
    {"prompt": "the quick brown fox"},
    {"prompt": ["the quick", "brown fox jumps"], "n": 2, "max_tokens": 2},
    {"prompt": [1_011, 2_022, 3_033], "best_of": 3},
    {"prompt": [[1_011], [2_022, 3_033]], "echo": True, "max_tokens": 1},
    {"prompt": "over the", "suffix": "dog", "logprobs": 2},
]


@pytest.fixture(scope="module")
def grant(make_key: MakeKey) -> Grant:
    return make_key("text-org", {"budgets": [{"usd": "100", "period": "month"}]})


@pytest.fixture(scope="module")
def sdk(stack: RunningStack, grant: Grant) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(
        base_url=stack.api_url, api_key=grant.key, max_retries=0, timeout=30
    ) as client:
        yield client


def _answer(asked: dict[str, Any]) -> fake.Answer:
    """What the backend says to it."""
    return fake.Answer(fake.Request(MODEL, **asked), "", 0)


def test_answers_are_the_backends_and_so_is_the_bill(
    sdk: openai.OpenAI, oracle: Oracle, kafka_log: KafkaLog
) -> None:
    """Texts and tokens, one and many, several choices, echoes and logprobs, whole and as streams."""
    ids: set[str] = set()
    for asked in ASKED:
        raw = sdk.completions.with_raw_response.create(model=MODEL, **asked)
        whole = raw.parse()
        told = _answer(asked).whole()
        assert (whole.object, [each.text for each in whole.choices]) == (
            "text_completion",
            [each["text"] for each in told["choices"]],
        )
        logprobs = whole.choices[0].logprobs
        assert (logprobs is None) == ("logprobs" not in asked)
        (call,) = oracle.calls_of([raw.headers["x-request-id"]])
        assert whole.usage is not None
        assert (whole.usage.prompt_tokens, whole.usage.completion_tokens) == (
            call.prompt_tokens,
            call.completion_tokens,
        )
        cost = Decimal(raw.headers["x-tallygate-cost-usd"])
        assert cost == cost_nano_usd(call) * Decimal("1e-9") > 0
        ids |= {raw.headers["x-request-id"], _streamed(sdk, asked, told)}

    lines = _lines(kafka_log, ids)
    for call in oracle.calls_of(ids):
        line = lines[call.start.request_id or ""].value
        assert line["route"] == "completions"
        used = (line["input_tokens"], line["output_tokens"])
        assert used == (call.prompt_tokens, call.completion_tokens)
        assert (line["cost_nano_usd"], line["estimated"]) == (cost_nano_usd(call), False)


def _streamed(sdk: openai.OpenAI, asked: dict[str, Any], told: dict[str, Any]) -> str:
    """Ask the same as a stream, which says the same; its id."""
    raw = sdk.completions.with_raw_response.create(model=MODEL, stream=True, **asked)
    said = dict.fromkeys(range(len(told["choices"])), "")
    for chunk in raw.parse():
        assert (chunk.object, chunk.usage) == ("text_completion", None)
        (choice,) = chunk.choices
        said[choice.index] += choice.text
    assert list(said.values()) == [each["text"] for each in told["choices"]]
    return raw.headers["x-request-id"]


def _lines(kafka_log: KafkaLog, ids: set[str]) -> dict[str, LogRecord]:
    """The usage line of each request."""

    def of_ids(records: list[LogRecord]) -> list[LogRecord]:
        return [record for record in records if record.value["request_id"] in ids]

    found = of_ids(
        kafka_log.read("usage.records.v1", lambda read: len(of_ids(read)) >= len(ids), CATCH_UP_S)
    )
    assert len(found) == len(ids)
    return {line.value["request_id"]: line for line in found}


def test_who_asks_for_usage_gets_it_in_a_chunk_of_its_own(sdk: openai.OpenAI) -> None:
    """The last one, without choices."""
    chunks = [
        *sdk.completions.create(
            model=MODEL, prompt="a b c", stream=True, stream_options={"include_usage": True}
        )
    ]

    assert [bool(chunk.choices) for chunk in chunks] == [True] * (len(chunks) - 1) + [False]
    usage = chunks[-1].usage
    assert usage is not None
    assert (usage.prompt_tokens, usage.completion_tokens) == (3, 3)


@pytest.mark.parametrize(
    ("more", "param"),
    [
        ({"prompt": ["a", 7]}, "prompt[1]"),
        ({"prompt": [-1]}, "prompt[0]"),
        ({"max_tokens": -1}, "max_tokens"),
        ({"n": 100}, "n"),
        ({"prompt_embeds": "AAAA"}, "prompt_embeds"),
    ],
)
async def test_a_bad_field_is_named_and_nothing_is_asked(
    client: GatewayClient, grant: Grant, oracle: Oracle, more: dict[str, Any], param: str
) -> None:
    """400 in OpenAI's form; what may cost more than anybody bounds is one where a budget applies."""
    reply = await client.post("/completions", grant.key, {"model": MODEL, "prompt": "hi", **more})

    assert reply.status == 400
    assert reply.json["error"]["param"] == param
    assert not oracle.calls_of([reply.request_id])


async def test_it_is_replayed_and_runs_as_a_job_like_all_others(
    client: GatewayClient, stack: RunningStack, grant: Grant, oracle: Oracle
) -> None:
    """Keys and preferences belong to the one way from any surface to the log; a replayed stream is the same again."""
    body = {"model": MODEL, "prompt": ["alpha beta", "gamma"], "stream": True}
    key = {"Idempotency-Key": uuid.uuid4().hex}
    first = await client.post("/completions", grant.key, body, key)
    second = await client.post("/completions", grant.key, body, key)
    whole = {**body, "stream": False}
    promise = await client.post(
        "/completions", grant.key, whole, {"Prefer": "respond-async, wait=0"}
    )

    assert (first.status, second.status, promise.status) == (200, 200, 202)
    assert second.headers["idempotent-replayed"] == "true"
    assert "text_completion" in second.body
    assert len(oracle.calls_of([first.request_id])) == 1
    async with jobs_client(stack.api_url, grant.key) as api:
        job = await until_ended(api, promise.json["id"])
    assert [each["text"] for each in job["result"]["choices"]] == ["beta alpha", "gamma"]
    assert job["usage"] == {"prompt_tokens": 3, "completion_tokens": 3, "total_tokens": 6}


def test_a_deadline_that_is_none_is_named(sdk: openai.OpenAI) -> None:
    """A header, as for every operation."""
    with pytest.raises(openai.BadRequestError, match="X-Request-Timeout"):
        sdk.completions.create(
            model=MODEL, prompt="hi", extra_headers={"X-Request-Timeout": "soon"}
        )
