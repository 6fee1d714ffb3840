"""Requests of a key whose requests have to be signed."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import msgspec
import pytest
from pydantic import SecretStr

from schemas.entities import EarlierSecret
from schemas.ids import signing_secret
from schemas.peppers import pepper_name
from tests.support.configuration import NOW_MS, SECRET, UNKNOWN_SECRET
from tests.support.gateway import Gateway
from tests.support.signing import signed

_PEPPER = "a pepper to derive signing secrets"
_NAME = pepper_name(_PEPPER.encode())
_SIGNING = signing_secret(_PEPPER.encode(), "key_a", 1)
_NOW_S = NOW_MS // 1_000
_PATH = "/v1/chat/completions"
_BODY = json.dumps({"model": "echo", "messages": [{"role": "user", "content": "hi"}]}).encode()


def _gateway(pepper: str | None = _PEPPER, **key: Any) -> Gateway:
    """The first key is a signed one."""
    settings = {} if pepper is None else {"signing_pepper": SecretStr(pepper)}
    gateway = Gateway(**settings)
    keys = dict(gateway.config.snapshot.keys)
    keys["key_a"] = msgspec.structs.replace(keys["key_a"], **({"signing": _NAME} | key))
    object.__setattr__(gateway.config.snapshot, "keys", keys)
    return gateway


async def _post(
    gateway: Gateway,
    headers: dict[str, str],
    body: bytes | AsyncIterator[bytes] = _BODY,
    path: str = _PATH,
) -> httpx.Response:
    headers = {"content-type": "application/json", **headers}
    return await gateway.client.post(path, content=body, headers=headers)


def _told(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["error"]["code"]


async def test_a_signed_request_is_served_once() -> None:
    """Its signature is remembered until its timestamp is too old, and the same again is refused."""
    gateway, headers = _gateway(), signed(_SIGNING, "POST", _PATH, _BODY, _NOW_S)
    first, again = await _post(gateway, headers), await _post(gateway, headers)
    anew = await _post(gateway, signed(_SIGNING, "POST", _PATH, _BODY, _NOW_S + 1))

    assert (first.status_code, anew.status_code) == (200, 200)
    assert _told(again) == (401, "signature_replayed")
    assert again.headers["x-should-retry"] == "false"
    assert len(gateway.log.accepted) == 2
    assert min(gateway.ledger.signatures.values()) > 300_000


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({}, "signature_missing"),
        (signed(_SIGNING, "POST", _PATH, _BODY, _NOW_S - 301), "signature_expired"),
        (signed(_SIGNING, "POST", _PATH, _BODY[:-1] + b" ", _NOW_S), "signature_invalid"),
        (signed(_SIGNING, "POST", f"{_PATH}?", _BODY, _NOW_S), "signature_invalid"),
        (signed(_SIGNING[:-1], "POST", _PATH, _BODY, _NOW_S), "signature_invalid"),
        (signed(_SIGNING, "POST", _PATH, _BODY, _NOW_S, "v2"), "signature_invalid"),
    ],
)
async def test_what_is_not_signed_rightly_leaves_no_trace(
    headers: dict[str, str], code: str
) -> None:
    """In neither log nor ledger; its idempotency key stays free for the request that it belongs to."""
    gateway = _gateway()
    keyed = headers | {"Idempotency-Key": "k1"}
    refused = await _post(gateway, keyed)
    right = signed(_SIGNING, "POST", _PATH, _BODY, _NOW_S) | {"Idempotency-Key": "k1"}

    assert _told(refused) == (401, code)
    assert (gateway.log.records, gateway.ledger.signatures) == ([], {})
    answer = await _post(gateway, right)
    assert (answer.status_code, "idempotent-replayed" in answer.headers) == (200, False)


async def test_a_forgery_is_told_to_the_auditors() -> None:
    """Somebody has the key and not the secret, which its owner should know."""
    gateway = _gateway()
    await _post(gateway, signed("guessed", "POST", _PATH, _BODY, _NOW_S))

    (event,) = gateway.gatekeeper.tally.take()
    assert (event.actor, "signature_invalid" in (event.detail or "")) == ("key_a", True)


async def test_a_request_without_a_body_is_signed_over_the_empty_one() -> None:
    """Query and all, as they were sent; cancelling is signed as what it is."""
    gateway = _gateway()
    path = "/v1/jobs/0190a7c2-0000-7000-8000-000000000000"
    asked = [
        ("GET", "/v1/models", 200),
        ("GET", "/v1/jobs?limit=2", 200),
        ("GET", path, 404),
        ("DELETE", path, 404),
    ]
    for method, target, status in asked:
        headers = signed(_SIGNING, method, target, b"", _NOW_S)
        served = await gateway.client.request(method, target, headers=headers)
        again = await gateway.client.request(method, target, headers=headers)
        unsigned = await gateway.client.request(method, target)

        assert (served.status_code, again.status_code, unsigned.status_code) == (status, 401, 401)


async def test_a_changed_query_is_refused() -> None:
    """One byte of it."""
    gateway = _gateway()
    headers = signed(_SIGNING, "GET", "/v1/jobs?limit=2", b"", _NOW_S)

    answer = await gateway.client.get("/v1/jobs?limit=3", headers=headers)

    assert (answer.status_code, answer.json()["code"]) == (401, "signature_invalid")


async def test_a_body_in_pieces_is_signed_as_a_whole() -> None:
    """However it is framed."""

    async def pieces() -> AsyncIterator[bytes]:
        for at in range(0, len(_BODY), 7):
            yield _BODY[at : at + 7]

    gateway = _gateway()
    served = await _post(gateway, signed(_SIGNING, "POST", _PATH, _BODY, _NOW_S), pieces())
    refused = await _post(gateway, signed(_SIGNING, "POST", _PATH, b"", _NOW_S), pieces())

    assert (served.status_code, _told(refused)) == (200, (401, "signature_invalid"))


async def test_a_large_body_is_signed_as_a_whole() -> None:
    """One of more than a megabyte, which takes its turn and crosses the log once."""
    gateway = _gateway()
    text = "x" * 1_100_000
    body = json.dumps({"model": "echo", "messages": [{"role": "user", "content": text}]}).encode()
    headers = signed(_SIGNING, "POST", _PATH, body, _NOW_S)
    refused = await _post(gateway, headers, body[:-3] + b" ]}")
    served = await _post(gateway, headers, body)

    assert (_told(refused), served.status_code) == ((401, "signature_invalid"), 200)


async def test_while_the_ledger_is_away_nothing_signed_is_served() -> None:
    """Whether it was used cannot be told: 503, and the next try is signed anew."""
    gateway = _gateway()
    gateway.ledger.is_away = True
    away = await _post(gateway, signed(_SIGNING, "POST", _PATH, _BODY, _NOW_S))

    assert _told(away) == (503, "service_unavailable")
    assert gateway.log.records == []


async def test_a_ledger_that_hangs_is_waited_for_in_vain(monkeypatch: pytest.MonkeyPatch) -> None:
    """No longer than two seconds, of which the test does not wait for all."""
    gateway = _gateway()

    async def hang(*_: object) -> None:
        await asyncio.sleep(60)

    monkeypatch.setattr(gateway.ledger, "use_signature", hang)
    monkeypatch.setattr("ingress.gatekeeper.signatures._WITHIN_S", 0.05)
    answer = await _post(gateway, signed(_SIGNING, "POST", _PATH, _BODY, _NOW_S))

    assert _told(answer) == (503, "service_unavailable")
    assert gateway.log.records == []


async def test_a_body_that_arrives_after_the_signatures_time_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its head came in time; a copy of it would come after the used signature was forgotten."""
    gateway = _gateway()
    clock = type(gateway.gatekeeper.clock)
    headers = signed(_SIGNING, "POST", _PATH, _BODY, _NOW_S - 299)

    async def slow() -> AsyncIterator[bytes]:
        yield _BODY[:9]
        monkeypatch.setattr(clock, "now_ms", lambda _: NOW_MS + 2_000)
        yield _BODY[9:]

    late = await _post(gateway, headers, slow())
    assert _told(late) == (401, "signature_expired")
    assert gateway.ledger.signatures == {}

    monkeypatch.setattr(clock, "now_ms", lambda _: NOW_MS + 1_999)
    in_time = await _post(gateway, headers)
    assert in_time.status_code == 200
    assert min(gateway.ledger.signatures.values()) > 0


async def test_of_many_at_once_one_is_served() -> None:
    """A race is decided by the ledger."""
    gateway, headers = _gateway(), signed(_SIGNING, "POST", _PATH, _BODY, _NOW_S)

    answers = await asyncio.gather(*(_post(gateway, headers) for _ in range(20)))

    assert sorted(answer.status_code for answer in answers) == [200, *[401] * 19]
    assert len(gateway.log.accepted) == 1


async def test_an_earlier_generation_signs_until_its_grace_ends() -> None:
    """With either secret of the key, since clients do not replace both in one moment."""
    key = Gateway().config.snapshot.keys["key_a"]
    old = EarlierSecret(
        hash=key.hash, display="", generation=1, expires_at_ms=NOW_MS + 1, signing=_NAME
    )
    living = _gateway(generation=2, earlier=(old,))
    over = _gateway(generation=2, earlier=(msgspec.structs.replace(old, expires_at_ms=NOW_MS),))
    newer = signing_secret(_PEPPER.encode(), "key_a", 2)
    by_old = signed(_SIGNING, "POST", _PATH, _BODY, _NOW_S)
    by_new = signed(newer, "POST", _PATH, _BODY, _NOW_S)

    assert [(await _post(living, each)).status_code for each in (by_old, by_new)] == [200, 200]
    assert [(await _post(over, each)).status_code for each in (by_old, by_new)] == [401, 200]


async def test_a_pepper_that_is_missing_here_refuses_and_never_lets_in() -> None:
    """503, because it is no fault of the client's."""
    headers = signed(_SIGNING, "POST", _PATH, _BODY, _NOW_S)

    for gateway in (_gateway(None), _gateway("another pepper of thirty-two chars")):
        assert _told(await _post(gateway, headers)) == (503, "service_unavailable")
        assert gateway.log.records == []


async def test_a_key_that_is_not_signed_pays_nothing_and_may_send_anything() -> None:
    """Headers of a signature mean nothing to it."""
    gateway = _gateway(signing=None)
    answer = await _post(gateway, {"X-Tallygate-Timestamp": "x", "X-Tallygate-Signature": "y"})

    assert (answer.status_code, gateway.ledger.signatures) == (200, {})


async def test_a_signature_does_not_replace_the_key() -> None:
    """The key comes first: without it nobody knows whose secret it should be."""
    gateway = _gateway()
    headers = signed(_SIGNING, "POST", _PATH, _BODY, _NOW_S)

    for key in ("", UNKNOWN_SECRET):
        assert _told(await _post(gateway, headers | {"x-api-key": key})) == (401, "invalid_api_key")
    assert (await _post(gateway, headers | {"x-api-key": SECRET})).status_code == 200
