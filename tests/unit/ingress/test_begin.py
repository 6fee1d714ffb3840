"""Requests that are begun by anybody: no HTTP is spoken here."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from ingress.apis.bindings import BINDINGS
from ingress.auth.caller import Caller
from ingress.gatekeeper.bodies import BodyHold
from ingress.http.refusals import Refusal
from ingress.http.request import Preference
from ingress.requests.begin import BegunRequest
from ingress.requests.validation import Circumstances, ValidatedRequest, validate
from schemas.events import RecordRef
from schemas.frames import Terminal
from schemas.ids import uuid7
from schemas.ledger.model.attempts import Attempt
from schemas.operations import OPERATIONS
from schemas.reports import Excess
from tests.support.configuration import NOW_MS, snapshot
from tests.support.gateway import Gateway

CALLER = Caller("key_a", "acme", None, None, None)
BODY = json.dumps({"model": "echo", "messages": [{"role": "user", "content": "hi"}]}).encode()
FIRST, SECOND = uuid7(NOW_MS, b"0" * 10), uuid7(NOW_MS, b"1" * 10)


def _request(name: str = "chat.completions", key: str | None = None) -> ValidatedRequest:
    said = Circumstances(60_000, 60_000, key, Preference(), None)
    parse = BINDINGS[name].parse
    request = validate(OPERATIONS[name], parse, CALLER, said, BODY, snapshot(), NOW_MS)
    assert isinstance(request, ValidatedRequest)
    return request


async def _begin(
    gateway: Gateway, request: ValidatedRequest, request_id: str = FIRST
) -> BegunRequest | Refusal:
    room = await gateway.gatekeeper.bodies.take("acme", len(BODY))
    assert isinstance(room, BodyHold)
    return await gateway.public.starter.begin(request, request_id, room, asyncio.Event().wait)


async def _begun(
    gateway: Gateway, request: ValidatedRequest, request_id: str = FIRST
) -> BegunRequest:
    begun = await _begin(gateway, request, request_id)
    assert isinstance(begun, BegunRequest)
    return begun


async def _state_of(gateway: Gateway, request_id: str) -> str:
    await gateway.cancellations.finish()
    attempt = gateway.ledger.model.attempts.get(("acme", request_id))
    return "" if attempt is None else attempt.state


async def test_a_begun_request_has_its_answer_in_its_mailbox() -> None:
    """Once it was told, nothing of it is left: no wait, and no room that its body takes."""
    gateway = Gateway()
    with await _begun(gateway, _request()) as begun:
        assert begun.mailbox is not None
        terminal = await begun.mailbox.take_terminal()
        assert terminal is not None
        await begun.settle(terminal)

    assert (terminal.http_status, begun.request_id, begun.earlier) == (200, FIRST, None)
    assert (len(gateway.pending), gateway.gatekeeper.bodies.held_bytes) == (0, 0)
    assert await _state_of(gateway, FIRST) == ""


async def test_a_request_holds_what_backends_of_its_model_lately_used_beyond_bounds() -> None:
    """From the next one on."""
    gateway, request = Gateway(), _request()
    gateway.conditions.excess = {"echo": Excess(700, 30)}
    with await _begun(gateway, request):
        pass

    (accepted,), call = gateway.log.accepted, request.parsed.call
    assert accepted.input_tokens_bound == call.input_tokens_bound + 700
    assert accepted.output_tokens_bound == call.output_tokens_bound + 30


async def test_who_leaves_before_the_end_leaves_nothing_running() -> None:
    """Whatever the reason was."""
    gateway = Gateway()
    gateway.log.worker = lambda _: ()
    with pytest.raises(ZeroDivisionError), await _begun(gateway, _request()):
        raise ZeroDivisionError

    assert await _state_of(gateway, FIRST) == "CANCELLED"
    assert len(gateway.pending) == 0


async def test_who_leaves_a_request_with_a_key_leaves_it_running() -> None:
    """The next try gets its answer: it joins."""
    gateway = Gateway()
    gateway.log.worker = lambda _: ()
    with await _begun(gateway, _request(key="k")):
        gateway.ledger.model.attempts["acme", FIRST] = Attempt("RUNNING")
    with await _begun(gateway, _request(key="k"), SECOND) as joined:
        gateway.log.worker = lambda _: (Terminal(200, body=b"{}"),)
        gateway.log.work(gateway.log.accepted[0])
        assert joined.mailbox is not None
        terminal = await joined.mailbox.take_terminal()

    assert terminal is not None
    assert (joined.request_id, joined.earlier is not None) == (FIRST, True)
    assert len(gateway.log.records) == 1
    assert await _state_of(gateway, FIRST) == "RUNNING"


async def test_what_keeps_its_result_is_in_the_log_before_it_is_begun() -> None:
    """Nobody waits for it, so it has no mailbox."""
    gateway = Gateway()
    with await _begun(gateway, _request("jobs")) as begun:
        assert begun.mailbox is None

    (accepted,) = gateway.log.accepted
    assert (accepted.background, accepted.keep_result, accepted.reply_to) == (True, True, None)
    assert await _state_of(gateway, FIRST) == ""


async def test_background_work_that_is_given_up_on_its_way_is_cancelled(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The broker may have it all the same; nobody was promised it."""
    gateway = Gateway()

    def never(_: Any) -> asyncio.Future[RecordRef]:
        gateway.log.arrived.set()
        return asyncio.get_running_loop().create_future()

    monkeypatch.setattr(gateway.log, "send", never)
    beginning = asyncio.create_task(_begin(gateway, _request("jobs")))
    await gateway.log.arrived.wait()
    beginning.cancel()
    await asyncio.wait([beginning])

    assert beginning.cancelled()
    assert await _state_of(gateway, FIRST) == "CANCELLED"


async def test_a_refusal_tells_which_request_it_is_about() -> None:
    """That of a key is its holder's, which was cancelled as it did not reach the log in time."""
    gateway = Gateway()
    gateway.log.is_away = True

    refusal = await _begin(gateway, _request("jobs"))

    assert isinstance(refusal, Refusal)
    assert (refusal.status, refusal.request_id) == (503, FIRST)
