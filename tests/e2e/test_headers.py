"""Every answer says who it is, what is left and what it cost."""

from __future__ import annotations

import re
import uuid
from decimal import Decimal

import pytest

from tests.support.harness.gateway_client import GatewayClient, Reply, steer
from tests.support.harness.grants import Grant, MakeKey
from tests.support.harness.oracle import Oracle, cost_nano_usd

pytestmark = pytest.mark.timeout(60, func_only=True)
NANO = Decimal("1e-9")
GO_DURATION = re.compile(r"(\d+h)?(\d+m)?(\d+(\.\d+)?s)?|\d+ms")
BURST = 50
TOKENS_PER_MIN = 60_000


@pytest.fixture(scope="module")
def grant(make_key: MakeKey) -> Grant:
    limits = {"requests_per_s": 1, "burst": BURST, "tokens_per_min": TOKENS_PER_MIN}
    return make_key("header-org", limits)


def _assert_limits_are_told(reply: Reply) -> None:
    for what, limit in (("requests", BURST), ("tokens", TOKENS_PER_MIN)):
        told = {
            part: reply.headers[f"x-ratelimit-{part}-{what}"]
            for part in ("limit", "remaining", "reset")
        }
        assert int(told["limit"]) == limit
        assert 0 <= int(told["remaining"]) < limit
        assert GO_DURATION.fullmatch(told["reset"]), told


async def test_json_answer_has_id_limits_and_cost(
    client: GatewayClient, grant: Grant, oracle: Oracle
) -> None:
    """The headers of a JSON answer agree with the limits and with the backend's log."""
    reply = await client.chat(grant.key, "count me")

    assert uuid.UUID(reply.request_id).version == 7
    _assert_limits_are_told(reply)
    (call,) = oracle.calls_of([reply.request_id])
    assert reply.cost_usd == cost_nano_usd(call) * NANO
    assert reply.headers["x-tallygate-backend"] in ("fake-a", "fake-b")


async def test_stream_has_id_and_limits_first_and_cost_last(
    client: GatewayClient, grant: Grant, oracle: Oracle
) -> None:
    """A stream's headers carry what is known then, its last comment carries the cost."""
    reply = await client.chat(grant.key, steer(output_tokens=9), stream=True)

    assert uuid.UUID(reply.request_id).version == 7
    _assert_limits_are_told(reply)
    (call,) = oracle.calls_of([reply.request_id])
    assert reply.cost_usd == cost_nano_usd(call) * NANO
    assert reply.events[-1] == "[DONE]"
    assert "no-transform" in reply.headers["cache-control"]


async def test_refusals_before_acceptance_have_an_id(client: GatewayClient, grant: Grant) -> None:
    """A request that never reached the log can still be talked about."""
    replies = [
        await client.chat("tg_live_nobody", "hello"),
        await client.chat(grant.key, "hello", model="no-such-model"),
        await client.get("/no/such/path"),
    ]

    assert [reply.status for reply in replies] == [401, 404, 404]
    assert len({uuid.UUID(reply.request_id) for reply in replies}) == len(replies)
