"""Users whom somebody outside vouches for are strangers to each other: keys, jobs, limits and verdicts."""

from __future__ import annotations

import hashlib
from typing import Any, Final

import httpx
import pytest

from ingress.auth.api_key import ApiKeys
from ingress.auth.caller import Verdict
from ingress.auth.callers import Callers
from ingress.auth.identity import Identity, placed, user_id_of
from ingress.gatekeeper.local_limits import LocalLimits
from ingress.http.refusals import Refusal
from ingress.http.request import Credentials
from ingress.requests.idempotency import idempotency_key
from schemas.config_state import Snapshot
from schemas.entities import Limits, Organization
from schemas.errors import ErrorCode
from schemas.events import Denial
from schemas.frames import Terminal
from schemas.peppers import Peppers
from tests.support.configuration import PEPPER, SECRET
from tests.support.gateway import Gateway

CHAT: Final[dict[str, Any]] = {
    "model": "echo",
    "messages": [{"role": "user", "content": "hi"}],
}


class _Everybody:
    """Vouches for whoever says a name: ``org.user``."""

    async def tell(self, credentials: Credentials, snapshot: Snapshot, now_ms: int) -> Verdict:
        org, _, user = credentials.secret.partition(".")
        return placed(Identity("oidc:corp", org, user=user or None), snapshot)


def _gateway() -> Gateway:
    gateway = Gateway()
    gateway.config.snapshot = _with_globex(gateway.config.snapshot)
    gateway.gatekeeper.callers = Callers(ApiKeys(Peppers((PEPPER,)), Peppers(())), (_Everybody(),))
    gateway.client.headers = httpx.Headers()
    return gateway


def _with_globex(config: Snapshot) -> Snapshot:
    """The test configuration with a second organization."""
    fields = {name: getattr(config, name) for name in Snapshot.__dataclass_fields__}
    return Snapshot(
        **(fields | {"organizations": {"acme": Organization(), "globex": Organization()}})
    )


def _as(who: str, **more: str) -> dict[str, str]:
    return {"authorization": f"Bearer {who}"} | more


async def _job(gateway: Gateway, who: str, **more: str) -> str:
    gateway.log.worker = lambda _: ()
    answer = await gateway.client.post("/v1/jobs", json=CHAT, headers=_as(who, **more))
    assert answer.status_code == 202, answer.text
    job_id: str = answer.json()["id"]
    return job_id


async def test_a_request_says_whose_it_is() -> None:
    """By the provider in place of a key, and by its user."""
    gateway = _gateway()
    answer = await gateway.client.post("/v1/chat/completions", json=CHAT, headers=_as("acme.ada"))

    (accepted,) = gateway.log.accepted
    assert answer.status_code == 200
    assert (accepted.key_id, accepted.org, accepted.project, accepted.user) == (
        "oidc:corp",
        "acme",
        None,
        "ada",
    )


@pytest.mark.parametrize("other", ["acme.bob", "globex.ada", "acme"])
async def test_a_job_of_another_user_looks_like_none(other: str) -> None:
    """In the same organization, of the same name in another, and for a program that is vouched for without a user."""
    gateway = _gateway()
    job_id = await _job(gateway, "acme.ada")
    path, own, foreign = f"/v1/jobs/{job_id}", _as("acme.ada"), _as(other)

    assert (await gateway.client.get(path, headers=own)).status_code == 200
    if other != "acme":  # Programs see the jobs of their organization, as API keys do.
        assert (await gateway.client.get(path, headers=foreign)).status_code == 404
        assert (await gateway.client.delete(path, headers=foreign)).status_code == 404
        listed = await gateway.client.get("/v1/jobs", headers=foreign)
        assert listed.json()["data"] == []
    assert (await gateway.client.get(path, headers=own)).json()["status"] == "queued"


async def test_an_api_key_sees_the_jobs_of_its_organization_and_users_see_none_of_its() -> None:
    """A program is its organization's; a user is only a user."""
    gateway = _gateway()
    job_id = await _job(gateway, "acme.ada")
    program = {"x-api-key": SECRET}
    made = await gateway.client.post("/v1/jobs", json=CHAT, headers=program)
    its_id = made.json()["id"]

    listed = await gateway.client.get("/v1/jobs", headers=program)
    assert {job["id"] for job in listed.json()["data"]} == {job_id, its_id}
    path = f"/v1/jobs/{its_id}"
    assert (await gateway.client.get(path, headers=_as("acme.ada"))).status_code == 404


async def test_a_list_has_a_users_own_jobs_page_by_page() -> None:
    """However many of others stand between."""
    gateway = _gateway()
    own = []
    for n in range(7):
        own.append(await _job(gateway, "acme.ada"))
        await _job(gateway, f"acme.other-{n}")
    headers = _as("acme.ada")

    first = (await gateway.client.get("/v1/jobs?limit=3", headers=headers)).json()
    after = first["data"][-1]["id"]
    rest = (await gateway.client.get(f"/v1/jobs?limit=10&after={after}", headers=headers)).json()

    assert (first["has_more"], rest["has_more"]) == (True, False)
    listed = [job["id"] for job in (*first["data"], *rest["data"])]
    assert sorted(listed) == sorted(own)
    assert len(first["data"]) == 3


async def test_an_idempotency_key_is_a_users_own() -> None:
    """Another user who happens on the same key neither gets the answer nor is refused for another body."""
    gateway = _gateway()
    key = {"idempotency-key": "mine"}
    ada = await _job(gateway, "acme.ada", **key)

    assert await _job(gateway, "acme.ada", **key) == ada
    assert await _job(gateway, "acme.bob", **key) != ada
    answer = await gateway.client.post(
        "/v1/jobs", json=CHAT | {"max_tokens": 7}, headers=_as("acme.eve", **key)
    )
    assert answer.status_code == 202


def test_no_key_of_a_program_is_that_of_a_user() -> None:
    """And what programs have claimed stays what it was: the hash of organization, route and key."""
    body = {"model": "echo"}
    program = idempotency_key("k", "acme", "jobs", body).key_hash
    hashes = {
        program,
        idempotency_key("k", "acme", "jobs", body, "oidc:corp/acme/ada").key_hash,
        idempotency_key("k", "acme", "jobs", body, "oidc:corp/acme/bob").key_hash,
        idempotency_key("ada\0k", "acme", "jobs", body).key_hash,
    }

    assert len(hashes) == 4
    assert program == hashlib.sha256(b"acme\0jobs\0k").hexdigest()


async def test_a_spent_budget_of_one_user_refuses_no_other() -> None:
    """Final verdicts are remembered by user, though all share one key id."""
    gateway = _gateway()
    denial = Denial(
        limit_id="user:budget:day",
        limit_type="budget",
        unit="nano_usd",
        current_usage=1,
        limit=1,
    )
    spent = Terminal(402, error_code=ErrorCode.BUDGET_EXCEEDED.value, denial=denial)
    gateway.log.worker = lambda accepted: (spent,) if accepted.user == "ada" else _success()

    async def status(who: str) -> int:
        answer = await gateway.client.post("/v1/chat/completions", json=CHAT, headers=_as(who))
        return answer.status_code

    assert [await status("acme.ada") for _ in range(3)] == [402, 402, 402]
    assert len(gateway.log.accepted) == 1
    assert await status("acme.bob") == 200


def _success() -> tuple[Terminal, ...]:
    """A success."""
    return (Terminal(200, body=b'{"id": "c"}'),)


def test_the_rate_of_one_organization_is_not_anothers() -> None:
    """Both come by one provider, and so by one key id."""
    limits = LocalLimits(1_000.0, 1_000, 1_000_000)
    config = Snapshot(
        organizations={
            "acme": Organization(limits=Limits(requests_per_s=0.001, burst=1)),
            "globex": Organization(),
        }
    )
    ada = placed(Identity("oidc:corp", "acme", user="ada"), config)
    bob = placed(Identity("oidc:corp", "globex", user="ada"), config)
    assert not isinstance(ada, Refusal)
    assert not isinstance(bob, Refusal)

    refused = [limits.refuse(ada, config, 0, 1.0) for _ in range(5)]
    assert any(refused)
    assert [limits.refuse(bob, config, 0, 1.0) for _ in range(5)] == [None] * 5


@pytest.mark.parametrize("plain", ["ada", "ada@example.com", "0f8c-11", "a:b/c"])
def test_a_subject_that_is_an_id_is_the_users_id(plain: str) -> None:
    """So that limits can be put on it by the name that people know."""
    assert user_id_of(plain) == plain


def test_no_two_subjects_share_an_id() -> None:
    """Nor does one that only looks like a digest of another."""
    odd = [
        "auth0|7",
        "auth0|8",
        "a b",
        "a\tb",
        "é",
        "a" * 129,
        "-x",
        user_id_of("auth0|7"),
        "\ud800",
    ]
    ids = [user_id_of(each) for each in odd]

    assert len(set(ids)) == len(odd)
    assert all(each.startswith("sub:") and len(each) == 44 for each in ids)
