"""How tests make jobs and wait for them, as clients do."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import httpx

from tests.support.harness.gateway_client import MODEL

DONE_WITHIN_S = 45.0
POLL_S = 0.1
ENDS = ("completed", "failed", "cancelled", "expired")


def jobs_client(api_url: str, key: str) -> httpx.AsyncClient:
    """The public API with this key."""
    headers = {"Authorization": f"Bearer {key}"}
    return httpx.AsyncClient(base_url=api_url, headers=headers, timeout=30, trust_env=False)


def chat(content: str, **more: Any) -> dict[str, Any]:
    """The body of a chat request."""
    return {"model": MODEL, "messages": [{"role": "user", "content": content}], **more}


async def until_ended(api: httpx.AsyncClient, job_id: str) -> dict[str, Any]:
    """The job once it has ended."""
    return await until(api, job_id, *ENDS)


async def until(api: httpx.AsyncClient, job_id: str, *statuses: str) -> dict[str, Any]:
    """The job once its status is one of these."""
    end_s = time.monotonic() + DONE_WITHIN_S
    while time.monotonic() < end_s:
        answer = await api.get(f"/jobs/{job_id}")
        if answer.status_code == 503:
            # The ledger was restarted: jobs are found again once they are back.
            await asyncio.sleep(POLL_S)
            continue
        assert answer.status_code == 200, answer.text
        job: dict[str, Any] = answer.json()
        if job["status"] in statuses:
            return job
        assert answer.headers["retry-after"] == "2"
        await asyncio.sleep(POLL_S)
    raise AssertionError(f"job {job_id} is not {statuses}")
