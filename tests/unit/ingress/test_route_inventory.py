"""S10, S20: the public routes, written down once more; and S1: what a stranger's id finds on those that take one."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Final

import httpx
import pytest
from starlette.routing import Route

from schemas.entities import Key, Organization
from schemas.ids import api_key_hash, uuid7
from schemas.responses import response_id
from tests.support.configuration import NOW_MS, PEPPER, UNKNOWN_SECRET, snapshot
from tests.support.gateway import Gateway

ROUTES: Final = {
    "POST /v1/chat/completions",
    "POST /v1/completions",
    "POST /v1/embeddings",
    "POST /v1/responses",
    "GET /v1/responses/{response_id}",
    "POST /v1/responses/{response_id}/cancel",
    "POST /v1/messages",
    "POST /v1/messages/count_tokens",
    "POST /v1/inference",
    "POST /v1/jobs",
    "GET /v1/jobs",
    "GET /v1/jobs/{job_id}",
    "DELETE /v1/jobs/{job_id}",
    "GET /v1/limits",
    "GET /v1/usage",
    "GET /v1/organization/usage/completions",
    "GET /v1/organization/usage/{name}",
    "GET /v1/organization/costs",
    "GET /v1/requests/{request_id}",
    "GET /v1/requests/{request_id}/events",
    "POST /v1/files",
    "GET /v1/files",
    "GET /v1/files/{file_id}",
    "DELETE /v1/files/{file_id}",
    "GET /v1/files/{file_id}/content",
    "POST /v1/batches",
    "GET /v1/batches",
    "GET /v1/batches/{batch_id}",
    "POST /v1/batches/{batch_id}/cancel",
    "GET /v1/models",
    "GET /v1/models/{name:path}",
    "GET /v1/status/healthz",
    "GET /v1/status/readyz",
    "GET /v1/status/startupz",
    "GET /metrics",
    "GET /openapi.json",
    "GET /docs",
    "GET /llms.txt",
    "GET /llms-full.txt",
}
"""Whoever adds one says here that it is meant to be reached by everybody."""
_WITHOUT_A_KEY: Final = {
    "/v1/status/healthz",
    "/v1/status/readyz",
    "/v1/status/startupz",
    "/metrics",
    "/openapi.json",
    "/docs",
    "/llms.txt",
    "/llms-full.txt",
}
_JOBS: Final = {"GET /v1/jobs/{job_id}", "DELETE /v1/jobs/{job_id}"}
_RESPONSES: Final = {
    "GET /v1/responses/{response_id}",
    "POST /v1/responses/{response_id}/cancel",
}
_FILES: Final = {
    "GET /v1/files/{file_id}",
    "DELETE /v1/files/{file_id}",
    "GET /v1/files/{file_id}/content",
}
_BATCHES: Final = {"GET /v1/batches/{batch_id}", "POST /v1/batches/{batch_id}/cancel"}
_REQUESTS: Final = {
    "GET /v1/requests/{request_id}",
    "GET /v1/requests/{request_id}/events",
}
"""What a stranger is told there is in ``test_request_desk``: it needs a log."""
_TAKES_AN_ID: Final = _JOBS | _RESPONSES | _FILES | _BATCHES | _REQUESTS
_ID: Final = re.compile(r"\{\w+_id\}")


async def test_the_public_routes_are_these() -> None:
    """Plain routes only: no mounted application, no files, no sockets."""
    gateway = Gateway()
    routes = gateway.app.others.routes
    assert all(isinstance(route, Route) for route in routes)

    served = {
        f"{method} {route.path}"
        for route in routes
        if isinstance(route, Route)
        for method in route.methods or ("POST",)
        if method != "HEAD"
    }

    assert served == ROUTES
    assert {row for row in ROUTES if "_id}" in row} == _TAKES_AN_ID


@pytest.mark.parametrize("row", sorted(ROUTES))
async def test_without_a_key_only_what_is_for_everybody_answers(row: str) -> None:
    """All else is 401, before anything is looked up."""
    method, path = _ID.sub("x", row).replace("{name:path}", "echo").split(" ")
    gateway = Gateway()
    del gateway.client.headers["x-api-key"]

    answer = await gateway.client.request(method, path, json={} if method == "POST" else None)

    assert (answer.status_code == 401) == (path not in _WITHOUT_A_KEY)
    assert gateway.log.records == []


@pytest.mark.parametrize("row", sorted(_JOBS | _RESPONSES))
async def test_an_id_of_another_organization_is_one_of_nobody(row: str) -> None:
    """S1: the same words as for an id that never was, and nothing is done to what it names."""
    method, path = row.split(" ")
    gateway = _with_a_stranger()
    body = {"model": "echo", "messages": [{"role": "user", "content": "hi"}]}
    mine = (await gateway.client.post("/v1/jobs", json=body)).json()["id"]
    stranger = {"x-api-key": UNKNOWN_SECRET}

    forms = str if "{job_id}" in path else response_id
    told = [
        await gateway.client.request(method, _ID.sub(forms(each), path), headers=stranger)
        for each in (mine, uuid7(NOW_MS, bytes(10)))
    ]
    own = await gateway.client.get(f"/v1/jobs/{mine}")

    assert [answer.status_code for answer in told] == [404, 404]
    assert len({_without_request_id(answer) for answer in told}) == 1
    assert mine not in (await gateway.client.get("/v1/jobs", headers=stranger)).text
    assert (own.status_code, own.json()["status"]) == (200, "queued")


def _with_a_stranger() -> Gateway:
    """Whose key is as good as any, in an organization of its own. No worker answers."""
    gateway = Gateway()
    gateway.log.worker = lambda _: ()
    known = snapshot()
    key = Key(org="other", hash=api_key_hash(PEPPER, UNKNOWN_SECRET), display="", created_at_ms=0)
    gateway.config.snapshot = replace(
        known,
        organizations={**known.organizations, "other": Organization()},
        keys={**known.keys, "key_other": key},
        key_id_by_hash={**known.key_id_by_hash, key.hash: "key_other"},
    )
    return gateway


def _without_request_id(answer: httpx.Response) -> str:
    return answer.text.replace(answer.headers["x-request-id"], "")
