"""A method that a path does not take is refused with all those that it takes, on both ports."""

from __future__ import annotations

import httpx
import pytest

from tests.support.gateway import Gateway
from tests.unit.admin.admin_api import admin_app


@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        ("/v1/jobs", "GET, HEAD, POST"),
        ("/v1/jobs/x", "DELETE, GET, HEAD"),
        ("/v1/models", "GET, HEAD"),
        ("/v1/inference", "POST"),
    ],
)
async def test_a_public_path_names_its_methods(path: str, allowed: str) -> None:
    """Also where several routes share it."""
    answer = await Gateway().client.patch(path, json={})

    assert (answer.status_code, answer.headers["allow"]) == (405, allowed)


@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        ("/admin/v1/keys", "GET, HEAD, POST"),
        ("/admin/v1/orgs/acme", "DELETE, GET, HEAD, PUT"),
        ("/v1/status/healthz", "GET, HEAD"),
        ("/openapi.json", "GET, HEAD"),
    ],
)
async def test_an_admin_path_names_its_methods(
    path: str, allowed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Below its prefix, and beside it."""
    app, _ = admin_app(monkeypatch)
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8443") as client:
        answer = await client.patch(path, json={})

    assert (answer.status_code, answer.headers["allow"]) == (405, allowed)
