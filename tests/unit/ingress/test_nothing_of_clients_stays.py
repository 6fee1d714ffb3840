"""What clients send grows no metric (S26) and stands in no log and on no page (S15)."""

from __future__ import annotations

import json
import logging
import random
import re

import httpx
import pytest

from schemas.errors import ERRORS
from schemas.ids import api_key
from tests.support.configuration import SECRET
from tests.support.gateway import Gateway
from tests.support.remembered import grown, remembered

_CANARY = "canary-of-a-prompt-4711"
_CHAT = "/v1/chat/completions"
_STATUS = re.compile(r'status="(\d+)"')
_CODE = re.compile(r'code="(\w*)"')
_STATUSES = {"200"} | {str(spec.status) for spec in ERRORS.values()}


async def _series(gateway: Gateway) -> set[str]:
    """Names and labels of all that is counted."""
    page = (await gateway.client.get("/metrics")).text
    return {line.rpartition(" ")[0] for line in page.splitlines() if not line.startswith("#")}


def _bare(series: str) -> str:
    return _STATUS.sub("", _CODE.sub("", series))


async def _send_odd_ones(gateway: Gateway, rng: random.Random, count: int) -> None:
    """Keys, models, paths and idempotency keys that nobody has seen before."""
    for number in range(count):
        text = f"{rng.getrandbits(64):016x}"
        body = {"model": text, "messages": [{"role": "user", "content": text}]}
        client = gateway.client
        if number % 4 == 0:
            key = api_key(rng.randbytes(32))
            await client.post(_CHAT, json=body, headers={"x-api-key": key})
        elif number % 4 == 1:
            await client.post(_CHAT, json=body, headers={"idempotency-key": text})
        elif number % 4 == 2:
            await client.get(f"/v1/{text}/{text}")
        else:
            await client.get(f"/v1/jobs/{text}")


async def test_random_keys_models_and_paths_make_no_series() -> None:
    """S26: of eight thousand more of them nothing is left but another status of the closed list."""
    gateway, rng = Gateway(), random.Random(26)
    await _send_odd_ones(gateway, rng, 40)
    await _series(gateway)  # which is counted itself
    before = await _series(gateway)

    await _send_odd_ones(gateway, rng, 8_000)
    after = await _series(gateway)

    assert any("tallygate_requests_total" in one for one in before)
    # Which limits refuse depends on how fast they are sent; labels of limits are of closed lists.
    grown = {_bare(one) for one in after} - {_bare(one) for one in before}
    assert {one.partition("{")[0] for one in grown} <= {"tallygate_limit_decisions_total"}
    assert not any(re.search("[0-9a-f]{16}", one) for one in after)
    assert {status for one in after for status in _STATUS.findall(one)} <= _STATUSES
    assert {code for one in after for code in _CODE.findall(one)} <= {"", *ERRORS}


async def test_no_function_remembers_what_comes_with_every_request() -> None:
    """Neither of good requests nor of odd ones."""
    gateway, rng = Gateway(), random.Random(27)
    await _send_odd_ones(gateway, rng, 8)
    before = remembered()

    await _send_odd_ones(gateway, rng, 80)
    for number in range(40):
        said = [{"role": "user", "content": f"{number}"}]
        answer = await gateway.client.post(_CHAT, json={"model": "echo", "messages": said})
        assert answer.status_code == 200

    assert sum(grown(before).values()) < 10, "what a process meets for the first time"


async def test_a_prompt_is_in_no_log_and_on_no_page(caplog: pytest.LogCaptureFixture) -> None:
    """S15: of good requests and bad ones, whatever the level; it goes to the workers and nowhere else."""
    caplog.set_level(logging.DEBUG)
    gateway = Gateway()
    said = [{"role": "user", "content": _CANARY}]
    good = {"model": "echo", "messages": said}

    told: list[httpx.Response] = [
        await gateway.client.post(_CHAT, json=good),
        await gateway.client.post(_CHAT, json=good | {"stream": True}),
        await gateway.client.post(_CHAT, json=good | {"n": 99}),
        await gateway.client.post(_CHAT, json=good | {"model": "none"}),
        await gateway.client.post(_CHAT, json=good | {"messages": _CANARY}),
        await gateway.client.post(_CHAT, json=good | {"messages": [_CANARY]}),
        await gateway.client.post(
            _CHAT, content=json.dumps(good)[:-1], headers={"content-type": "application/json"}
        ),
    ]

    assert [answer.status_code for answer in told] == [200, 200, 400, 404, 400, 400, 400]
    assert _CANARY.encode() in (gateway.log.records[0].value or b"")
    assert [record for record in gateway.log.records if _CANARY in str(record.headers)] == []
    for page in ("/metrics", "/v1/status/readyz", "/v1/status/healthz"):
        assert _CANARY not in (await gateway.client.get(page)).text
    assert _CANARY not in caplog.text
    assert SECRET not in caplog.text
