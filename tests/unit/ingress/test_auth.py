"""Which keys are let in, and which models they see."""

from __future__ import annotations

import random
from dataclasses import replace

import msgspec
import pytest

from ingress.auth.api_key import ApiKeys, find_model, usable_models
from ingress.auth.caller import Caller
from ingress.auth.callers import TOLD, Callers, Told
from ingress.http.refusals import Refusal
from ingress.http.request import credentials_of
from schemas.config_state import ConfigState, Snapshot
from schemas.entities import EarlierSecret, Organization
from schemas.events import ConfigEntry
from schemas.ids import api_key_hash
from schemas.peppers import Peppers
from tests.support.configuration import (
    EXPIRED_SECRET,
    LIMITED_SECRET,
    NOW_MS,
    PEPPER,
    REVOKED_SECRET,
    SECRET,
    UNKNOWN_SECRET,
    snapshot,
)

_PEPPERS = Peppers((PEPPER,))


def _authenticate(
    headers: dict[bytes, bytes],
    now_ms: int = NOW_MS,
    config: Snapshot | None = None,
    peppers: Peppers = _PEPPERS,
) -> Told:
    callers, config = Callers(ApiKeys(peppers, Peppers(()))), config or snapshot()
    credentials = credentials_of({}, headers)
    by_key = callers.keys.tell(credentials, config, now_ms)
    told = by_key or callers.ask_others(credentials, config, now_ms)
    assert isinstance(told, TOLD)
    return told


@pytest.mark.parametrize(
    "headers",
    [
        {b"x-api-key": SECRET.encode()},
        {b"authorization": b"Bearer " + SECRET.encode()},
        {b"authorization": b"bearer  " + SECRET.encode()},
        {b"x-api-key": SECRET.encode(), b"authorization": b"Bearer other"},
        {b"x-api-key": b"", b"authorization": b"Bearer " + SECRET.encode()},
        {b"x-api-key": b"  ", b"authorization": b"Bearer " + SECRET.encode()},
    ],
)
def test_a_live_key_is_let_in(headers: dict[bytes, bytes]) -> None:
    """Either header carries it, and X-API-Key wins, unless it is empty (faults.md D2)."""
    assert _authenticate(headers) == Caller("key_a", "acme", None, None, None)


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {b"x-api-key": b""},
        {b"x-api-key": b"sk-other"},
        {b"x-api-key": SECRET[:-1].encode() + b"!"},
        {b"x-api-key": SECRET.swapcase().encode()},
        {b"x-api-key": b"\xff" * 40},
        {b"x-api-key": SECRET.encode() * 100},
        {b"x-api-key": UNKNOWN_SECRET.encode()},
        {b"x-api-key": REVOKED_SECRET.encode()},
        {b"x-api-key": EXPIRED_SECRET.encode()},
        {b"authorization": b"Basic " + SECRET.encode()},
        {b"authorization": SECRET.encode()},
    ],
)
def test_any_other_key_is_answered_alike(headers: dict[bytes, bytes]) -> None:
    """The answer does not tell a malformed key from an unknown, revoked or expired one."""
    refusal = _authenticate(headers)

    assert refusal == _authenticate({})
    assert isinstance(refusal, Refusal)
    assert (refusal.status, refusal.code.value) == (401, "invalid_api_key")


def test_a_closed_key_is_told_to_come_again() -> None:
    """Nobody here knows its limits, which is no fault of its owner."""
    hidden = frozenset({api_key_hash(PEPPER, UNKNOWN_SECRET)})
    closed = replace(snapshot(), closed_key_hashes=hidden)

    refusal = _authenticate({b"x-api-key": UNKNOWN_SECRET.encode()}, config=closed)

    assert isinstance(refusal, Refusal)
    assert (refusal.status, refusal.code.value) == (503, "service_unavailable")


def test_a_closed_model_is_told_from_an_unknown_one() -> None:
    """But only to those who may use it."""
    closed = replace(snapshot(), closed=frozenset({("model", "gone"), ("model", "other")}))
    caller = _authenticate({b"x-api-key": LIMITED_SECRET.encode()})
    assert isinstance(caller, Caller)

    answers = [find_model(closed, caller, name) for name in ("gone", "other")]

    assert [a.status for a in answers if isinstance(a, Refusal)] == [503, 404]


def test_a_key_works_until_the_moment_it_expires() -> None:
    """One millisecond earlier it is valid."""
    headers = {b"x-api-key": EXPIRED_SECRET.encode()}

    assert isinstance(_authenticate(headers, NOW_MS - 1), Caller)


def test_a_model_outside_the_allow_list_looks_unknown() -> None:
    """The 404 lists what the key may use and nothing else."""
    caller = _authenticate({b"x-api-key": LIMITED_SECRET.encode()})
    assert isinstance(caller, Caller)

    refusal = find_model(snapshot(), caller, "echo")

    assert isinstance(refusal, Refusal)
    assert (refusal.status, refusal.param) == (404, "model")
    assert refusal.message.endswith("Models this key may use: capped.")
    assert usable_models(snapshot(), caller) == ["capped"]


def test_a_key_without_allow_list_may_use_all_models() -> None:
    """None means all."""
    caller = Caller("k", "acme", None, None, None)

    assert usable_models(snapshot(), caller) == ["capped", "echo"]
    assert find_model(snapshot(), caller, "echo") is snapshot().models["echo"]


def _entry(kind: str, name: str, version: int, body: bytes) -> ConfigEntry:
    return ConfigEntry(
        kind=kind,
        id=name,
        version=version,
        body=body.decode(),
        written_at_ms=0,
        written_by="test",
    )


def _rotated(ends_at_ms: int) -> Snapshot:
    """The first key has another secret now, and its first one works until then."""
    key = msgspec.structs.replace(
        snapshot().keys["key_a"],
        hash=api_key_hash(PEPPER, UNKNOWN_SECRET),
        generation=2,
        earlier=(
            EarlierSecret(
                hash=api_key_hash(PEPPER, SECRET),
                display="",
                generation=1,
                expires_at_ms=ends_at_ms,
            ),
        ),
    )
    state = ConfigState()
    for kind, name, entity in (("organization", "acme", Organization()), ("key", "key_a", key)):
        state.apply(_entry(kind, name, 1, msgspec.json.encode(entity)), 0)
    return state.snapshot()


def test_both_secrets_of_a_rotated_key_are_the_same_caller_until_the_grace_ends() -> None:
    """One limit, one budget, one name in every usage line."""
    config = _rotated(NOW_MS + 1)
    old, new = ({b"x-api-key": secret.encode()} for secret in (SECRET, UNKNOWN_SECRET))

    caller = _authenticate(new, config=config)

    assert isinstance(caller, Caller)
    assert (caller.key_id, _authenticate(old, config=config)) == ("key_a", caller)
    assert _authenticate(old, NOW_MS + 1, config) == _authenticate({})
    assert _authenticate(new, NOW_MS + 1, config) == caller


def test_the_earlier_secret_of_a_closed_key_is_told_to_come_again_too() -> None:
    """Its entry cannot be read here as a whole, and its secrets can."""
    config = _rotated(NOW_MS + 1)
    state = ConfigState()
    body = msgspec.json.encode(msgspec.to_builtins(config.keys["key_a"]) | {"from_2030": 1})
    state.apply(_entry("key", "key_a", 2, body), 0)
    closed = state.snapshot()

    statuses = [
        told.status
        for secret in (SECRET, UNKNOWN_SECRET, LIMITED_SECRET)
        if isinstance(
            told := _authenticate({b"x-api-key": secret.encode()}, config=closed), Refusal
        )
    ]

    assert statuses == [503, 503, 401]


def test_a_key_of_the_previous_pepper_goes_on_working() -> None:
    """While it is given; keys of neither pepper are unknown."""
    headers, other = {b"x-api-key": SECRET.encode()}, b"another pepper of 32 characters!"

    assert _authenticate(headers, peppers=Peppers((other, PEPPER))) == _authenticate(headers)
    assert _authenticate(headers, peppers=Peppers((other,))) == _authenticate({})


def test_a_key_of_the_current_pepper_costs_one_hash(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many peppers live."""
    hashed: list[bytes] = []

    def counted(pepper: bytes, key: str) -> str:
        hashed.append(pepper)
        return api_key_hash(pepper, key)

    monkeypatch.setattr("ingress.auth.api_key.api_key_hash", counted)
    _authenticate({b"x-api-key": SECRET.encode()}, peppers=Peppers((PEPPER, b"other")))

    assert hashed == [PEPPER]


def test_whatever_is_sent_as_a_key_is_answered_and_opens_nothing() -> None:
    """Bytes of every kind and length, and all that is one character away from a key that works (S3)."""
    rng = random.Random(13)
    right = SECRET.encode()
    for _ in range(3_000):
        sent = bytearray(right if rng.random() < 0.5 else rng.randbytes(rng.randrange(200)))
        for _ in range(rng.randrange(1, 3)):
            sent[rng.randrange(len(sent) or 1) : rng.randrange(len(sent) or 1)] = rng.randbytes(1)
        key = bytes(sent)
        headers = rng.choice([{b"x-api-key": key}, {b"authorization": b"Bearer " + key}])

        assert key.strip() == right or _authenticate(headers) == _authenticate({})
