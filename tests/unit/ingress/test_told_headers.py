"""Headers of every answer: whose it is, what is left of its caller's rates, when to come back."""

from __future__ import annotations

import re
import uuid
from dataclasses import replace
from typing import Any

import httpx
import msgspec
import pytest

from deploy.reference.openapi.contract import RouteContract
from deploy.reference.openapi.public_routes import public_routes
from ingress.gatekeeper.caller_rates import CallerRates, filled
from ingress.http import middleware
from schemas.entities import Limits
from schemas.events import RateStatus
from schemas.frames import Chunk, Started, Terminal, Usage
from schemas.ids import uuid7
from schemas.operations import OPERATIONS
from tests.support.configuration import NOW_MS
from tests.support.gateway import Gateway

ROUTES = list(public_routes())
RATES = (
    RateStatus(id="org:requests_per_s", limit=20, remaining=13, reset_ms=600_000),
    RateStatus(id="org:tokens_per_min", limit=6_000, remaining=5_000, reset_ms=36_000_000),
)
LEFT = {
    f"x-ratelimit-{part}-{unit}"
    for part in ("limit", "remaining", "reset")
    for unit in ("requests", "tokens")
} | {"ratelimit", "ratelimit-policy"}


def _gateway() -> Gateway:
    """One whose caller's organization states both rates."""
    gateway = Gateway()
    known = gateway.config.snapshot
    limited = Limits(requests_per_s=10, burst=20, tokens_per_min=6_000)
    orgs = {**known.organizations}
    orgs["acme"] = msgspec.structs.replace(orgs["acme"], limits=limited)
    keys = {**known.keys}
    keys["key_a"] = msgspec.structs.replace(keys["key_a"], limits=Limits())
    gateway.config.snapshot = replace(known, organizations=orgs, keys=keys)
    gateway.log.worker = lambda _: (
        Terminal(200, body=b"{}", rates=RATES, backend="b", usage=Usage(1, 1, 1_500, estimated=False)),
    )  # fmt: skip
    return gateway


async def _asked(gateway: Gateway, route: RouteContract, body: Any = None) -> httpx.Response:
    path = re.sub(r"\{\w+\}", uuid7(NOW_MS - 1_000, bytes(10)), route.path)
    return await gateway.client.request(route.method, path, json=body)


@pytest.mark.parametrize("route", ROUTES, ids=[route.name for route in ROUTES])
@pytest.mark.parametrize("is_closed", [False, True], ids=["open", "closed"])
async def test_every_route_tells_its_headers_whatever_it_answers(
    route: RouteContract, is_closed: bool
) -> None:
    """Its id always; the six, and the draft's two, wherever its caller is known; of a 429 or 503 when to come back, twice."""
    gateway = _gateway()
    if is_closed:
        gateway.ledger.is_away, gateway.conditions.ledger = True, "closed"
    answer = await _asked(gateway, route, {} if route.method == "POST" else None)

    assert uuid.UUID(answer.headers["x-request-id"]).version == 7
    assert route.is_open or set(answer.headers) >= LEFT, answer.status_code
    if answer.status_code in (429, 503) and not route.is_open:
        assert set(answer.headers) >= {"retry-after", "retry-after-ms"}


@pytest.mark.parametrize("route", ROUTES, ids=[route.name for route in ROUTES])
async def test_openais_routes_tell_how_long_they_took(route: RouteContract) -> None:
    """And nobody else's; one that waited for a worker counts that as well."""
    gateway = _gateway()
    answer = await _asked(gateway, route, {} if route.method == "POST" else None)

    assert ("openai-processing-ms" in answer.headers) is (route.surface == "openai")
    assert int(answer.headers.get("openai-processing-ms", "0")) <= 60_000


@pytest.mark.parametrize("name", OPERATIONS)
@pytest.mark.parametrize("is_closed", [False, True], ids=["open", "closed"])
async def test_whoever_is_nobody_is_told_of_no_rates(name: str, is_closed: bool) -> None:
    """401, and 503 before anybody was asked: an id, and what is said of the status."""
    gateway = _gateway()
    gateway.gatekeeper.is_open = not is_closed
    gateway.gatekeeper._opened.set()
    answer = await gateway.client.post(OPERATIONS[name].path, json={}, headers={"x-api-key": "x"})

    assert answer.status_code == (503 if is_closed else 401)
    assert not set(answer.headers) & LEFT
    assert ("retry-after-ms" in answer.headers) == is_closed


async def test_what_a_worker_told_is_told_again_elsewhere() -> None:
    """To the caller that it was told of, by the same figures; another one's buckets are as they are declared."""
    gateway = _gateway()
    answered = await gateway.chat()
    listed = await gateway.client.get("/v1/models")
    refused = await gateway.chat(model="nope")
    promised = await gateway.client.post(
        "/v1/jobs", json={"model": "echo", "messages": [{"role": "user", "content": "hi"}]}
    )

    assert (answered.status_code, answered.headers["x-tallygate-cost-usd"]) == (200, "0.000001500")
    for answer in (answered, listed, refused, promised):
        assert answer.headers["x-ratelimit-remaining-requests"] == "13"
        assert answer.headers["x-ratelimit-remaining-tokens"] == "5000"
        assert len(answer.headers.get_list("x-ratelimit-remaining-requests")) == 1


async def test_what_an_earlier_answer_told_is_no_news() -> None:
    """A replay tells again what was left then, and what was heard since stands elsewhere."""
    gateway = _gateway()
    left = [13]
    gateway.log.worker = lambda _: (Terminal(200, body=_COMPLETION, rates=_rates(left[0])),)
    body = {"model": "echo", "messages": [{"role": "user", "content": "hi"}]}
    key, path = {"Idempotency-Key": "once"}, "/v1/chat/completions"
    await gateway.client.post(path, json=body, headers=key)
    left[0] = 5
    await gateway.client.post(path, json=body)
    again = await gateway.client.post(path, json=body, headers=key)
    listed = await gateway.client.get("/v1/models")

    assert again.headers["idempotent-replayed"] == "true"
    assert listed.headers["x-ratelimit-remaining-requests"] == "5"


def _rates(remaining: int) -> tuple[RateStatus, ...]:
    return (msgspec.structs.replace(RATES[0], remaining=remaining), RATES[1])


async def test_a_stream_tells_what_its_beginning_told() -> None:
    """And what it told is remembered as well."""
    gateway = _gateway()
    gateway.log.worker = lambda _: (
        Started("b", RATES), Chunk(b'data: {"choices":[]}\n\n'), Terminal(200),
    )  # fmt: skip
    stream = await gateway.chat(stream=True)
    listed = await gateway.client.get("/v1/models")

    for answer in (stream, listed):
        assert answer.headers.get_list("x-ratelimit-remaining-requests") == ["13"]


async def test_a_refusal_by_a_rate_tells_its_own_figures() -> None:
    """Beside those of the other rate."""
    gateway = Gateway(rate_limit_default_rps=1, rate_limit_burst_size=1)
    answers = [await gateway.chat() for _ in range(5)]
    refused = next(answer for answer in answers if answer.status_code == 429)

    assert refused.headers.get_list("x-ratelimit-remaining-requests") == ["0"]


def test_a_bucket_fills_with_time() -> None:
    """Evenly, until it is full; it is never more than that."""
    rate = RateStatus(id="r", limit=100, remaining=20, reset_ms=1_000)

    told = [filled(rate, ms) for ms in (0, 250, 1_000, 10**9)]

    assert [(each.remaining, each.reset_ms) for each in told] == [
        (20, 1_000),
        (40, 750),
        (100, 0),
        (100, 0),
    ]


async def test_what_was_told_of_a_limit_that_changed_is_told_no_more() -> None:
    """The new one is told, as full as it may be; and nothing of an organization that is gone."""
    gateway = _gateway()
    await gateway.chat()
    known = gateway.config.snapshot
    orgs = {**known.organizations}
    orgs["acme"] = msgspec.structs.replace(orgs["acme"], limits=Limits(requests_per_s=10, burst=99))
    gateway.config.snapshot = replace(known, organizations=orgs)
    listed = await gateway.client.get("/v1/models")
    assert listed.headers["x-ratelimit-remaining-requests"] == "99"

    gateway.config.snapshot = replace(known, organizations={})
    assert not set((await gateway.client.get("/v1/models")).headers) & LEFT


async def test_of_many_callers_the_first_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is remembered has a bound."""
    monkeypatch.setattr(middleware, "_CALLERS_MAX", 1)
    gateway = _gateway()
    edge = gateway.app._posts["/v1/chat/completions"]
    rates: CallerRates = edge._rates  # type: ignore[attr-defined]
    rates.heard["other", "key"] = 0.0, RATES
    await gateway.chat()

    assert list(rates.heard) == [("acme", "key_a")]


_MESSAGES = {"model": "echo", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 5}
_BODIES = {
    "completions": {"model": "echo", "prompt": "hi"},
    "embeddings": {"model": "echo", "input": "hi"},
    "responses": {"model": "echo", "input": "hi"},
    "inference": {"request_id": str(uuid.UUID(int=7)), "model": "echo", "payload": "hi"},
}
"""Of those that take no messages."""
_COMPLETION = b"""{"id":"c","object":"chat.completion","created":1,"model":"echo","choices":[{"index":0,
"message":{"role":"assistant","content":"hi"},"finish_reason":"stop"}],
"usage":{"prompt_tokens":1,"completion_tokens":1,"total_tokens":2}}"""


@pytest.mark.parametrize("name", OPERATIONS)
async def test_a_key_runs_every_operation_once(name: str) -> None:
    """Whatever costs money: the same again is answered by the first, and another body under its key is refused."""
    gateway, path = Gateway(), OPERATIONS[name].path
    gateway.log.worker = lambda _: (Terminal(200, body=_COMPLETION),)
    body = _BODIES.get(name, _MESSAGES)
    key = {"Idempotency-Key": "once"}
    first, again = [await gateway.client.post(path, json=body, headers=key) for _ in range(2)]
    other = await gateway.client.post(path, json={**body, "temperature": 0.5}, headers=key)

    assert first.status_code == again.status_code
    assert first.status_code in (200, 202), first.text
    assert "idempotent-replayed" not in first.headers
    assert again.headers["idempotent-replayed"] == "true"
    assert again.headers["x-request-id"] == first.headers["x-request-id"]
    assert other.status_code in (400, 422), other.text
    assert len(gateway.log.records) == 1
