"""An error that a backend named something in is told again as it was told first, from the outcome alone."""

from __future__ import annotations

import json
from typing import Any, Final, get_args

import msgspec
import pytest
from aiohttp import web

from dispatcher.amounts import TEXT_CHARS_MAX, ending_again, outcome, terminal, without_result
from dispatcher.work import AdmittedRequest, Result
from ingress.apis.answer_format import refusal_of
from ingress.http.refusals import refusal_body
from ingress.requests.job_document import job_document, listed_job
from ingress.requests.outcomes import end_in_outcome
from ingress.requests.request_state import Ended
from schemas.codec import decode_as, encode
from schemas.errors import ErrorCode
from schemas.events import RequestFinished, Said
from schemas.frames import Terminal
from schemas.job_ends import encode_end, end_of
from schemas.job_facts import JobFacts
from schemas.ledger import answers
from schemas.operations import Surface
from tests.support.events import DISPATCHED_AT, NOW_MS, accepted, admitted, attempt
from tests.support.scripted_backend import answering
from tests.unit.dispatcher.dispatch_scene import dispatch_scene

_SAID: Final = Said("context_length_exceeded", "messages", "invalid_request_error")
_REFUSES: Final = answering(
    400,
    json.dumps({"error": {"message": "too long", **msgspec.to_builtins(_SAID)}}).encode(),
)
_FACTS: Final = JobFacts("echo", NOW_MS + 60_000)
_SURFACES: Final[tuple[Surface, ...]] = get_args(Surface)


async def _breaks_off(request: web.Request) -> web.StreamResponse:
    """Takes the request and says nothing: it may have spent."""
    assert request.transport is not None
    await request.read()
    request.transport.abort()
    return web.Response()


def _bodies(end: Terminal) -> list[tuple[bytes, bytes]]:
    """The answer on each surface."""
    refusal = refusal_of(end)
    assert refusal is not None
    return [refusal_body(refusal, surface, "r") for surface in _SURFACES]


def _job(end: Terminal, job_id: str) -> Any:
    return job_document(job_id, _FACTS, Ended(end, is_on_bus=False))


async def test_a_keyed_request_that_was_refused_after_it_had_cost_is_replayed_as_it_was_answered() -> (
    None
):
    """Its key is not free again, so the outcome in the log is all that a replay has."""
    async with dispatch_scene(first=_breaks_off, second=_REFUSES) as scene:
        job = await scene.admitted(idempotency_hash="ab" * 32, fingerprint="cd" * 32)
        await scene.end(job)

    first, (kept,) = scene.bus.end, scene.log.outcomes
    replayed = end_in_outcome(kept)
    assert first.said == _SAID
    assert any(each.cost_nano_usd for each in kept.attempts)
    assert _bodies(replayed) == _bodies(first)
    assert json.loads(_bodies(replayed)[0][1])["error"] == {
        "message": first.error_message,
        **msgspec.to_builtins(_SAID),
        "gateway_code": "upstream_rejected",
    }


async def test_a_job_tells_from_the_log_what_the_bus_told() -> None:
    """By itself and in a list."""
    async with dispatch_scene(first=_REFUSES) as scene:
        job = await scene.admitted(job=_FACTS.encoded())
        await scene.end(job)

    first, (kept,) = scene.bus.end, scene.log.outcomes
    told, job_id = _job(first, job.request.request_id), job.request.request_id
    entry = answers.JobEntry(
        req=job_id, info=_FACTS.encoded(), state="FINISHED", ends=encode_end(end_of(kept))
    )
    assert (told["error"]["upstream_code"], told["error"]["upstream_param"]) == (
        "context_length_exceeded",
        "messages",
    )
    assert _job(end_in_outcome(kept), job_id) == told == listed_job(entry, NOW_MS)


def _ended(said: Said | None) -> tuple[AdmittedRequest, Result, RequestFinished]:
    request = accepted(keep_result=True)
    job = AdmittedRequest(admitted(request), request, DISPATCHED_AT)
    ending = Result(
        "failed",
        ErrorCode.UPSTREAM_RATE_LIMITED,
        http_status=429,
        message="slow down",
        retry_after_ms=9_000,
        said=said,
    )
    finished = outcome(job, [attempt()], ending, 7, NOW_MS)
    return job, ending, decode_as(encode(finished), RequestFinished)


@pytest.mark.parametrize("said", [_SAID, Said(param="n"), None], ids=["all", "one", "nothing"])
def test_whoever_takes_over_tells_what_was_named_but_no_hint_of_its_own_time(
    said: Said | None,
) -> None:
    """Nine seconds that began then are none now; ours of that code stands instead."""
    job, ending, kept = _ended(said)
    again = ending_again(kept, has_chunks=False)

    assert again == msgspec.structs.replace(ending, retry_after_ms=None)
    first, second = (terminal(job, kept.attempts, each, NOW_MS) for each in (ending, again))
    assert _bodies(second) == _bodies(first)


def test_an_outcome_that_names_nothing_spends_one_byte_on_it() -> None:
    """Most say nothing of the kind, and every one is kept for days."""
    plain, named = (encode(_ended(said)[2]) for said in (None, Said()))

    behind = b"\0"  # No response.
    assert named == plain.removesuffix(b"\0" + behind) + b"\x02\0\0\0" + behind


def test_what_was_named_fits_any_broker_too() -> None:
    """Whatever a later reader of backends lets through."""
    huge = msgspec.structs.replace(_ended(None)[2], said=Said("c" * 9_999, None, "t" * 9_999))

    assert without_result(huge).said == Said("c" * TEXT_CHARS_MAX, None, "t" * TEXT_CHARS_MAX)
