"""What is checked of a request before anything is sent anywhere: headers and bytes in, a value out."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any, Final

import pytest

from ingress.apis.bindings import BINDINGS
from ingress.apis.parsed_request import Call, ParsedRequest
from ingress.auth.caller import Caller
from ingress.http.refusals import Refusal
from ingress.http.request import Preference
from ingress.requests.validation import (
    PAYLOAD_BYTES_MAX,
    Circumstances,
    ValidatedRequest,
    accepted_event,
    read_circumstances,
    validate,
    with_excess,
)
from schemas.entities import Organization
from schemas.errors import ErrorCode
from schemas.job_facts import read_facts
from schemas.operations import OPERATIONS
from schemas.reports import Excess
from schemas.webhooks import Webhooks
from tests.support.configuration import NOW_MS, snapshot

CALLER = Caller("key_a", "acme", None, None, None)
CHAT: dict[str, Any] = {"model": "echo", "messages": [{"role": "user", "content": "hi"}]}
JSON = {b"content-type": b"application/json"}


def _said(**changed: Any) -> Circumstances:
    fields: dict[str, Any] = {
        "timeout_ms": 5_000,
        "stream_timeout_ms": 6_000,
        "key": None,
        "preference": Preference(),
        "traceparent": None,
    }
    return Circumstances(**(fields | changed))


def _validated(
    name: str = "chat.completions", said: Circumstances | None = None, **body: Any
) -> Any:
    encoded, parse = json.dumps(CHAT | body).encode(), BINDINGS[name].parse
    said = said or _said()
    return validate(OPERATIONS[name], parse, CALLER, said, encoded, snapshot(), NOW_MS)


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({}, ErrorCode.UNSUPPORTED_MEDIA_TYPE),
        ({**JSON, b"x-request-timeout": b"soon"}, ErrorCode.INVALID_REQUEST),
        ({**JSON, b"idempotency-key": b""}, ErrorCode.INVALID_REQUEST),
        ({**JSON, b"x-tallygate-webhook-url": b"ftp://a/"}, ErrorCode.INVALID_REQUEST),
        ({**JSON, b"x-tallygate-webhook-url": b"https://\xe9/"}, ErrorCode.INVALID_REQUEST),
    ],
    ids=["media", "deadline", "key", "webhook", "webhook of no text"],
)
def test_headers_that_cannot_be_meant_are_refused(
    headers: dict[bytes, bytes], code: ErrorCode
) -> None:
    """Before a body is read."""
    said = read_circumstances(headers, 120, 600)

    assert isinstance(said, Refusal)
    assert said.code is code


_HOOK: Final = "https://hooks.example/jobs/7"


def _with_webhooks(url: str, prefer: Preference, allowed: tuple[str, ...]) -> Any:
    org = Organization(webhooks=Webhooks(allowed=allowed))
    config = replace(snapshot(), organizations={"acme": org})
    parse, body = BINDINGS["chat.completions"].parse, json.dumps(CHAT).encode()
    said = _said(webhook_url=url, preference=prefer)
    return validate(OPERATIONS["chat.completions"], parse, CALLER, said, body, config, NOW_MS)


def test_a_job_carries_the_address_at_which_its_end_is_told() -> None:
    """To its outcome, in the facts that are kept of it."""
    prefer = Preference(respond_async=True)

    request = _with_webhooks(_HOOK, prefer, ("https://hooks.example/jobs",))

    assert isinstance(request, ValidatedRequest)
    job = accepted_event(request, "r", 1, None).job
    assert job is not None
    assert (facts := read_facts(job)) is not None
    assert facts.webhook_url == _HOOK


@pytest.mark.parametrize(
    ("respond_async", "allowed"),
    [(False, ("https://hooks.example/",)), (True, ("https://other.example/",)), (True, ())],
    ids=["no job", "another address", "nothing allowed"],
)
def test_an_address_that_cannot_be_told_is_refused(
    respond_async: bool, allowed: tuple[str, ...]
) -> None:
    """Rather than never told."""
    refusal = _with_webhooks(_HOOK, Preference(respond_async=respond_async), allowed)

    assert isinstance(refusal, Refusal)
    assert refusal.param == "X-Tallygate-Webhook-Url"


def test_headers_say_the_circumstances() -> None:
    """Without any, a request has the usual time."""
    headers = {**JSON, b"x-request-timeout": b"2.5", b"idempotency-key": b"k", b"prefer": b"wait=3"}
    said = read_circumstances(headers, 120, 600)

    asked = _said(
        timeout_ms=2_500,
        stream_timeout_ms=2_500,
        key="k",
        preference=Preference(wait_s=3),
        asked_timeout=b"2.5",
    )
    assert said == asked
    assert read_circumstances(JSON, 120, 600) == _said(
        timeout_ms=120_000, stream_timeout_ms=600_000
    )


def test_a_stream_that_states_no_deadline_may_last_the_longest() -> None:
    """It shows that it moves: silence is limited, not length (faults.md C13)."""
    whole, stream = _validated(), _validated(stream=True)

    assert (whole.deadline_ms, stream.deadline_ms) == (NOW_MS + 5_000, NOW_MS + 6_000)


def test_a_call_that_no_record_could_hold_is_refused() -> None:
    """Writing numbers out may lengthen a body."""
    call = Call(b"x" * (PAYLOAD_BYTES_MAX + 1), False, False, 1, 1)
    operation, body = OPERATIONS["chat.completions"], json.dumps(CHAT).encode()
    refusal = validate(
        operation, lambda *_: ParsedRequest("echo", call), CALLER, _said(), body, snapshot(), 0
    )

    assert isinstance(refusal, Refusal)
    assert refusal.code is ErrorCode.BODY_TOO_LARGE


@pytest.mark.parametrize("body", [b"{", b"[]", b'{"a": 1, "a": 2}'])
def test_what_is_no_object_is_refused(body: bytes) -> None:
    """Whatever surface it came by."""
    operation, parse = OPERATIONS["chat.completions"], BINDINGS["chat.completions"].parse
    refusal = validate(operation, parse, CALLER, _said(), body, snapshot(), 0)

    assert isinstance(refusal, Refusal)
    assert refusal.code is ErrorCode.INVALID_JSON


def test_its_time_begins_once_its_body_is_there() -> None:
    """The time that a body states goes before that of the headers."""
    assert _validated().deadline_ms == NOW_MS + 5_000
    assert _validated("jobs", ttl_s=7).deadline_ms == NOW_MS + 7_000


def test_a_key_belongs_to_its_operation() -> None:
    """The same key at another is another."""
    said = _said(key="k")

    chat, job = _validated(said=said).key, _validated("jobs", said).key

    assert chat.key_hash != job.key_hash
    assert _validated().key is None


@pytest.mark.parametrize(
    ("name", "preference", "is_stream", "is_background", "may_join"),
    [
        ("chat.completions", Preference(), False, False, True),
        ("chat.completions", Preference(wait_s=0), False, False, False),
        ("chat.completions", Preference(respond_async=True), False, True, True),
        ("chat.completions", Preference(respond_async=True, wait_s=0), False, True, True),
        ("chat.completions", Preference(respond_async=True), True, False, True),
        ("jobs", Preference(wait_s=0), False, True, True),
    ],
)
def test_who_waits_is_told_by_operation_and_preference(
    name: str, preference: Preference, *, is_stream: bool, is_background: bool, may_join: bool
) -> None:
    """A stream is never a job; a client that does not want to wait joins nobody who still runs."""
    request = _validated(name, _said(preference=preference), stream=is_stream)

    assert isinstance(request, ValidatedRequest)
    assert (request.is_background, request.may_join) == (is_background, may_join)


@pytest.mark.parametrize(
    ("name", "key", "is_kept", "is_background"),
    [
        ("chat.completions", None, False, False),
        ("chat.completions", "k", True, False),
        ("jobs", None, True, True),
    ],
)
def test_what_may_be_fetched_later_is_kept(
    name: str, key: str | None, *, is_kept: bool, is_background: bool
) -> None:
    """The answer of a job, and one that the next try of a key is given."""
    event = accepted_event(_validated(name, _said(key=key)), "r", 7, "ing:a")

    assert (event.keep_result, event.background) == (is_kept, is_background)
    assert (event.fingerprint is None, event.job is None) == (key is None, not is_background)
    assert (event.route, event.reply_to, event.config_offset) == (name, "ing:a", 7)
    assert event.produce_by_ms == NOW_MS + 10_000


def test_what_backends_used_beyond_bounds_is_held_by_the_next_request() -> None:
    """Of the same model; the body, with the client's own limit, stays."""
    request = _validated()

    raised = with_excess(request, {"echo": Excess(700, 3), "other": Excess(9, 9)})

    before, after = request.parsed.call, raised.parsed.call
    assert after.input_tokens_bound == before.input_tokens_bound + 700
    assert after.output_tokens_bound == before.output_tokens_bound + 3
    assert after.payload == before.payload
    assert with_excess(request, {"other": Excess(9, 9)}) is request
