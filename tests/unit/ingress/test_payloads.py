"""What waits for an answer holds no payload: thousands wait for minutes, each with a body of up to 4 MiB."""

from __future__ import annotations

import asyncio
import gc

import pytest

from ingress.apis.parsed_request import Call
from ingress.requests.validation import ValidatedRequest
from tests.support.gateway import Gateway


@pytest.mark.parametrize(
    ("headers", "is_stream"),
    [
        ({}, False),
        ({}, True),
        ({"idempotency-key": "k"}, False),
        ({"prefer": "respond-async, wait=20"}, False),
    ],
    ids=["plain", "stream", "keyed", "background"],
)
async def test_a_request_that_waits_has_let_its_payload_go(
    headers: dict[str, str], *, is_stream: bool
) -> None:
    """It is in the log; neither the endpoint nor what was begun keeps what was validated."""
    gateway = Gateway()
    gateway.log.worker = lambda _: ()
    gateway.client.headers.update(headers)
    asking = asyncio.create_task(gateway.chat(stream=is_stream))
    await gateway.log.arrived.wait()
    await asyncio.sleep(0)

    kept = [held for held in gc.get_objects() if isinstance(held, ValidatedRequest | Call)]
    is_waiting = len(gateway.pending) == 1
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)

    assert is_waiting
    assert kept == []
