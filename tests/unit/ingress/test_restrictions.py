"""What a key of limited scopes or networks may not do."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from ingress.auth.restrictions import client_address
from schemas.networks import address_in
from tests.support.configuration import SECRET
from tests.support.gateway import Gateway

_PROXIES = ("10.0.0.0/8", "2001:db8:f::/48")


def _gateway(**limited: Any) -> Gateway:
    """The first key is limited so."""
    gateway = Gateway()
    keys = dict(gateway.config.snapshot.keys)
    keys["key_a"] = msgspec.structs.replace(keys["key_a"], **limited)
    object.__setattr__(gateway.config.snapshot, "keys", keys)
    return gateway


async def _asked(gateway: Gateway) -> dict[str, int]:
    """The status of each route."""
    body = {"model": "echo", "messages": [{"role": "user", "content": "hi"}]}
    client = gateway.client
    answers = {
        "chat": await gateway.chat(),
        "async": await client.post(
            "/v1/chat/completions", json=body, headers={"prefer": "respond-async"}
        ),
        "submit": await client.post("/v1/jobs", json={"request": body}),
        "list": await client.get("/v1/jobs"),
        "job": await client.get("/v1/jobs/0190a7c2-0000-7000-8000-000000000000"),
        "cancel": await client.delete("/v1/jobs/0190a7c2-0000-7000-8000-000000000000"),
        "models": await client.get("/v1/models"),
        "model": await client.get("/v1/models/echo"),
    }
    return {name: answer.status_code for name, answer in answers.items()}


@pytest.mark.parametrize(
    ("scopes", "open_to"),
    [
        (("inference",), {"chat"}),
        (("jobs",), {"submit", "list", "job", "cancel"}),
        (("models:read",), {"models", "model"}),
        (("inference", "jobs"), {"chat", "async", "submit", "list", "job", "cancel"}),
        ((), set()),
    ],
)
async def test_a_scope_opens_its_routes_and_no_other(
    scopes: tuple[str, ...], open_to: set[str]
) -> None:
    """What is answered by the promise of a job needs the scope of jobs as well, for it could not be fetched."""
    statuses = await _asked(_gateway(scopes=scopes))

    assert {name for name, status in statuses.items() if status != 403} == open_to


async def test_a_refusal_names_the_scope_and_reaches_the_auditors() -> None:
    """Nothing of the request goes any further."""
    gateway = _gateway(scopes=("jobs",))
    answer = await gateway.chat()

    assert answer.json()["error"]["code"] == "key_not_allowed"
    assert "inference" in answer.json()["error"]["message"]
    assert gateway.log.records == []
    (event,) = gateway.gatekeeper.tally.take()
    assert (event.actor, "key_not_allowed" in (event.detail or "")) == ("key_a", True)


async def test_a_key_is_refused_from_outside_its_networks() -> None:
    """The test client calls from 127.0.0.1."""
    inside, outside = _gateway(networks=("127.0.0.0/8",)), _gateway(networks=("10.0.0.0/8",))

    assert (await inside.chat()).status_code == 200
    assert set((await _asked(outside)).values()) == {403}
    assert outside.log.records == []


async def test_what_a_client_writes_into_forwarded_for_is_not_believed() -> None:
    """Without trusted proxies the connection's address counts."""
    gateway = _gateway(networks=("10.0.0.0/8",))
    gateway.client.headers = {"x-api-key": SECRET, "x-forwarded-for": "10.0.0.1"}

    assert (await gateway.chat()).status_code == 403


@pytest.mark.parametrize(
    ("peer", "sent", "address"),
    [
        ("192.0.2.1", ["10.0.0.1"], "192.0.2.1"),
        ("10.0.0.1", ["192.0.2.1"], "192.0.2.1"),
        ("10.0.0.1", ["198.51.100.7, 192.0.2.1"], "192.0.2.1"),
        ("10.0.0.1", ["198.51.100.7", "192.0.2.1, 10.9.9.9"], "192.0.2.1"),
        ("10.0.0.1", ["192.0.2.1:4711"], "192.0.2.1"),
        ("10.0.0.1", ["[2001:db8::1]:443"], "2001:db8::1"),
        ("10.0.0.1", ["[2001:db8::1]"], "2001:db8::1"),
        ("10.0.0.1", ["2001:db8::1"], "2001:db8::1"),
        ("::ffff:10.0.0.1", ["192.0.2.1"], "192.0.2.1"),
        ("10.0.0.1", ["192.0.2.1, unknown"], None),
        ("10.0.0.1", ["192.0.2.1,"], None),
        ("10.0.0.1", [], None),
        ("10.0.0.1", ["10.0.0.2"], "10.0.0.2"),
        ("10.0.0.1", [",".join(["198.51.100.7"] + ["10.0.0.2"] * 99)], "10.0.0.2"),
        (None, ["192.0.2.1"], None),
    ],
)
def test_behind_trusted_proxies_the_nearest_other_address_counts(
    peer: str | None, sent: list[str], address: str | None
) -> None:
    """However many headers and proxies there are; what is no address is nobody's."""
    headers = [(b"x-forwarded-for", value.encode()) for value in sent]
    client = None if peer is None else (peer, 1)

    found = client_address({"client": client, "headers": headers}, _PROXIES)

    assert found == (None if address is None else address_in(address))
