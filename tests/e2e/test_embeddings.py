"""Embeddings: the openai package runs unmodified, and its usage lines are the backend's own counts."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import httpx
import openai
import pytest

from tests.support.fakes import embeddings as fake
from tests.support.harness.gateway_client import MODEL, GatewayClient
from tests.support.harness.grants import Grant, MakeKey
from tests.support.harness.jobs_api import jobs_client, until_ended
from tests.support.harness.kafka_log import KafkaLog, LogRecord
from tests.support.harness.oracle import Oracle, cost_nano_usd
from tests.support.harness.running_stack import RunningStack

pytestmark = pytest.mark.timeout(90, func_only=True)

CATCH_UP_S = 30.0
INPUTS: list[Any] = [
    "the quick brown fox",
    ["the quick", "brown fox jumps"],
    [1_011, 2_022, 3_033],
    [[1_011], [2_022, 3_033]],
]
SILENT_MODEL = "silent-embeddings"


@pytest.fixture(scope="module")
def grant(make_key: MakeKey) -> Grant:
    return make_key("embeddings-org", {"budgets": [{"usd": "100", "period": "month"}]})


@pytest.fixture(scope="module")
def sdk(stack: RunningStack, grant: Grant) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(
        base_url=stack.api_url, api_key=grant.key, max_retries=0, timeout=30
    ) as client:
        yield client


@pytest.fixture(scope="module")
def silent_model(admin: httpx.Client) -> str:
    """A model whose backend tells no usage; like one for chat it has a cap of output, which is idle."""
    model = {
        "backends": [{"backend": "fake-a", "upstream_model": "fake-no_usage"}],
        "input_usd_per_mtok": "0.50",
        "output_usd_per_mtok": "0",
        "max_output_tokens": 10,
    }
    admin.put(f"/models/{SILENT_MODEL}", json=model).raise_for_status()
    return SILENT_MODEL


def _lines(kafka_log: KafkaLog, ids: set[str]) -> dict[str, LogRecord]:
    """The usage line of each request."""

    def of_ids(records: list[LogRecord]) -> list[LogRecord]:
        return [record for record in records if record.value["request_id"] in ids]

    found = of_ids(
        kafka_log.read("usage.records.v1", lambda read: len(of_ids(read)) >= len(ids), CATCH_UP_S)
    )
    assert len(found) == len(ids)
    return {line.value["request_id"]: line for line in found}


def test_vectors_and_usage_are_the_backends_own(
    sdk: openai.OpenAI, oracle: Oracle, kafka_log: KafkaLog
) -> None:
    """As floats, and as base64, which the package asks for by itself; for one and for many inputs."""
    asked: list[dict[str, Any]] = [
        {"input": given, **more}
        for given in INPUTS
        for more in ({}, {"encoding_format": "float"}, {"encoding_format": "base64"})
    ]
    ids: set[str] = set()
    for request in asked:
        raw = sdk.embeddings.with_raw_response.create(model=MODEL, **request)
        answer = raw.parse()
        ids.add(raw.headers["x-request-id"])
        (call,) = oracle.calls_of([raw.headers["x-request-id"]])
        inputs = fake.Request(MODEL, request["input"]).inputs
        assert [each.index for each in answer.data] == list(range(len(inputs)))
        if request.get("encoding_format") != "base64":
            vectors = [list(each.embedding) for each in answer.data]
            assert vectors == [fake.vector(each) for each in inputs]
        assert answer.usage.prompt_tokens == answer.usage.total_tokens == call.prompt_tokens
        told = Decimal(raw.headers["x-tallygate-cost-usd"])
        assert told == cost_nano_usd(call) * Decimal("1e-9") > 0

    lines = _lines(kafka_log, ids)
    for call in oracle.calls_of(ids):
        line = lines[call.start.request_id or ""].value
        assert line["route"] == "embeddings"
        assert (line["input_tokens"], line["output_tokens"]) == (call.prompt_tokens, 0)
        assert (line["cost_nano_usd"], line["estimated"]) == (cost_nano_usd(call), False)


def test_dimensions_reach_the_backend(sdk: openai.OpenAI) -> None:
    """Three numbers."""
    answer = sdk.embeddings.create(model=MODEL, input="hello", dimensions=3)

    assert list(answer.data[0].embedding) == fake.vector("hello", 3)


def test_a_backend_that_tells_no_usage_is_counted(
    sdk: openai.OpenAI, silent_model: str, kafka_log: KafkaLog
) -> None:
    """Texts exactly, tokens by their number; the line says that it is an estimate."""
    expected: list[tuple[Any, int]] = [("hello world", 2), ([11, 12, 13], 3)]
    tokens_by_id = {}
    for given, tokens in expected:
        raw = sdk.embeddings.with_raw_response.create(model=silent_model, input=given)
        tokens_by_id[raw.headers["x-request-id"]] = tokens

    lines = _lines(kafka_log, set(tokens_by_id))
    for request_id, tokens in tokens_by_id.items():
        line = lines[request_id].value
        assert (line["input_tokens"], line["output_tokens"]) == (tokens, 0)
        assert (line["cost_nano_usd"], line["estimated"]) == (tokens * 500, True)


@pytest.mark.parametrize(
    ("more", "param"), [({"input": ["a", ""]}, "input[1]"), ({"stream": True}, "stream")]
)
async def test_a_bad_field_is_named(
    client: GatewayClient, grant: Grant, more: dict[str, Any], param: str
) -> None:
    """400 in OpenAI's form; a stream is one, since there is none."""
    body = {"model": MODEL, "input": "hello", **more}
    reply = await client.post("/embeddings", grant.key, body)

    assert reply.status == 400
    assert reply.json["error"]["param"] == param


async def test_it_is_replayed_and_runs_as_a_job_like_all_others(
    client: GatewayClient, stack: RunningStack, grant: Grant, oracle: Oracle
) -> None:
    """Keys and preferences belong to the one way from any surface to the log."""
    body = {"model": MODEL, "input": ["alpha beta", "gamma"]}
    key = {"Idempotency-Key": uuid.uuid4().hex}
    first = await client.post("/embeddings", grant.key, body, key)
    second = await client.post("/embeddings", grant.key, body, key)
    promise = await client.post("/embeddings", grant.key, body, {"Prefer": "respond-async, wait=0"})

    assert (first.status, second.status, promise.status) == (200, 200, 202)
    assert (second.body, second.headers["idempotent-replayed"]) == (first.body, "true")
    assert len(oracle.calls_of([first.request_id])) == 1
    async with jobs_client(stack.api_url, grant.key) as api:
        job = await until_ended(api, promise.json["id"])
    assert job["result"]["data"] == first.json["data"]
    assert job["usage"] == {"prompt_tokens": 3, "completion_tokens": 0, "total_tokens": 3}
