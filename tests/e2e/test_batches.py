"""Batches on the running stack, as OpenAI's own SDK uses them; the backends' own logs and the usage lines are the oracle."""

from __future__ import annotations

import json
import time
from collections import Counter
from typing import Any

import openai
import pytest
from openai.types import Batch
from openai.types.responses import Response

from schemas.topics import USAGE_RECORDS
from tests.support.harness.gateway_client import MODEL
from tests.support.harness.grants import MakeKey
from tests.support.harness.kafka_log import KafkaLog
from tests.support.harness.oracle import Oracle
from tests.support.harness.running_stack import RunningStack

_LINES = 40
_WITHIN_S = 60.0


def test_a_batch_runs_each_line_once(
    stack: RunningStack, make_key: MakeKey, oracle: Oracle
) -> None:
    """From the file that is left to the files that come of it; a line without a model is told in the other one."""
    grant = make_key("batching")
    lines = [_line(f"line-{number}", MODEL) for number in range(_LINES)]
    lines_told = [*lines, _line("nobody", "no-such-model")]

    with openai.OpenAI(base_url=stack.api_url, api_key=grant.key) as client:
        batch = _run(client, lines_told, "/v1/chat/completions")
        assert batch.output_file_id is not None
        assert batch.error_file_id is not None
        results = _lines(client.files.content(batch.output_file_id).text)
        errors = _lines(client.files.content(batch.error_file_id).text)
        assert [each.id for each in client.batches.list()] == [batch.id]

    assert batch.request_counts is not None
    assert batch.request_counts.to_dict() == {"total": 41, "completed": 40, "failed": 1}
    assert Counter(line["custom_id"] for line in results) == {
        line["custom_id"]: 1 for line in lines
    }
    assert [line["custom_id"] for line in errors] == ["nobody"]
    assert errors[0]["response"]["status_code"] == 404
    ids = [line["response"]["request_id"] for line in results]
    calls = Counter(call.start.request_id for call in oracle.calls_of(ids))
    assert calls == dict.fromkeys(ids, 1)
    usage = [
        record.value
        for record in KafkaLog(stack.kafka).read(
            USAGE_RECORDS,
            lambda found: sum(r.value.get("batch_id") == batch.id for r in found) >= _LINES,
            _WITHIN_S,
        )
        if record.value.get("batch_id") == batch.id
    ]
    numbers = {line["custom_id"]: number for number, line in enumerate(lines, start=1)}
    assert {(each["request_id"], each["batch_line"]) for each in usage} == {
        (line["response"]["request_id"], numbers[line["custom_id"]]) for line in results
    }
    assert batch.usage is not None
    assert batch.usage.output_tokens == sum(each["output_tokens"] for each in usage)
    assert batch.usage.output_tokens == sum(
        line["response"]["body"]["usage"]["completion_tokens"] for line in results
    )


def test_lines_may_be_responses(stack: RunningStack, make_key: MakeKey, oracle: Oracle) -> None:
    """They stand whole in the file of results, and nowhere else."""
    grant = make_key("batching-responses")
    lines = [
        {
            "custom_id": f"line-{number}",
            "method": "POST",
            "url": "/v1/responses",
            "body": {"model": MODEL, "input": f"hello {number}", "store": True},
        }
        for number in range(3)
    ]

    with openai.OpenAI(base_url=stack.api_url, api_key=grant.key) as client:
        batch = _run(client, lines, "/v1/responses")
        assert batch.output_file_id is not None
        results = _lines(client.files.content(batch.output_file_id).text)
        told = [Response.model_validate(line["response"]["body"]) for line in results]
        with pytest.raises(openai.NotFoundError):
            client.responses.retrieve(told[0].id)

    assert {line["custom_id"] for line in results} == {line["custom_id"] for line in lines}
    assert all(each.status == "completed" and each.output_text for each in told)
    ids = [line["response"]["request_id"] for line in results]
    assert len(list(oracle.calls_of(ids))) == len(lines)


def _run(client: openai.OpenAI, lines: list[dict[str, Any]], endpoint: Any) -> Batch:
    """A batch of lines, once it has ended."""
    content = "\n".join(map(json.dumps, lines)).encode()
    file = client.files.create(file=("in.jsonl", content), purpose="batch")
    begun = client.batches.create(input_file_id=file.id, endpoint=endpoint, completion_window="24h")
    until_s = time.monotonic() + _WITHIN_S
    while (batch := client.batches.retrieve(begun.id)).status != "completed":
        assert time.monotonic() < until_s, batch
        time.sleep(0.5)
    return batch


def _line(custom_id: str, model: str) -> dict[str, Any]:
    body = {"model": model, "messages": [{"role": "user", "content": custom_id}], "max_tokens": 5}
    return {"custom_id": custom_id, "method": "POST", "url": "/v1/chat/completions", "body": body}


def _lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]
