"""What ingress refuses by itself, before the body is read and before the log."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import msgspec
import pytest

from schemas.config_state import Snapshot
from schemas.entities import Budget, Limits, Organization
from schemas.errors import ErrorCode
from schemas.events import Denial
from schemas.frames import Terminal
from tests.support.gateway import Gateway
from tests.support.samples import sample

SPENT = Terminal(
    402,
    error_code="BUDGET_EXCEEDED",
    error_message="Budget spent: org:budget:total",
    denial=Denial(
        limit_id="org:budget:total",
        limit_type="budget",
        unit="nano_usd",
        current_usage=1_000_000_000,
        limit=1_000_000_000,
    ),
)
SHED = Terminal(503, error_code="server_is_overloaded", retry_after_ms=700)


def _limited(gateway: Gateway, **limits: Any) -> None:
    """Give the organization of the test configuration limits of its own."""
    organizations = {"acme": Organization(limits=Limits(**limits))}
    config = gateway.config
    config.snapshot = replace(config.snapshot, organizations=MappingProxyType(organizations))


def _with_offset(gateway: Gateway, offset: int) -> Snapshot:
    return replace(gateway.config.snapshot, offset=offset)


async def test_an_organization_at_its_share_is_told_so_and_does_not_reach_the_log() -> None:
    """429 with the limit and when to come back; the place is free again afterwards."""
    gateway = Gateway(org_inflight_max=1)
    gateway.log.worker = lambda _: ()
    waiting = asyncio.create_task(gateway.chat())
    await gateway.log.arrived.wait()

    answer = await gateway.chat()
    waiting.cancel()
    await asyncio.wait([waiting])
    gateway.log.worker = lambda _: (Terminal(200, body=b"{}"),)

    assert (answer.status_code, len(gateway.log.records)) == (429, 1)
    assert answer.json()["limit"] == answer.json()["current_usage"] == 1
    assert int(answer.headers["retry-after-ms"]) >= 100
    assert (await gateway.chat()).status_code == 200


async def test_a_spent_budget_is_answered_without_the_log() -> None:
    """The same answer as the ledger's, but for the id."""
    gateway = Gateway()
    gateway.log.worker = lambda _: (SPENT,)

    first, second = await gateway.chat(), await gateway.chat()

    assert len(gateway.log.records) == 1
    assert (first.status_code, first.content) == (second.status_code, second.content)
    assert first.headers["x-should-retry"] == second.headers["x-should-retry"] == "false"
    assert first.headers["x-request-id"] != second.headers["x-request-id"]


async def test_of_many_large_requests_at_once_one_learns_that_the_budget_is_spent() -> None:
    """The others wait for it, and do not reach the log; where no budget is set nobody waits."""
    large = "x" * 1_100_000
    gateway = Gateway()
    _limited(gateway, budgets=(Budget(usd="1", period="total"),))
    gateway.log.worker = lambda _: ()
    asking = [asyncio.create_task(gateway.chat(user=large)) for _ in range(10)]
    await gateway.log.arrived.wait()
    await asyncio.sleep(0.1)
    gateway.log.worker = lambda _: (SPENT,)
    gateway.log.work(gateway.log.accepted[0])
    answers = await asyncio.gather(*asking)

    free = Gateway()
    answers_free = await asyncio.gather(*(free.chat(user=large) for _ in range(10)))

    assert {answer.status_code for answer in answers} == {402}
    assert len(gateway.log.records) == 1
    assert {answer.status_code for answer in answers_free} == {200}
    assert len(free.log.records) == 10


async def test_a_raised_budget_is_seen_at_once() -> None:
    """No verdict holds across a change of the configuration."""
    gateway = Gateway()
    gateway.log.worker = lambda _: (SPENT,)
    await gateway.chat()
    gateway.log.worker = lambda _: (Terminal(200, body=b"{}"),)

    gateway.config.snapshot = _with_offset(gateway, 8)

    assert (await gateway.chat()).status_code == 200


async def test_what_would_fit_later_goes_to_the_ledger_every_time() -> None:
    """CONTENDED is not final."""
    gateway = Gateway()
    contended = msgspec.structs.replace(SPENT, http_status=429, retry_after_ms=50)
    gateway.log.worker = lambda _: (contended,)

    await gateway.chat()
    await gateway.chat()

    assert len(gateway.log.records) == 2


async def test_a_refused_key_is_free_for_the_next_try() -> None:
    """Once there is money again it is a new request, not one in flight."""
    gateway = Gateway()
    gateway.log.worker = lambda _: (SPENT,)
    gateway.client.headers["idempotency-key"] = "k"
    await gateway.chat()
    refused = await gateway.chat()
    gateway.log.worker = lambda _: (Terminal(200, body=b"{}"),)
    gateway.config.snapshot = _with_offset(gateway, 8)

    assert refused.status_code == 402
    assert (await gateway.chat()).status_code == 200


async def test_a_flood_above_twice_the_rate_stays_out_of_the_log() -> None:
    """With the hint of the limit that it meets."""
    gateway = Gateway()
    _limited(gateway, requests_per_s=0.5, burst=3)

    answers = [await gateway.chat() for _ in range(10)]

    assert [answer.status_code for answer in answers] == [200] * 6 + [429] * 4
    refused = answers[6]
    assert refused.json()["limit"] == 1
    assert 0 < int(refused.headers["retry-after-ms"]) <= 1_000 * int(refused.headers["retry-after"])
    assert refused.headers["x-ratelimit-remaining-requests"] == "0"


async def test_a_policy_to_wait_leaves_room_for_those_that_wait() -> None:
    """They are no flood."""
    gateway = Gateway()
    _limited(gateway, requests_per_s=0.5, burst=3, on_limit="defer")

    answers = [await gateway.chat() for _ in range(35)]

    assert {answer.status_code for answer in answers} == {200}


async def test_bytes_above_a_keys_rate_are_refused_before_they_are_read() -> None:
    """A body of unknown size counts once it is read."""
    gateway = Gateway(key_bytes_per_s=1_024)
    long = "x" * 1_500

    first = await gateway.chat(user=long)
    second = await gateway.chat(user=long)

    assert (first.status_code, second.status_code) == (200, 429)
    assert 500 < int(second.headers["retry-after-ms"]) < 2_000


async def test_whoever_floods_is_told_when_the_ledger_has_room_again() -> None:
    """As the ledger itself said it, not as the wider bucket here would have it."""
    gateway = Gateway()
    _limited(gateway, requests_per_s=1, burst=1)
    denial = Denial(
        limit_id="org:requests_per_s",
        limit_type="rate_limit",
        unit="requests",
        current_usage=1,
        limit=1,
        retry_after_ms=4_000,
    )
    limited = Terminal(429, error_code=ErrorCode.RATE_LIMIT_EXCEEDED, denial=denial)
    gateway.log.worker = lambda _: (limited,)

    answers = [await gateway.chat() for _ in range(3)]

    assert [answer.status_code for answer in answers] == [429] * 3
    assert len(gateway.log.records) == 2
    assert 3_500 < int(answers[2].headers["retry-after-ms"]) <= 5_000


@pytest.mark.parametrize("is_job", [False, True], ids=["interactive", "job"])
async def test_the_throttle_holds_interactive_requests_back(
    is_job: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Never background work; with the hint of the dispatchers."""
    monkeypatch.setattr("random.random", lambda: 0.0)
    gateway = Gateway()
    gateway.log.worker = lambda _: (SHED,)
    await gateway.chat()
    body = {"model": "echo", "messages": [{"role": "user", "content": "hi"}]}
    path = "/v1/jobs" if is_job else "/v1/chat/completions"

    answer = await gateway.client.post(path, json=body)

    assert answer.status_code == (202 if is_job else 503)
    assert len(gateway.log.records) == (2 if is_job else 1)
    if not is_job:
        assert answer.headers["retry-after-ms"] == "700"


async def test_every_refusal_of_the_gate_is_kept_for_the_auditors() -> None:
    """By its id, the model where it is known, and never twice."""
    gateway = Gateway()
    gateway.log.worker = lambda _: (SPENT,)
    await gateway.chat()
    refused = [await gateway.chat() for _ in range(2)]

    (event,) = gateway.gatekeeper.tally.take()

    detail = msgspec.json.decode(event.detail)
    assert (event.org, event.actor, detail["code"]) == ("acme", "key_a", "BUDGET_EXCEEDED")
    assert (detail["limit_id"], detail["model"]) == ("org:budget:total", "echo")
    assert detail["request_ids"] == [answer.headers["x-request-id"] for answer in refused]
    asked = gateway.log.accepted[0]
    tokens = asked.input_tokens_bound, asked.output_tokens_bound
    assert (detail["bounds"]["input_tokens"], detail["bounds"]["output_tokens"]) == tokens


async def test_what_the_gate_refuses_by_a_limit_is_a_decision_as_any_other() -> None:
    """Counted by the kind of limit and whose it is."""
    gateway = Gateway()
    gateway.log.worker = lambda _: (SPENT,)
    for _ in range(3):
        await gateway.chat()

    counted = {"verdict": "refused", "limit_type": "budget", "scope": "org"}
    assert sample(gateway.metrics, "tallygate_limit_decisions_total", **counted) == 2
