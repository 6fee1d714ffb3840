"""Requests with an idempotency key, end to end over a log, a bus and a ledger in memory."""

from __future__ import annotations

import asyncio
import uuid
from typing import Any

import httpx
import msgspec
import pytest

from ingress.gatekeeper.gatekeeper import Gatekeeper
from ingress.http.refusals import Refusal
from ingress.requests.claims import Acquired, ClaimRequest, Claims
from schemas.codec import encode
from schemas.errors import ErrorCode
from schemas.events import Said
from schemas.frames import Chunk, Started, Terminal, Usage
from schemas.ledger.model.attempts import Attempt
from tests.support.events_told import without_ids
from tests.support.gateway import Gateway
from tests.support.outcomes import OUTCOME

CHUNKS = (Started("b1", ()), Chunk(b"data: 1\n\n"), Terminal(200))


async def _post(gateway: Gateway, content: str = "hi", **fields: Any) -> httpx.Response:
    headers = {"idempotency-key": "mine", **fields.pop("headers", {})}
    body = {"model": "echo", "messages": [{"role": "user", "content": content}], **fields}
    return await gateway.client.post("/v1/chat/completions", json=body, headers=headers)


async def test_a_finished_request_is_answered_again_and_not_produced() -> None:
    """Under the id of the first, with the same body."""
    gateway = Gateway()
    gateway.log.worker = lambda _: (Terminal(200, body=b'{"id": "c"}', backend="b1"),)
    first, second = await _post(gateway), await _post(gateway)

    assert len(gateway.log.records) == 1
    assert (second.status_code, second.content) == (200, first.content)
    assert second.headers["x-request-id"] == first.headers["x-request-id"]
    assert "idempotent-replayed" not in first.headers
    assert second.headers["idempotent-replayed"] == "true"


async def test_the_event_carries_the_key_and_keeps_its_result() -> None:
    """So that any ingress can replay it for a day."""
    gateway = Gateway()
    await _post(gateway)
    await gateway.chat()

    keyed, plain = gateway.log.accepted
    assert keyed.keep_result
    assert keyed.idempotency_hash is not None
    assert len(keyed.idempotency_hash) == 64
    assert (plain.keep_result, plain.idempotency_hash) == (False, None)


async def test_requests_at_the_same_time_share_the_answer() -> None:
    """One is produced, the others listen to its frames."""
    gateway = Gateway()
    gateway.log.worker = lambda _: ()
    asking = [asyncio.create_task(_post(gateway)) for _ in range(3)]
    await gateway.log.arrived.wait()
    first = gateway.log.accepted[0]
    gateway.ledger.model.attempts[first.org, first.request_id] = Attempt("RUNNING")
    async with asyncio.timeout(2):
        while len(gateway.pending) < 3:  # noqa: ASYNC110  # they look again by themselves
            await asyncio.sleep(0.01)
    gateway.log.worker = lambda _: (Terminal(200, body=b"shared"),)
    gateway.log.work(gateway.log.accepted[0])

    answers = await asyncio.gather(*asking)

    assert [answer.content for answer in answers] == [b"shared"] * 3
    assert len(gateway.log.records) == 1
    assert len(gateway.pending) == 0


async def test_a_stream_is_replayed_from_its_frames() -> None:
    """All of them, from the first."""
    gateway = Gateway()
    gateway.log.worker = lambda _: CHUNKS
    first = await _post(gateway, stream=True)
    reader = asyncio.create_task(gateway.upkeep.catch_up_forever())
    second = await _post(gateway, stream=True)
    reader.cancel()

    assert second.content == first.content
    assert without_ids(first.content) == b"data: 1\n\ndata: [DONE]\n\n"
    assert second.headers["idempotent-replayed"] == "true"


async def test_without_frames_the_outcome_is_the_answer() -> None:
    """Of a stream it would be an empty one, so that is an error with its own code."""
    for stream, status in ((False, 200), (True, 502)):
        gateway = Gateway()
        first = await _post(gateway, stream=stream)
        gateway.bus.streams.clear()
        scope = ("acme", first.headers["x-request-id"])
        gateway.ledger.model.attempts[scope] = Attempt("FINISHED", outcome=encode(OUTCOME))

        answer = await _post(gateway, stream=stream)

        assert answer.status_code == status
        assert len(gateway.log.records) == 1


async def test_a_billed_refusal_by_a_backend_is_replayed_from_its_outcome_with_all_it_named() -> (
    None
):
    """Programs act on code and param, whichever of the two answers they got."""
    said = Said("context_length_exceeded", "messages", "invalid_request_error")
    code, usage = ErrorCode.UPSTREAM_REJECTED, Usage(10, 14, 12, estimated=True)
    gateway = Gateway()
    gateway.log.worker = lambda _: (
        Terminal(400, error_code=code, error_message="too long", usage=usage, said=said),
    )
    first = await _post(gateway)
    gateway.bus.streams.clear()
    outcome = msgspec.structs.replace(
        OUTCOME,
        status="failed",
        http_status=400,
        error_code=code,
        error_message="too long",
        result=None,
        said=said,
    )
    scope = ("acme", first.headers["x-request-id"])
    gateway.ledger.model.attempts[scope] = Attempt("FINISHED", outcome=encode(outcome))
    second = await _post(gateway)

    assert first.json()["error"]["param"] == "messages"
    assert (second.status_code, second.content) == (400, first.content)
    assert second.headers["idempotent-replayed"] == "true"
    assert len(gateway.log.records) == 1


async def test_another_body_is_refused() -> None:
    """422, and nothing is produced for it."""
    gateway = Gateway()
    await _post(gateway)
    answer = await _post(gateway, "something else")

    assert answer.status_code == 422
    assert answer.json()["error"]["code"] == "idempotency_key_reused"
    assert len(gateway.log.records) == 1


async def test_a_client_that_will_not_wait_is_told_that_it_runs() -> None:
    """409 with a hint."""
    gateway = Gateway()
    gateway.log.worker = lambda _: ()
    asking = asyncio.create_task(_post(gateway))
    await gateway.log.arrived.wait()
    answer = await _post(gateway, headers={"prefer": "wait=0"})
    asking.cancel()

    assert (answer.status_code, answer.headers["retry-after"]) == (409, "1")
    assert answer.json()["error"]["code"] == "idempotency_in_flight"


async def test_a_refusal_gives_the_key_back() -> None:
    """So does a failure that cost nothing; one that was billed is replayed."""
    refused = Terminal(429, error_code="RATE_LIMIT_EXCEEDED")
    unused = Terminal(502, error_code="upstream_error", usage=Usage(0, 0, 0, estimated=False))
    billed = Terminal(502, error_code="upstream_error", usage=Usage(1, 0, 9, estimated=False))
    for end, produced in ((refused, 2), (unused, 2), (billed, 1)):
        gateway = Gateway()
        gateway.log.worker = lambda _, end=end: (end,)  # type: ignore[misc]
        await _post(gateway)
        await _post(gateway)

        assert len(gateway.log.records) == produced


async def test_a_request_that_cannot_be_queued_is_cancelled_and_gives_its_key_back() -> None:
    """A record that arrives late all the same must not run."""
    gateway = Gateway()
    gateway.log.is_away = True
    first = await _post(gateway)
    await gateway.cancellations.finish()
    gateway.log.is_away = False
    second = await _post(gateway)

    assert (first.status_code, second.status_code) == (503, 200)
    scope = ("acme", first.headers["x-request-id"])
    assert gateway.ledger.model.attempts[scope].state == "CANCELLED"
    assert second.headers["x-request-id"] != first.headers["x-request-id"]


async def test_a_request_that_never_reached_the_log_is_produced_under_its_id() -> None:
    """With its deadline; its ingress died between claim and produce."""
    gateway = Gateway()
    gateway.log.worker = lambda _: ()
    asking = asyncio.create_task(_post(gateway))
    await gateway.log.arrived.wait()
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)
    gateway.log.worker = lambda _: (Terminal(200, body=b"late"),)
    gateway.ledger.now_ms += 10_000

    answer = await _post(gateway)

    first, second = gateway.log.accepted
    assert answer.content == b"late"
    assert answer.headers["x-request-id"] == second.request_id == first.request_id
    assert second.deadline_ms == first.deadline_ms


async def test_the_clients_own_id_of_a_native_request_is_a_key() -> None:
    """A header, where there is one, is the key instead."""
    gateway = Gateway()
    gateway.log.worker = lambda _: (Terminal(200, body=b'{"choices": [{"message": {}}]}'),)
    body = {"request_id": str(uuid.uuid4()), "model": "echo", "payload": "hi"}
    for _ in range(2):
        await gateway.client.post("/v1/inference", json=body)
    assert len(gateway.log.records) == 1

    await gateway.client.post("/v1/inference", json=body, headers={"idempotency-key": "k"})
    assert len(gateway.log.records) == 2


async def test_without_the_ledgers_word_no_key_is_taken() -> None:
    """It might be a second execution; requests without a key do not need it."""
    gateway = Gateway()
    gateway.ledger.fails_with_defect = True
    keyed, plain = await _post(gateway), await gateway.chat()

    assert (keyed.status_code, plain.status_code) == (500, 200)
    assert len(gateway.log.records) == 1


async def test_an_organization_has_as_many_keys_as_are_remembered() -> None:
    """One more is refused with its limit; a key that is known is still answered."""
    gateway = Gateway(idempotency_keys_max=1)
    first = await _post(gateway)
    second = await _post(gateway, headers={"idempotency-key": "other"})
    again = await _post(gateway)

    assert (first.status_code, again.status_code) == (200, 200)
    assert (second.status_code, second.json()["limit_type"]) == (429, "rate_limit")
    assert int(second.headers["retry-after"]) > 0
    assert second.headers["x-should-retry"] == "false"


@pytest.mark.parametrize(("is_takeover", "produced"), [(True, 1), (False, 0)])
async def test_what_is_taken_over_is_produced_although_it_will_be_refused(
    monkeypatch: pytest.MonkeyPatch, is_takeover: bool, produced: int
) -> None:
    """A record of its holder that comes late gives way to the new one: without it there is no outcome."""
    gateway = Gateway()
    gateway.log.worker = lambda _: (Terminal(402, error_code=ErrorCode.BUDGET_EXCEEDED),)

    async def claim(_: Claims, wanted: ClaimRequest) -> Acquired:
        return Acquired("another" if is_takeover else wanted.request_id, wanted.deadline_ms)

    def refuse_all(*_: Any, **__: Any) -> Refusal:
        return Refusal(ErrorCode.BUDGET_EXCEEDED, "spent")

    monkeypatch.setattr(Claims, "claim", claim)
    monkeypatch.setattr(Gatekeeper, "refuse", refuse_all)
    answer = await _post(gateway)

    assert answer.status_code == 402
    assert len(gateway.log.records) == produced
