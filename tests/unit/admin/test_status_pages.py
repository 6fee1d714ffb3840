"""What the control plane says of itself, to whom, and that it refuses at once what cannot be written."""

from __future__ import annotations

import httpx
import pytest

from schemas.readiness import HEALTHZ, METRICS, READYZ, STARTUPZ
from tests.support.samples import samples
from tests.unit.admin.admin_api import admin_app

AWAY = {"kafka": "no answer for 7 s", "ledger": "ok", "config": "ok", "clock": "ok"}
WELL = {**AWAY, "kafka": "ok"}
ORG = "/admin/v1/orgs/acme"


def client_of(
    monkeypatch: pytest.MonkeyPatch, components: dict[str, str], peer: str = "127.0.0.1"
) -> httpx.AsyncClient:
    """A client at this address, of an admin process with these components."""
    app, _ = admin_app(monkeypatch, components)
    transport = httpx.ASGITransport(app, client=(peer, 50_000))
    return httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8443")


@pytest.mark.parametrize("path", [READYZ, STARTUPZ])
async def test_readiness_names_what_is_missing(monkeypatch: pytest.MonkeyPatch, path: str) -> None:
    """And health stays 200, because the process itself answers."""
    async with client_of(monkeypatch, AWAY) as away, client_of(monkeypatch, WELL) as well:
        found, sound = await away.get(path), await well.get(path)
        assert (await away.get(HEALTHZ)).status_code == 200

    assert (found.status_code, sound.status_code) == (503, 200)
    assert found.json()["reasons"] == ["kafka: no answer for 7 s"]
    assert found.json()["components"] == AWAY
    assert sound.json()["status"] == "ok"


async def test_a_write_that_cannot_succeed_is_refused_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With what is missing; what can be told from memory is told all the same."""
    async with client_of(monkeypatch, AWAY) as client:
        refused = await client.put(ORG, json={})
        listed = await client.get("/admin/v1/orgs")

    assert refused.status_code == 503
    assert "kafka: no answer for 7 s" in refused.json()["detail"]
    assert listed.json() == {"items": []}


@pytest.mark.parametrize("peer", ["10.0.0.7", "::ffff:10.0.0.7", "not an address"])
async def test_another_machine_reads_status_pages_and_nothing_else(
    monkeypatch: pytest.MonkeyPatch, peer: str
) -> None:
    """Whatever host it claims to have addressed, and whatever the port is bound to."""
    async with client_of(monkeypatch, WELL, peer) as client:
        statuses = [(await client.get(p)).status_code for p in (HEALTHZ, READYZ, METRICS, ORG)]
        written = await client.put(ORG, json={})

    assert statuses == [200, 200, 200, 403]
    assert written.status_code == 403


@pytest.mark.parametrize("peer", ["127.0.0.1", "127.8.0.1", "::1", "::ffff:127.0.0.1"])
async def test_this_machine_is_let_in(monkeypatch: pytest.MonkeyPatch, peer: str) -> None:
    """Under each of its own addresses."""
    async with client_of(monkeypatch, WELL, peer) as client:
        assert (await client.put(ORG, json={})).status_code == 200


async def test_answers_are_counted_by_status(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the guard refuses too."""
    async with client_of(monkeypatch, AWAY) as client:
        await client.get("/admin/v1/orgs")
        await client.put(ORG, json={})
        page = (await client.get(METRICS)).text

    counted = samples(page)
    name, answered = "tallygate_requests_total", {"operation": "admin", "status": "200", "code": ""}
    refused = {"operation": "admin", "status": "503", "code": "service_unavailable"}
    assert counted[name, frozenset(answered.items())] == 1
    assert counted[name, frozenset(refused.items())] == 1


async def test_the_status_names_the_brokers_and_not_who_logs_in(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Every role of the control plane sees that page."""
    app, _ = admin_app(monkeypatch, kafka_brokers="kafka://u:hidden@127.0.0.1:1,b")
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8443") as client:
        found = await client.get("/admin/v1/status")

    assert found.json()["kafka_brokers"] == "127.0.0.1:1,b:9092"
    assert "hidden" not in found.text
