"""Jobs: promised at once, fetched later, cancelled, listed, and never lost."""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
import pytest_asyncio

from schemas.events import RequestFinished
from schemas.ids import uuid7
from schemas.runtime.kafka.outcome_lookup import Absent, InLog, OutcomeLookup
from tests.support.harness.gateway_client import MODEL, steer
from tests.support.harness.grants import Grant, MakeKey
from tests.support.harness.jobs_api import DONE_WITHIN_S, chat, jobs_client, until, until_ended
from tests.support.harness.oracle import Oracle
from tests.support.harness.running_stack import RunningStack

pytestmark = pytest.mark.timeout(90, func_only=True)


@pytest.fixture(scope="module")
def grant(make_key: MakeKey) -> Grant:
    return make_key("jobs-org")


@pytest_asyncio.fixture
async def api(stack: RunningStack, grant: Grant) -> AsyncIterator[httpx.AsyncClient]:
    """The public API with the key of the organization."""
    async with jobs_client(stack.api_url, grant.key) as client:
        yield client


async def test_a_job_is_promised_and_fetched(api: httpx.AsyncClient, oracle: Oracle) -> None:
    """202 with its place; later the completion, its usage and its cost."""
    promise = await api.post("/jobs", json=chat("alpha beta gamma"))

    assert promise.status_code == 202, promise.text
    job = promise.json()
    assert promise.headers["location"] == f"/v1/jobs/{job['id']}"
    assert promise.headers["retry-after"] == "2"
    assert (job["status"], job["model"]) == ("queued", MODEL)
    assert abs(job["created_at"] - time.time()) < 60
    ended = await until_ended(api, job["id"])
    (call,) = oracle.calls_of([job["id"]])
    assert ended["status"] == "completed"
    assert ended["result"]["object"] == "chat.completion"
    assert ended["usage"]["completion_tokens"] == call.completion_tokens
    assert float(ended["cost_usd"]) > 0


async def test_a_job_may_be_written_in_native_terms(api: httpx.AsyncClient) -> None:
    """Payload and parameters as on /v1/inference."""
    body = {"model": MODEL, "payload": steer(output_tokens=50), "parameters": {"max_tokens": 3}}
    promise = await api.post("/jobs", json=body)

    assert promise.status_code == 202, promise.text
    ended = await until_ended(api, promise.json()["id"])
    assert ended["result"]["usage"]["completion_tokens"] == 3


async def test_a_job_that_fails_tells_why(api: httpx.AsyncClient) -> None:
    """An error with its code, and no result."""
    promise = await api.post("/jobs", json=chat(steer(mode="500")))
    ended = await until_ended(api, promise.json()["id"])

    assert ended["status"] == "failed"
    assert ended["error"]["code"] == "upstream_error"
    assert "result" not in ended


async def test_a_job_that_is_refused_tells_the_limit(
    stack: RunningStack, make_key: MakeKey
) -> None:
    """The promise is given before the verdict, so the verdict is part of the job."""
    poor = make_key("jobs-poor", {"requests_per_s": 1, "burst": 1})
    async with jobs_client(stack.api_url, poor.key) as api:
        promises = [await api.post("/jobs", json=chat("hello")) for _ in range(2)]
        jobs = [await until_ended(api, promise.json()["id"]) for promise in promises]

    assert [job["status"] for job in jobs] == ["completed", "failed"]
    assert jobs[1]["error"]["code"] == "RATE_LIMIT_EXCEEDED"
    assert jobs[1]["error"]["limit_type"] == "rate_limit"


async def test_a_job_expires(api: httpx.AsyncClient) -> None:
    """After ttl_s, whatever its backend does."""
    promise = await api.post("/jobs", json=chat(steer(mode="hang"), ttl_s=2))
    ended = await until_ended(api, promise.json()["id"])

    assert ended["status"] == "expired"
    assert ended["error"]["code"] == "deadline_exceeded"


async def test_a_running_job_is_cancelled(api: httpx.AsyncClient) -> None:
    """It ends soon; cancelling again changes nothing."""
    promise = await api.post("/jobs", json=chat(steer(mode="hang"), ttl_s=60))
    job_id = promise.json()["id"]
    await until(api, job_id, "running")
    cancelled = await api.delete(f"/jobs/{job_id}")
    ended = await until_ended(api, job_id)
    again = await api.delete(f"/jobs/{job_id}")

    assert cancelled.status_code == 200, cancelled.text
    assert ended["status"] == "cancelled"
    assert (again.status_code, again.json()["status"]) == (200, "cancelled")


async def test_a_finished_job_cannot_be_cancelled(api: httpx.AsyncClient) -> None:
    """DELETE answers with its final state."""
    promise = await api.post("/jobs", json=chat("hello"))
    job_id = promise.json()["id"]
    await until_ended(api, job_id)

    answer = await api.delete(f"/jobs/{job_id}")

    assert (answer.status_code, answer.json()["status"]) == (200, "completed")


async def test_jobs_are_listed_newest_first_in_pages(
    stack: RunningStack, make_key: MakeKey
) -> None:
    """`after` names the last job of the page before."""
    lister = make_key("jobs-lister")
    async with jobs_client(stack.api_url, lister.key) as api:
        made = [(await api.post("/jobs", json=chat(f"job {n}"))).json()["id"] for n in range(5)]
        first = (await api.get("/jobs", params={"limit": 3})).json()
        after = first["data"][-1]["id"]
        second = (await api.get("/jobs", params={"limit": 3, "after": after})).json()

    listed = [job["id"] for job in first["data"] + second["data"]]
    assert listed == made[::-1]
    assert (first["has_more"], second["has_more"]) == (True, False)
    assert all(job["model"] == MODEL for job in first["data"])
    assert not any("result" in job for job in first["data"])


async def test_jobs_of_others_look_like_none(
    stack: RunningStack, api: httpx.AsyncClient, make_key: MakeKey
) -> None:
    """404 to read and to cancel, and absent from the list."""
    mine = (await api.post("/jobs", json=chat("secret"))).json()["id"]
    stranger = make_key("jobs-stranger")
    async with jobs_client(stack.api_url, stranger.key) as other:
        answers = [
            await other.get(f"/jobs/{mine}"),
            await other.delete(f"/jobs/{mine}"),
            await other.get(f"/jobs/{uuid.uuid4()}"),
            await other.get("/jobs/nonsense"),
        ]
        listed = (await other.get("/jobs")).json()

    assert [answer.status_code for answer in answers] == [404] * 4
    assert listed["data"] == []
    assert (await until_ended(api, mine))["status"] == "completed"


async def test_a_request_that_is_no_job_is_not_found_as_one(api: httpx.AsyncClient) -> None:
    """Its answer was given; nothing is kept."""
    answer = await api.post("/chat/completions", json=chat("hello"))

    assert (await api.get(f"/jobs/{answer.headers['x-request-id']}")).status_code == 404


async def test_a_job_with_an_idempotency_key_is_made_once(
    api: httpx.AsyncClient, oracle: Oracle
) -> None:
    """The second promise is that of the first."""
    headers = {"Idempotency-Key": uuid.uuid4().hex}
    first, second = [await api.post("/jobs", json=chat("once"), headers=headers) for _ in range(2)]
    other = await api.post("/jobs", json=chat("twice"), headers=headers)

    assert (first.status_code, second.status_code) == (202, 202)
    assert first.content == second.content
    assert second.headers["idempotent-replayed"] == "true"
    assert other.status_code == 422
    await until_ended(api, first.json()["id"])
    assert len(oracle.calls_of([first.json()["id"]])) == 1


async def test_the_log_alone_knows_the_result(
    stack: RunningStack, api: httpx.AsyncClient, grant: Grant
) -> None:
    """Outcomes are found by the time in the id, when bus and ledger have forgotten them."""
    made = [(await api.post("/jobs", json=chat(f"kept {n}"))).json()["id"] for n in range(3)]
    jobs = [await until_ended(api, job_id) for job_id in made]
    now_ms = int(time.time() * 1000)
    lookup = OutcomeLookup(stack.kafka)
    try:
        for job in jobs:
            accepted = await lookup.find_accepted(grant.org, job["id"], now_ms)
            assert isinstance(accepted, InLog)
            assert accepted.is_in_time
            outcome = await _outcome(lookup, grant.org, job["id"])
            assert json.loads(outcome.result or b"") == job["result"]
        never = uuid7(now_ms - 2_000, bytes(10))
        assert await lookup.find_accepted(grant.org, never, now_ms - 1_000) == Absent()
    finally:
        await lookup.stop()


async def _outcome(lookup: OutcomeLookup, org: str, job_id: str) -> RequestFinished:
    """Once it is in the log: the frame may be a moment earlier."""
    end_s = time.monotonic() + DONE_WITHIN_S
    while time.monotonic() < end_s:
        found = await lookup.find_outcome(org, job_id)
        if isinstance(found, RequestFinished):
            return found
        await asyncio.sleep(0.1)
    raise AssertionError(f"the log has no outcome of {job_id}")


@pytest.mark.parametrize("path", ["/chat/completions", "/inference"])
async def test_a_slow_request_becomes_a_job_when_the_client_prefers_it(
    api: httpx.AsyncClient, path: str
) -> None:
    """202 after `wait`; the same request answered in time is a plain 200."""
    slow, quick = steer(delay_ms=2_500, output_tokens=2), "hello"
    headers = {"Prefer": "respond-async, wait=1"}

    def body(content: str) -> dict[str, Any]:
        if path == "/inference":
            return {"request_id": str(uuid.uuid4()), "model": MODEL, "payload": content}
        return chat(content)

    began_s = time.monotonic()
    promise = await api.post(path, json=body(slow), headers=headers)
    waited_s = time.monotonic() - began_s
    answer = await api.post(path, json=body(quick), headers=headers)

    assert promise.status_code == 202, promise.text
    assert promise.headers["preference-applied"] == "respond-async"
    assert 0.9 < waited_s < 2.4
    assert answer.status_code == 200, answer.text
    job_id = promise.headers["location"].rpartition("/")[2]
    assert (await until_ended(api, job_id))["status"] == "completed"


async def test_without_the_preference_there_is_no_202(api: httpx.AsyncClient) -> None:
    """An SDK would read it as an empty completion."""
    content = steer(delay_ms=1_200, output_tokens=2)
    answer = await api.post("/chat/completions", json=chat(content), headers={"Prefer": "wait=1"})

    assert answer.status_code == 200


BAD_JOBS: list[tuple[dict[str, Any], str]] = [
    ({"ttl_s": 0}, "ttl_s"),
    ({"ttl_s": 601}, "ttl_s"),
    ({"ttl_s": "60"}, "ttl_s"),
    ({"stream": True}, "stream"),
    ({"payload": "and messages"}, "payload"),
    ({"parameters": {"model": "other"}}, "parameters.model"),
    ({"messages": []}, "messages"),
]


@pytest.mark.parametrize(("change", "param"), BAD_JOBS)
async def test_a_bad_job_is_refused_at_once(
    api: httpx.AsyncClient, change: dict[str, Any], param: str
) -> None:
    """A problem document that names the field."""
    answer = await api.post("/jobs", json={**chat("hello"), **change})

    assert answer.status_code == 400, answer.text
    assert answer.json()["param"] == param
    assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize(
    "query", [{"limit": "0"}, {"limit": "101"}, {"limit": "x"}, {"after": "x"}]
)
async def test_a_bad_page_is_refused(api: httpx.AsyncClient, query: dict[str, str]) -> None:
    """400 that names the parameter."""
    answer = await api.get("/jobs", params=query)

    assert (answer.status_code, answer.json()["param"]) == (400, next(iter(query)))
