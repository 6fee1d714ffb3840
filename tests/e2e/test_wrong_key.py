"""A key with one wrong character opens nothing, and no backend hears of it."""

from __future__ import annotations

import asyncio

import httpx
import pytest

from tests.support.harness.gateway_client import GatewayClient
from tests.support.harness.grants import MakeKey
from tests.support.harness.oracle import Oracle

pytestmark = pytest.mark.timeout(60, func_only=True)


@pytest.mark.parametrize("position", [9, -1])
async def test_one_changed_character_is_refused(
    client: GatewayClient, make_key: MakeKey, oracle: Oracle, position: int
) -> None:
    """401 on both surfaces, and the backends' logs do not grow."""
    grant = make_key("wrong-key-org")
    changed = list(grant.key)
    changed[position] = "A" if changed[position] != "A" else "B"
    wrong = "".join(changed)
    before = len(oracle.calls())
    chat, native = await client.chat(wrong, "hello"), await client.infer(wrong, "hello")
    right = await client.chat(grant.key, "hello")

    assert (chat.status, native.status, right.status) == (401, 401, 200)
    assert chat.json["error"]["code"] == "invalid_api_key"
    assert native.json["code"] == "invalid_api_key"
    assert len(oracle.calls()) == before + 1


async def test_a_revoked_key_is_refused(
    client: GatewayClient, make_key: MakeKey, oracle: Oracle, admin: httpx.Client
) -> None:
    """A key that worked is refused after its revocation was acknowledged."""
    grant = make_key("revoked-key-org")
    assert (await client.chat(grant.key, "hello")).status == 200
    before = len(oracle.calls())
    revoked = await asyncio.to_thread(admin.post, f"/keys/{grant.key_id}/revoke")
    revoked.raise_for_status()
    refused = await client.chat(grant.key, "hello")

    assert refused.status == 401
    assert len(oracle.calls()) == before
