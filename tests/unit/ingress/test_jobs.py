"""Jobs and preferences, end to end over a log, a bus and a ledger in memory."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest

from schemas.events import Denial, RecordRef
from schemas.frames import Frame, Terminal, Usage
from schemas.ids import uuid7
from schemas.ledger import answers
from schemas.ledger.model.attempts import Attempt
from schemas.ledger.model.ledger import LedgerModel
from schemas.outgoing import Outgoing
from tests.support.configuration import NOW_MS
from tests.support.gateway import Gateway

CHAT: dict[str, Any] = {"model": "echo", "messages": [{"role": "user", "content": "hi"}]}
DONE = Terminal(200, body=b'{"id": "c"}', backend="b1", usage=Usage(5, 7, 12_000, estimated=False))


async def _submit(gateway: Gateway, **headers: str) -> httpx.Response:
    return await gateway.client.post("/v1/jobs", json=CHAT, headers=headers)


def _without_worker() -> Gateway:
    gateway = Gateway()
    gateway.log.worker = lambda _: ()
    return gateway


def _end(gateway: Gateway, job_id: str, terminal: Terminal) -> None:
    gateway.bus.streams[job_id] = [Frame(job_id, 1, 1, terminal)]


@pytest.fixture
def brief_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing here ever reaches a worker, and a repetition would wait for that."""
    monkeypatch.setattr("ingress.requests.claims._SEEN_WITHIN_S", 0.1)


async def test_a_job_is_produced_for_nobody_and_kept() -> None:
    """No ingress waits for it, any can tell of it."""
    gateway = _without_worker()
    promise = await _submit(gateway)

    (accepted,) = gateway.log.accepted
    job = promise.json()
    assert (promise.status_code, job["id"], job["status"]) == (202, accepted.request_id, "queued")
    assert promise.headers["location"] == f"/v1/jobs/{accepted.request_id}"
    assert promise.headers["retry-after"] == "2"
    assert (accepted.reply_to, accepted.keep_result, accepted.route) == (None, True, "jobs")
    assert accepted.deadline_ms == NOW_MS + 600_000
    assert job["created_at"] == NOW_MS // 1000


async def test_a_job_is_listed_again_when_the_ledger_was_rebuilt_while_it_was_produced() -> None:
    """The rebuild has read the log before it was there."""
    gateway = _without_worker()
    send = gateway.log.send

    def lose_first(record: Outgoing) -> asyncio.Future[RecordRef]:
        gateway.ledger.model = LedgerModel(2)
        return send(record)

    gateway.log.send = lose_first  # type: ignore[method-assign]
    promise = await _submit(gateway)
    listed = await gateway.client.get("/v1/jobs")

    assert promise.status_code == 202
    assert [each["id"] for each in listed.json()["data"]] == [promise.json()["id"]]


@pytest.mark.parametrize(("kept_missing", "status"), [(True, 503), (False, 404)])
async def test_nobody_is_told_that_there_is_no_such_job_while_jobs_are_not_back(
    monkeypatch: pytest.MonkeyPatch, kept_missing: bool, status: int
) -> None:
    """After the ledger was lost they are for a while; then the client is to come again."""
    gateway = _without_worker()

    async def look(*_: object) -> answers.Look:
        return answers.Look(state="", kept_missing=kept_missing)

    monkeypatch.setattr(gateway.ledger, "look", look)
    told = await gateway.client.get(f"/v1/jobs/{uuid7(NOW_MS, bytes(10))}")

    assert told.status_code == status
    assert ("retry-after" in told.headers) is kept_missing


async def test_a_job_is_followed_to_its_result() -> None:
    """queued, running, completed; a hint when to ask again as long as it is open."""
    gateway = _without_worker()
    job_id = (await _submit(gateway)).json()["id"]
    path, seen = f"/v1/jobs/{job_id}", []
    for state in ("", "RESERVED", "RUNNING"):
        if state:
            gateway.ledger.model.attempts["acme", job_id] = Attempt(state)
        answer = await gateway.client.get(path)
        seen.append((answer.json()["status"], answer.headers.get("retry-after")))
    _end(gateway, job_id, DONE)
    answer = await gateway.client.get(path)

    job = answer.json()
    assert seen == [("queued", "2"), ("queued", "2"), ("running", "2")]
    assert "retry-after" not in answer.headers
    assert (job["status"], job["result"], job["backend"]) == ("completed", {"id": "c"}, "b1")
    assert job["cost_usd"] == "0.000012000"
    assert job["usage"]["total_tokens"] == 12


async def test_a_refused_job_tells_its_limit() -> None:
    """The fields of a refusal, inside the job."""
    gateway = _without_worker()
    job_id = (await _submit(gateway)).json()["id"]
    denial = Denial(
        limit_id="b", limit_type="budget", unit="nano_usd", current_usage=5 * 10**8, limit=10**9
    )
    _end(gateway, job_id, Terminal(402, error_code="BUDGET_EXCEEDED", denial=denial))

    job = (await gateway.client.get(f"/v1/jobs/{job_id}")).json()

    assert job["status"] == "failed"
    assert (job["error"]["code"], job["error"]["status"]) == ("BUDGET_EXCEEDED", 402)
    assert (job["error"]["limit_type"], job["error"]["current_usage"]) == ("budget", 0.5)


async def test_cancelling_rings_the_owner_of_a_running_job() -> None:
    """It is still running until its owner has ended it."""
    gateway = _without_worker()
    job_id = (await _submit(gateway)).json()["id"]
    running = Attempt("RUNNING", owner="dispatcher-1/ab")
    gateway.ledger.model.attempts["acme", job_id] = running

    answer = await gateway.client.delete(f"/v1/jobs/{job_id}")

    assert (answer.status_code, answer.json()["status"]) == (200, "running")
    assert gateway.bus.rung == [("dispatcher-1/ab", job_id)]


async def test_a_job_that_has_not_begun_is_cancelled_at_once() -> None:
    """Nobody has to be told."""
    gateway = _without_worker()
    job_id = (await _submit(gateway)).json()["id"]

    answer = await gateway.client.delete(f"/v1/jobs/{job_id}")

    assert (answer.status_code, answer.json()["status"]) == (200, "cancelled")
    assert gateway.bus.rung == []


async def test_only_ones_own_jobs_exist() -> None:
    """A request that is no job is none either."""
    gateway = _without_worker()
    foreign = uuid7(NOW_MS, b"0123456789")
    gateway.ledger.model.attempts["acme", foreign] = Attempt("RUNNING")

    for job_id in (foreign, "nonsense", "42"):
        for method in ("GET", "DELETE"):
            answer = await gateway.client.request(method, f"/v1/jobs/{job_id}")
            assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
    assert not gateway.ledger.model.attempts["acme", foreign].cancel


async def test_jobs_are_listed_in_pages_without_results() -> None:
    """Newest first."""
    gateway = _without_worker()
    made = [(await _submit(gateway)).json()["id"] for _ in range(3)]
    ends = '[200,"b1",[5,7,12000,false]]'
    gateway.ledger.model.attempts["acme", made[0]] = Attempt("FINISHED", ends=ends)
    first = (await gateway.client.get("/v1/jobs?limit=2")).json()
    last = first["data"][-1]["id"]
    second = (await gateway.client.get(f"/v1/jobs?limit=2&after={last}")).json()

    listed = first["data"] + second["data"]
    assert [job["id"] for job in listed] == sorted(made, reverse=True)
    assert (first["has_more"], second["has_more"]) == (True, False)
    (done,) = [job for job in listed if job["id"] == made[0]]
    assert (done["status"], done["backend"]) == ("completed", "b1")
    assert done["cost_usd"] == "0.000012000"
    assert done["usage"]["total_tokens"] == 12
    assert not any("result" in job for job in listed)
    assert (gateway.bus.reads, gateway.traces.reads, gateway.records.reads) == (0, 0, 0)


LISTED = [
    (Attempt("RUNNING"), "running", None),
    (Attempt("RESTORED"), "running", None),
    (Attempt("RESERVED"), "queued", None),
    (Attempt("REFUSED"), "queued", None),
    (
        Attempt("REFUSED", ends='[402,null,null,"BUDGET_EXCEEDED","spent"]'),
        "failed",
        "BUDGET_EXCEEDED",
    ),
    (Attempt("CANCELLED"), "cancelled", "request_cancelled"),
    (Attempt("VOIDED"), "expired", "deadline_exceeded"),
    (Attempt("UNKNOWN"), "failed", "upstream_interrupted"),
    (Attempt("UNKNOWN", ends="junk"), "failed", "upstream_interrupted"),
    (
        Attempt("FINISHED", ends='[504,null,null,"deadline_exceeded"]'),
        "expired",
        "deadline_exceeded",
    ),
]


@pytest.mark.parametrize(("attempt", "status", "code"), LISTED)
async def test_a_list_tells_of_every_state(attempt: Attempt, status: str, code: str | None) -> None:
    """A refusal whose reason is not booked yet is on its way."""
    gateway = _without_worker()
    job_id = (await _submit(gateway)).json()["id"]
    gateway.ledger.model.attempts["acme", job_id] = attempt

    (job,) = (await gateway.client.get("/v1/jobs")).json()["data"]

    assert job["status"] == status
    assert job.get("error", {}).get("code") == code


async def test_a_list_tells_the_limit_that_refused_a_job() -> None:
    """With the fields that the job itself has."""
    gateway = _without_worker()
    job_id = (await _submit(gateway)).json()["id"]
    denial = '{"limit_id":"b","limit_type":"budget","unit":"nano_usd","current_usage":5,"limit":10}'
    ends = f'[402,null,null,"BUDGET_EXCEEDED","spent",{denial}]'
    gateway.ledger.model.attempts["acme", job_id] = Attempt("REFUSED", ends=ends)

    (job,) = (await gateway.client.get("/v1/jobs")).json()["data"]

    assert (job["error"]["limit_type"], job["error"]["limit"]) == ("budget", 0.00000001)


async def test_an_organization_has_as_many_jobs_as_are_remembered(
    brief_patience: None,
) -> None:
    """One more is refused with its limit; a repeated one is the same one."""
    gateway = Gateway(jobs_max=2)
    gateway.log.worker = lambda _: ()
    first = await _submit(gateway, **{"idempotency-key": "k"})
    await _submit(gateway)
    third = await _submit(gateway)
    again = await _submit(gateway, **{"idempotency-key": "k"})

    assert (third.status_code, third.json()["limit_type"]) == (429, "rate_limit")
    assert (third.json()["current_usage"], third.json()["limit"]) == (2, 2)
    assert int(third.headers["retry-after"]) > 0
    assert again.json()["id"] == first.json()["id"]
    assert len(gateway.log.records) == 2


async def test_no_job_is_promised_that_the_log_does_not_have() -> None:
    """503, and what may arrive late is cancelled."""
    gateway = Gateway()
    gateway.log.is_away = True
    answer = await _submit(gateway)
    await gateway.cancellations.finish()

    assert (answer.status_code, answer.headers["retry-after"]) == (503, "2")
    scope = ("acme", answer.headers["x-request-id"])
    assert gateway.ledger.model.attempts[scope].state == "CANCELLED"


async def test_a_repeated_job_is_promised_in_the_same_words(
    brief_patience: None,
) -> None:
    """It is produced once."""
    gateway = _without_worker()
    first = await _submit(gateway, **{"idempotency-key": "k"})
    second = await _submit(gateway, **{"idempotency-key": "k"})

    assert first.content == second.content
    assert second.headers["idempotent-replayed"] == "true"
    assert len(gateway.log.records) == 1


async def test_a_slow_request_becomes_a_job_if_its_client_prefers() -> None:
    """At once, unless it says how long it wants to wait."""
    gateway = _without_worker()
    promise = await gateway.client.post(
        "/v1/chat/completions", json=CHAT, headers={"prefer": "respond-async"}
    )

    job_id = gateway.log.accepted[0].request_id
    assert promise.status_code == 202
    assert promise.headers["location"] == f"/v1/jobs/{job_id}"
    assert promise.headers["preference-applied"] == "respond-async"
    assert gateway.log.accepted[0].keep_result
    assert (await gateway.client.get(f"/v1/jobs/{job_id}")).json()["status"] == "queued"
    assert len(gateway.pending) == 0


async def test_an_answer_in_time_is_an_answer() -> None:
    """Also when it was given before anybody listened."""
    gateway = Gateway()
    gateway.log.worker = lambda _: (DONE,)
    reader = asyncio.create_task(gateway.upkeep.catch_up_forever())
    answer = await gateway.client.post(
        "/v1/chat/completions", json=CHAT, headers={"prefer": "respond-async, wait=20"}
    )
    reader.cancel()

    assert (answer.status_code, answer.content) == (200, DONE.body)
    assert "preference-applied" not in answer.headers


async def test_a_stream_is_never_a_job() -> None:
    """The preference is ignored, as it may be."""
    gateway = Gateway()
    answer = await gateway.client.post(
        "/v1/chat/completions", json={**CHAT, "stream": True}, headers={"prefer": "respond-async"}
    )

    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/event-stream")


@pytest.mark.parametrize("query", ["limit=0", "limit=101", "limit=x", "limit=²", "after=x"])
async def test_a_bad_page_is_refused(query: str) -> None:
    """By the parameter's name."""
    answer = await Gateway().client.get(f"/v1/jobs?{query}")

    assert (answer.status_code, answer.json()["param"]) == (400, query.partition("=")[0])
