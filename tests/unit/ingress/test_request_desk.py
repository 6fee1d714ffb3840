"""What a caller is told of a request: its own, in the log's time, and never at a neighbour's cost."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import httpx
import msgspec
import pytest

from ingress.auth.caller import Caller
from ingress.http.refusals import Refusal
from schemas.codec import encode
from schemas.entities import Key, Organization
from schemas.events import Denial, RecordRef
from schemas.ids import api_key_hash, uuid7
from schemas.ledger.model.attempts import Attempt
from schemas.ledger.states import State
from schemas.runtime.kafka.outcome_lookup import Absent, Unproved
from schemas.runtime.kafka.request_records import Trail
from schemas.runtime.kafka.results import referring
from schemas.timeline import Found
from schemas.times import HOUR_MS
from tests.support.configuration import NOW_MS, PEPPER, SECRET, UNKNOWN_SECRET
from tests.support.events import ACCEPTED_AT, DISPATCHED_AT, accepted, admitted, attempt, finished
from tests.support.gateway import Gateway

ID = uuid7(NOW_MS - 1_000, bytes(10))
PATHS = (f"/v1/requests/{ID}", f"/v1/requests/{ID}/events")
REQUEST = msgspec.structs.replace(accepted(), request_id=ID)
ENDED_AT = RecordRef(topic="inference.outcomes.v1", partition=3, offset=9)


def _found(*events: Any, is_whole: bool = True) -> Trail:
    places = (ACCEPTED_AT, DISPATCHED_AT, ENDED_AT)
    rows = (Found(at, NOW_MS, event) for at, event in zip(places, events, strict=False))
    return Trail(tuple(rows), is_whole)


def _answered(**more: Any) -> Trail:
    admission = admitted(REQUEST, encode(REQUEST))
    return _found(REQUEST, admission, finished([attempt()], [], request_id=ID, **more))


def _gateway(trail: Trail | Absent | Unproved, state: State = "") -> Gateway:
    """One whose log has that; the caller's key is the one that asked, and another organization has one of its own."""
    gateway = Gateway()
    gateway.trails.trace = trail
    if state:
        gateway.ledger.model.attempts["acme", ID] = Attempt(state)
    known = gateway.config.snapshot
    hashes = {api_key_hash(PEPPER, secret): name for secret, name in _KEYS.items()}
    keys = {
        name: Key(org=_ORGS[name], hash=digest, display="", created_at_ms=0)
        for digest, name in hashes.items()
    }
    gateway.config.snapshot = replace(
        known,
        organizations={**known.organizations, "other": Organization()},
        keys={**known.keys, **keys},
        key_id_by_hash={**known.key_id_by_hash, **hashes},
    )
    return gateway


_KEYS = {SECRET: "key_a", UNKNOWN_SECRET: "key_other"}
_ORGS = {"key_a": "acme", "key_other": "other"}


async def _told(gateway: Gateway, path: str = PATHS[0]) -> Any:
    answer = await gateway.client.get(path)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def test_what_became_of_a_request_is_told() -> None:
    """State, model, times, usage, cost and attempts, and nothing of what was said in it."""
    told = await _told(_gateway(_answered(parents=[])))

    assert (told["id"], told["object"], told["status"]) == (ID, "request", "completed")
    assert (told["model"], told["operation"], told["key_id"]) == (
        "echo",
        "chat.completions",
        "key_a",
    )
    assert (
        told["usage"]["total_tokens"]
        == told["usage"]["prompt_tokens"] + told["usage"]["completion_tokens"]
    )
    assert [each["backend"] for each in told["attempts"]] == [attempt().backend]
    assert told["cost_usd"] == told["attempts"][0]["cost_usd"]
    assert (told["error"], told["refused_by"]) == (None, None)
    assert "payload" not in told
    assert "result" not in told


@pytest.mark.parametrize(
    ("state", "status"),
    [
        ("", "queued"), ("RESERVED", "queued"), ("RUNNING", "running"), ("RESTORED", "running"),
        ("CANCELLED", "cancelled"), ("VOIDED", "expired"), ("UNKNOWN", "failed"),
    ],
)  # fmt: skip
async def test_a_request_without_an_outcome_is_told_as_the_ledger_knows_it(
    state: State, status: str
) -> None:
    """With what was accepted; of one under way no end is looked for."""
    gateway = _gateway(_found(REQUEST), state)
    told = await _told(gateway)

    assert (told["status"], told["model"], told["finished_at_ms"]) == (status, "echo", None)
    assert gateway.trails.asked[0].has_ended is (
        False if status in ("queued", "running") and state else None
    )


async def test_a_refusal_names_its_limit() -> None:
    """By the id that the list of limits has for it, with its figures."""
    denial = Denial(
        limit_id="org:budget:month", limit_type="budget", unit="nano_usd", current_usage=900_000_000,
        limit=1_000_000_000,
    )  # fmt: skip
    outcome = finished(
        [], [], request_id=ID, status="refused", http_status=402, error_code="BUDGET_EXCEEDED",
        error_message="The budget is spent.", denial=denial,
    )  # fmt: skip
    told = await _told(_gateway(_found(REQUEST, admitted(REQUEST), outcome)))

    assert (told["status"], told["http_status"], told["refused_by"]) == (
        "refused",
        402,
        "org:budget:month",
    )
    assert (told["error"]["code"], told["error"]["limit"], told["error"]["current_usage"]) == (
        "BUDGET_EXCEEDED",
        1,
        0.9,
    )
    assert (told["usage"], told["cost_usd"], told["attempts"]) == (None, None, [])


async def test_the_records_are_told_in_order_and_nothing_that_is_the_operators() -> None:
    """In the words of the admin API; no place in the log, no fence, no configuration, no price, no texts."""
    gateway = _gateway(_answered(fence=77))
    events = await _told(gateway, PATHS[1])
    text = str(events)

    assert [each["what"] for each in events["data"]] == [
        "accepted",
        "admitted",
        "attempt",
        "finished",
    ]
    assert events["is_complete"] is True
    assert events["data"][1]["facts"]["holds"]
    for hidden in (
        "inference.",
        "offset",
        "fence",
        "config",
        "per_mtok",
        "hello",
        "provider",
        "parents",
    ):
        assert hidden not in text, hidden
    assert gateway.trails.asked[0].with_all


async def test_a_story_with_a_hole_says_so() -> None:
    """Retention took a record, or a bound ended the search."""
    gateway = _gateway(_found(REQUEST, is_whole=False))

    assert (await _told(gateway, PATHS[1]))["is_complete"] is False


@pytest.mark.parametrize("path", PATHS)
async def test_a_stranger_is_told_the_same_as_of_nothing(path: str) -> None:
    """By a ledger and log that are asked for its own organization only."""
    gateway = _gateway(Absent(), "RUNNING")
    stranger = {"x-api-key": UNKNOWN_SECRET}
    unknown = path.replace(ID, uuid7(NOW_MS - 1_000, b"0123456789"))
    answers = [await gateway.client.get(each, headers=stranger) for each in (path, unknown)]

    assert [answer.status_code for answer in answers] == [404, 404]
    assert len({answer.text.replace(answer.headers["x-request-id"], "") for answer in answers}) == 1
    assert [(asked.org, asked.is_known) for asked in gateway.trails.asked] == [("other", False)] * 2


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    ("request_id", "words"),
    [
        ("nonsense", "no such"),
        ("018bcfe5-6800-4000-8000-000000000001", "no such"),
        (uuid7(NOW_MS + 60_000, bytes(10)), "no such"),
        (uuid7(NOW_MS - 73 * HOUR_MS, bytes(10)), "72 hours"),
    ],
)
async def test_what_cannot_be_there_is_refused_before_anything_is_read(
    path: str, request_id: str, words: str
) -> None:
    """No id of ours, one of tomorrow, one that is older than the log."""
    gateway = _gateway(_answered())
    answer = await gateway.client.get(path.replace(ID, request_id))

    assert answer.status_code == 404
    assert words in answer.json()["detail"]
    assert gateway.trails.asked == []


async def test_an_id_is_read_in_whatever_form_it_comes() -> None:
    """Records have it in lower case."""
    gateway = _gateway(_answered())

    assert (await _told(gateway, PATHS[0].upper().replace("/V1/REQUESTS", "/v1/requests")))[
        "id"
    ] == ID
    assert gateway.trails.asked[0].request_id == ID


@pytest.mark.parametrize("path", PATHS)
async def test_what_cannot_be_told_now_is_503(path: str) -> None:
    """An unreadable log, an outcome of a newer version; never a 404."""
    unreadable, newer = _gateway(Unproved()), _gateway(_answered())
    newer.ledger.model.attempts["acme", ID] = Attempt(
        "FINISHED", outcome=b"\x00\x00\x00\x03\xe7newer"
    )

    for gateway in (unreadable, newer):
        assert (await gateway.client.get(path)).status_code == 503


async def test_texts_are_shown_where_they_are_asked_for() -> None:
    """What its backend was asked, and the result where one was kept; ``null`` where none was."""
    kept = await _told(_gateway(_answered(result=b'{"a":1}')), f"{PATHS[0]}?payload=true")
    not_kept = await _told(_gateway(_answered()), f"{PATHS[0]}?payload=true")

    assert kept["payload"] == {"messages": [{"role": "user", "content": "hello"}]}
    assert (kept["result"], not_kept["result"]) == ({"a": 1}, None)


async def test_a_large_result_is_read_where_it_stands() -> None:
    """In the organization's turn; one that cannot be read now is 503, and one that is lost is none."""
    at, large = (
        RecordRef(topic="inference.results.v1", partition=3, offset=2),
        b'{"b":"' + b"x" * 5_000 + b'"}',
    )
    kept = referring(finished([attempt()], [], request_id=ID, result=large), at)
    gateway = _gateway(_found(REQUEST, admitted(REQUEST), kept))
    gateway.records.values[at.topic, at.partition, at.offset] = large
    told = await _told(gateway, f"{PATHS[0]}?payload=true")
    gateway.records.is_away = True
    away = await gateway.client.get(f"{PATHS[0]}?payload=true")
    gateway.records.is_away = False
    gateway.records.values.clear()

    assert told["result"] == {"b": "x" * 5_000}
    assert away.status_code == 503
    assert (await _told(gateway, f"{PATHS[0]}?payload=true"))["result"] is None
    assert "result" not in await _told(gateway)


async def test_texts_are_shown_to_the_key_that_sent_them_only() -> None:
    """Another key of the organization is told of the request, and 403 of what stood in it."""
    gateway = _gateway(_answered(key_id="key_b"))
    answer = await gateway.client.get(f"{PATHS[0]}?payload=true")

    assert (answer.status_code, answer.json()["code"]) == (403, "key_not_allowed")
    assert (await gateway.client.get(PATHS[0])).status_code == 200
    wrong = await gateway.client.get(f"{PATHS[0]}?payload=yes")
    assert (wrong.status_code, wrong.json()["param"]) == (400, "payload")


async def test_a_user_sees_its_own_requests_and_no_others() -> None:
    """Neither those of another user, nor a program's."""
    gateway = _gateway(_answered(key_id="oidc:login", user="ada"))
    ada = Caller("oidc:login", "acme", None, "ada", None, owner="oidc:login/acme/ada")
    bob = Caller("oidc:login", "acme", None, "bob", None, owner="oidc:login/acme/bob")

    assert not isinstance(await gateway.requests.show(ada, ID, with_payload=True), Refusal)
    refused = await gateway.requests.show(bob, ID, with_payload=False)
    assert isinstance(refused, Refusal)
    assert refused.status == 404
    assert isinstance(await gateway.requests.events(bob, ID), Refusal)


async def test_look_ups_of_a_loud_organization_leave_readers_to_the_others() -> None:
    """One at a time is read for it, few wait, and the rest hear 429 at once with when to come back."""
    gateway = _gateway(_answered())
    gateway.trails.readable.clear()
    loud = [asyncio.create_task(gateway.client.get(PATHS[0])) for _ in range(50)]
    await asyncio.sleep(0.05)
    refused = [task.result() for task in loud if task.done()]
    assert len(gateway.trails.asked) == 1

    gateway.trails.trace = Absent()
    other = asyncio.create_task(gateway.client.get(PATHS[0], headers={"x-api-key": UNKNOWN_SECRET}))
    await asyncio.sleep(0.05)
    assert [asked.org for asked in gateway.trails.asked] == ["acme", "other"]
    gateway.trails.readable.set()
    await asyncio.gather(other, *loud)

    assert len(refused) == 41
    assert {answer.status_code for answer in refused} == {429}
    assert all(_tells_when(answer) for answer in refused)


def _tells_when(answer: httpx.Response) -> bool:
    return answer.json()["code"] == "RATE_LIMIT_EXCEEDED" and "retry-after-ms" in answer.headers
