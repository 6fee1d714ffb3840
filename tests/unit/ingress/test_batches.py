"""Batches as OpenAI's own SDK asks for them: what runs, what is refused, and what is told of it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import openai
import pytest

from ingress.batches import requests as batch_requests
from ingress.batches import run as batch_run
from ingress.batches.batch import Batch, BatchError, parts_prefix
from ingress.batches.lines import InputLine, read_line
from schemas.events import RequestAccepted
from schemas.frames import Terminal
from schemas.topics import BACKGROUND
from tests.support.batches import (
    DONE,
    URL,
    batch_gateway,
    batch_store,
    begin_batch,
    input_line,
    own_batch,
    results_of,
    sdk_client,
)
from tests.support.configuration import NOW_MS, UNKNOWN_SECRET


@pytest.fixture(autouse=True)
def brief(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is looked at by the second is looked at at once."""
    monkeypatch.setattr(batch_run, "_LOOK_S", 0.01)
    monkeypatch.setattr(batch_requests, "_PAUSE_S", (0.01, 0.02))


async def test_a_batch_runs_and_its_results_are_read(tmp_path: Path) -> None:
    """Every line once, under its own name, in the background, and in no list of jobs."""
    gateway = batch_gateway(tmp_path)
    begun = await begin_batch(gateway, [input_line(f"line-{number}") for number in range(20)])
    assert (begun.status, begun.object, begun.completion_window) == ("validating", "batch", "24h")
    assert begun.expires_at == begun.created_at + 86_400

    await (await own_batch(gateway, begun.id)).run()

    client = sdk_client(gateway)
    batch = await client.batches.retrieve(begun.id)
    results = await results_of(gateway, batch.output_file_id)
    assert (batch.status, batch.error_file_id, batch.errors) == ("completed", None, None)
    assert batch.metadata == {"by": "a test"}
    assert batch.request_counts is not None
    assert batch.request_counts.to_dict() == {"total": 20, "completed": 20, "failed": 0}
    assert batch.usage is not None
    assert (batch.usage.input_tokens, batch.usage.total_tokens) == (100, 240)
    assert batch.in_progress_at == batch.finalizing_at == batch.completed_at == NOW_MS // 1_000
    assert {line["custom_id"] for line in results} == {f"line-{number}" for number in range(20)}
    assert len({line["id"] for line in results}) == len(results) == 20
    requests = {each.request_id for each in gateway.log.accepted}
    for line in results:
        assert line["id"].startswith("batch_req_")
        assert line["error"] is None
        assert line["response"]["request_id"] in requests
        assert (line["response"]["status_code"], line["response"]["body"]) == (200, {"id": "c"})
    assert {record.topic for record in gateway.log.records} == {BACKGROUND}
    assert {(each.background, each.job) for each in gateway.log.accepted} == {(True, None)}
    assert (await gateway.client.get("/v1/jobs")).json()["data"] == []
    file = await client.files.retrieve(batch.output_file_id or "")
    assert (file.purpose, file.filename) == ("batch_output", f"{begun.id}_output.jsonl")
    assert await batch_store(gateway).open() == []
    assert await batch_store(gateway).files.paths(parts_prefix("acme", begun.id)) == []


@pytest.mark.parametrize(
    ("lines", "code", "line"),
    [
        (["{"], "invalid_json_line", 1),
        (["[1]"], "invalid_json_line", 1),
        ([input_line("a"), input_line("a")], "duplicate_custom_id", 2),
        ([input_line("a"), "", input_line("")], "missing_required_parameter", 3),
        ([input_line("a", custom_id=7)], "invalid_custom_id", 1),
        ([input_line("x" * 513)], "invalid_custom_id", 1),
        ([input_line("a", method="GET")], "invalid_method", 1),
        ([input_line("a", url="/v1/embeddings")], "mismatched_endpoint", 1),
        ([input_line("a", url="/v1/jobs")], "invalid_url", 1),
        ([input_line("a", body=None)], "missing_required_parameter", 1),
        ([input_line("a", body={"stream": True})], "invalid_request", 1),
        ([], "empty_file", None),
    ],
)
async def test_an_input_with_a_mistake_runs_nothing(
    tmp_path: Path, lines: list[Any], code: str, line: int | None
) -> None:
    """And the mistake is told with its line."""
    gateway = batch_gateway(tmp_path)
    begun = await begin_batch(gateway, lines or [" "])

    await (await own_batch(gateway, begun.id)).run()

    batch = await sdk_client(gateway).batches.retrieve(begun.id)
    assert (batch.status, batch.failed_at) == ("failed", NOW_MS // 1_000)
    assert batch.errors is not None
    assert [(each.code, each.line) for each in batch.errors.data or []] == [(code, line)]
    assert gateway.log.records == []
    assert await batch_store(gateway).open() == []


@pytest.mark.parametrize(
    ("field", "value"),
    [("stream", True), ("background", True), ("previous_response_id", "resp_1")],
)
def test_a_line_that_is_a_response_stands_alone(field: str, value: Any) -> None:
    """What would be told elsewhere than in the file of results is refused by name; what is left is kept nowhere else."""

    def read(**body: Any) -> InputLine | BatchError:
        line = input_line("a", url="/v1/responses", body={"model": "m", "store": True, **body})
        return read_line(msgspec.json.encode(line), 1, "/v1/responses")

    wrong, right = read(**{field: value}), read(**{field: None})
    assert isinstance(wrong, BatchError)
    assert (wrong.code, wrong.param) == ("invalid_request", f"body.{field}")
    assert isinstance(right, InputLine)
    assert msgspec.json.decode(right.body)["store"] is False


async def test_too_many_lines_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before any is run."""
    monkeypatch.setattr(batch_run, "LINES_MAX", 3)
    gateway = batch_gateway(tmp_path)
    begun = await begin_batch(gateway, [input_line(str(number)) for number in range(4)])

    await (await own_batch(gateway, begun.id)).run()

    batch = await sdk_client(gateway).batches.retrieve(begun.id)
    assert batch.errors is not None
    assert [each.code for each in batch.errors.data or []] == ["too_many_tasks"]


async def test_lines_that_fail_stand_in_the_file_of_errors(tmp_path: Path) -> None:
    """With the status and body that a client would have had; others go on."""
    gateway = batch_gateway(tmp_path)
    no_model = input_line("no-model")
    no_model["body"]["model"] = "nobody"

    def worker(accepted: RequestAccepted) -> Sequence[Terminal]:
        if b"refused" in accepted.payload:
            return (Terminal(400, error_code="upstream_rejected", error_message="no"),)
        return (DONE,)

    gateway.log.worker = worker
    begun = await begin_batch(gateway, [input_line("fine"), input_line("refused"), no_model])

    await (await own_batch(gateway, begun.id)).run()

    batch = await sdk_client(gateway).batches.retrieve(begun.id)
    errors = {line["custom_id"]: line for line in await results_of(gateway, batch.error_file_id)}
    assert batch.status == "completed"
    assert [line["custom_id"] for line in await results_of(gateway, batch.output_file_id)] == [
        "fine"
    ]
    assert errors.keys() == {"refused", "no-model"}
    assert errors["refused"]["response"]["status_code"] == 400
    assert errors["refused"]["response"]["body"]["error"]["message"] == "no"
    assert errors["no-model"]["response"]["status_code"] == 404
    assert batch.request_counts is not None
    assert batch.request_counts.failed == 2


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({}, "input_file_id"),
        ({"endpoint": "/v1/jobs"}, "endpoint"),
        ({"completion_window": "1h"}, "completion_window"),
        ({"metadata": {"a": 1}}, "metadata"),
        ({"metadata": {str(at): "x" for at in range(17)}}, "metadata"),
        ({"output_expires_after": {"anchor": "now", "seconds": 3_600}}, "output_expires_after"),
        (
            {"output_expires_after": {"anchor": "created_at", "seconds": 1}},
            "output_expires_after.seconds",
        ),
    ],
)
async def test_what_is_no_batch_is_refused_by_the_name_of_the_field(
    tmp_path: Path, fields: dict[str, Any], param: str
) -> None:
    """The first that is wrong."""
    body = {"input_file_id": "file-x", "endpoint": URL, "completion_window": "24h", **fields}

    answer = await batch_gateway(tmp_path).client.post("/v1/batches", json=body)

    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)


async def test_batches_are_listed_newest_first(tmp_path: Path) -> None:
    """Page by page, as the SDK asks; those of others are none."""
    gateway = batch_gateway(tmp_path)
    ids = sorted(
        [(await begin_batch(gateway, [input_line("a")])).id for _ in range(5)], reverse=True
    )

    listed = [batch.id async for batch in sdk_client(gateway).batches.list(limit=2)]
    answer = await gateway.client.get(
        f"/v1/batches/{ids[0]}", headers={"x-api-key": UNKNOWN_SECRET}
    )

    assert listed == ids
    assert answer.status_code == 401
    assert (await gateway.client.get("/v1/batches/batch_x")).status_code == 404
    assert (await gateway.client.get("/v1/batches?limit=0")).status_code == 400


async def test_an_organization_has_so_many_batches_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """429 beyond."""
    monkeypatch.setattr("ingress.batches.desk.OPEN_MAX", 1)
    gateway = batch_gateway(tmp_path)
    await begin_batch(gateway, [input_line("a")])

    with pytest.raises(openai.RateLimitError, match="batches"):
        await begin_batch(gateway, [input_line("a")])


async def test_the_last_batches_of_an_organization_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that has not ended is never forgotten."""
    monkeypatch.setattr("ingress.batches.desk.KEPT_MAX", 2)
    gateway = batch_gateway(tmp_path)
    begun = [await begin_batch(gateway, [input_line("a")]) for _ in range(2)]
    oldest = min(begun, key=lambda batch: batch.id)
    await (await own_batch(gateway, oldest.id)).run()

    await begin_batch(gateway, [input_line("a")])

    listed = [batch.id async for batch in sdk_client(gateway).batches.list()]
    assert len(listed) == 2
    assert oldest.id not in listed


def test_a_batch_knows_when_it_was_made() -> None:
    """From its id."""
    fields: Any = {"operation": "", "endpoint": "", "input_file_id": "", "input_bytes": 0}
    made = "batch_018bcfe568007000800000000000abcd"
    batch = Batch(id=made, caller=None, expires_at_s=0, output_kept_s=0, **fields)  # type: ignore[arg-type]

    assert batch.created_at_s == NOW_MS // 1_000
