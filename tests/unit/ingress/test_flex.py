"""Who runs as flex, with what time, what its backend is asked for, and how the log tells it apart."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from ingress.apis.bindings import BINDINGS
from ingress.auth.caller import Caller
from ingress.gatekeeper.local_limits import Shares
from ingress.http.refusals import Refusal
from ingress.http.request import Preference
from ingress.requests.validation import (
    Circumstances,
    ValidatedRequest,
    accepted_event,
    read_circumstances,
    validate,
)
from schemas.config_state import Snapshot
from schemas.entities import Key, Model, Organization, Project, Target
from schemas.errors import ErrorCode
from schemas.flex import FLEX_HEADER, is_flex
from schemas.operations import OPERATIONS
from schemas.outgoing import accepted_headers, accepted_record
from schemas.pricing.entries import Price, TierPrice
from schemas.pricing.price_list import price_list
from schemas.topics import BACKGROUND
from tests.support.configuration import NOW_MS

_CALLER = Caller("key_a", "acme", "search", None, None)
_JSON = {b"content-type": b"application/json"}
_HOUR_MS, _DAY_MS = 3_600_000, 86_400_000
_MESSAGES = [{"role": "user", "content": "hi"}]
_BODIES: dict[str, dict[str, Any]] = {
    "chat.completions": {"messages": _MESSAGES},
    "completions": {"prompt": "hi"},
    "embeddings": {"input": "hi"},
    "messages": {"messages": _MESSAGES, "max_tokens": 5},
    "jobs": {"messages": _MESSAGES},
    "inference": {"request_id": "0190163d-8694-739b-aea5-966c26f8ad91", "payload": "hi"},
}


def _snapshot(
    *, key: str | None = None, project: str | None = None, org: str | None = None
) -> Snapshot:
    """Two models: one whose price states flex, and one that has none; and what is stated for whom."""
    entry = Price(
        input_usd_per_mtok="2", output_usd_per_mtok="6", tiers={"flex": TierPrice(multiplier="0.5")}
    )
    model = Model(backends=(Target(backend="b"),))
    made = Key(org="acme", hash="0" * 64, display="", created_at_ms=0, service_tier=key)  # type: ignore[arg-type]
    return Snapshot(
        offset=7,
        organizations={"acme": Organization(service_tier=org)},  # type: ignore[arg-type]
        projects={"search": Project(org="acme", service_tier=project)},  # type: ignore[arg-type]
        keys={"key_a": made},
        models={"echo": model, "priced": model},
        prices={"priced": price_list("priced@1", (entry,), {})},
    )


def _validated(
    name: str = "chat.completions",
    headers: dict[bytes, bytes] | None = None,
    config: Snapshot | None = None,
    caller: Caller = _CALLER,
    **body: Any,
) -> ValidatedRequest:
    said = read_circumstances({**_JSON, **(headers or {})}, 120, 600)
    assert isinstance(said, Circumstances)
    encoded = json.dumps({"model": "echo", **_BODIES[name], **body}).encode()
    made = validate(
        OPERATIONS[name],
        BINDINGS[name].parse,
        caller,
        said,
        encoded,
        config or _snapshot(),
        NOW_MS,
        (3_600, 86_400),
    )
    assert isinstance(made, ValidatedRequest), made
    return made


@pytest.mark.parametrize("name", sorted(_BODIES))
def test_every_operation_takes_flex(name: str) -> None:
    """It is background work, is told apart in the log, and no backend of an unpriced tier hears of it."""
    request = (
        _validated(name, service_tier="flex")
        if name != "inference"
        else _validated(name, parameters={"service_tier": "flex"})
    )
    event = accepted_event(request, "r", 7, "ing:0")

    assert (request.is_flex, request.is_background, event.background) == (True, True, True)
    assert is_flex(event)
    assert event.job is not None, "so the ledger remembers it for three days"
    assert FLEX_HEADER in accepted_headers(event, None)
    assert accepted_record(event, ()).topic == BACKGROUND
    assert b"service_tier" not in event.payload


def test_a_backend_is_asked_for_flex_where_its_price_states_it() -> None:
    """Then it sells it, or ignores the field; only in calls in which providers sell it."""
    chat = _validated(model="priced", service_tier="flex").parsed.call
    message = _validated("messages", model="priced", service_tier="flex").parsed.call
    text = _validated("completions", model="priced", service_tier="flex").parsed.call

    assert json.loads(chat.payload)["service_tier"] == "flex"
    assert b"service_tier" not in message.payload
    assert b"service_tier" not in text.payload
    assert [call.reach and call.reach.service_tier for call in (chat, message, text)] == [
        "flex"
    ] * 3


@pytest.mark.parametrize("sent", [None, "auto", "default", "priority", "standard"])
def test_others_are_as_they_were(sent: str | None) -> None:
    """Passed on as they are, with nothing in the log that tells them apart."""
    named: dict[str, Any] = {} if sent is None else {"service_tier": sent}
    request = _validated(**named)
    event = accepted_event(request, "r", 7, "ing:0")

    assert (request.is_flex, event.background, is_flex(event)) == (False, False, False)
    assert json.loads(event.payload).get("service_tier") == sent
    assert all(name != FLEX_HEADER[0] for name, _ in accepted_headers(event, None))
    assert request.deadline_ms == NOW_MS + 120_000


@pytest.mark.parametrize(
    ("stated", "runs_as_flex"),
    [
        ({}, False),
        ({"org": "flex"}, True),
        ({"org": "flex", "project": "default"}, False),
        ({"org": "default", "project": "flex"}, True),
        ({"project": "flex", "key": "default"}, False),
        ({"key": "flex"}, True),
    ],
)
def test_auto_is_what_key_project_or_organization_state(
    stated: dict[str, str], *, runs_as_flex: bool
) -> None:
    """In this order; it is also what a request means that names no tier. Who names one is asked for it."""
    config = _snapshot(**stated)

    assert _validated(config=config).is_flex is runs_as_flex
    assert _validated(config=config, service_tier="auto").is_flex is runs_as_flex
    assert not _validated(config=config, service_tier="default").is_flex
    assert _validated(config=config, service_tier="flex").is_flex


@pytest.mark.parametrize(
    ("headers", "body", "left_ms"),
    [
        ({}, {}, _HOUR_MS),
        ({}, {"stream": True}, _HOUR_MS),
        ({b"x-request-timeout": b"5"}, {}, 5_000),
        ({b"x-request-timeout": b"7200"}, {"stream": True}, 2 * _HOUR_MS),
        ({b"x-request-timeout": b"999999"}, {}, _DAY_MS),
    ],
)
def test_it_has_an_hour_or_what_it_states_up_to_a_day(
    headers: dict[bytes, bytes], body: dict[str, Any], left_ms: int
) -> None:
    """Streams and others alike: none has begun."""
    request = _validated(headers=headers, service_tier="flex", **body)

    assert request.deadline_ms == NOW_MS + left_ms


def test_a_flex_job_has_the_same_times() -> None:
    """Its own words are its body's; other jobs have ten minutes as before."""
    flex: dict[str, Any] = {"service_tier": "flex"}

    assert _validated("jobs", **flex).deadline_ms == NOW_MS + _HOUR_MS
    assert _validated("jobs", ttl_s=86_400, **flex).deadline_ms == NOW_MS + _DAY_MS
    assert _validated("jobs").deadline_ms == NOW_MS + 600_000
    by_default = _validated("jobs", config=_snapshot(org="flex"))
    assert by_default.deadline_ms == NOW_MS + _HOUR_MS


def test_who_waits_for_flex_needs_no_right_to_jobs_but_who_is_promised_one_does() -> None:
    """The answer comes on the connection."""
    caller = msgspec.structs.replace(_CALLER, scopes=("inference",))

    waiting = _validated(caller=caller, service_tier="flex")

    assert not waiting.is_promised
    promised = validate(
        OPERATIONS["chat.completions"],
        BINDINGS["chat.completions"].parse,
        caller,
        Circumstances(1, 1, None, Preference(respond_async=True), None),
        json.dumps({"model": "echo", "messages": _MESSAGES, "service_tier": "flex"}).encode(),
        _snapshot(),
        NOW_MS,
    )
    assert isinstance(promised, Refusal)
    assert promised.code is ErrorCode.KEY_NOT_ALLOWED


def test_no_more_than_half_of_the_places_are_taken_by_those_who_may_stay_for_an_hour() -> None:
    """Of an organization and of all; whoever leaves gives both back, and says nothing of how long others stay."""
    shares = Shares(all_max=8, org_max=4)
    for org in ("a", "a", "a", "b", "b"):
        assert shares.enter(org) is None

    assert [shares.enter_flex("a") is None for _ in range(3)] == [True, True, False]
    refusal = shares.enter_flex("a")
    assert refusal is not None
    assert (refusal.status, refusal.code) == (429, ErrorCode.RESOURCE_UNAVAILABLE)
    assert [shares.enter_flex("b") is None for _ in range(2)] == [True, True]
    assert shares.enter("c") is None
    assert shares.enter_flex("c") is not None, "all together have no more than half"
    shares.leave("a", None)
    assert shares.enter_flex("c") is None
