"""Hostile connections against a running ingress: when each is closed, and what a neighbour sees."""

from __future__ import annotations

import asyncio
import time

import pytest

from tests.support.harness.gateway_client import GatewayClient
from tests.support.harness.grants import Grant, MakeKey
from tests.support.harness.running_stack import RunningStack

pytestmark = pytest.mark.timeout(90, func_only=True)
HEAD = b"POST /v1/chat/completions HTTP/1.1\r\nHost: gate\r\n"
SLOW_HEADS = 300


@pytest.fixture(scope="module")
def grant(make_key: MakeKey) -> Grant:
    return make_key("front-door")


def _address(stack: RunningStack) -> tuple[str, int]:
    host, _, port = stack.api_url.split("://")[1].partition("/")[0].partition(":")
    return host, int(port)


async def _closed_after(
    stack: RunningStack, first: bytes, drip: bytes = b""
) -> tuple[float, bytes]:
    """Seconds until the server hangs up, and what it said."""
    reader, writer = await asyncio.open_connection(*_address(stack))
    begun_s = time.monotonic()
    writer.write(first)

    async def trickle() -> None:
        while drip:
            writer.write(drip)
            await asyncio.sleep(0.5)

    dripping, said = asyncio.create_task(trickle()), b""
    try:
        async with asyncio.timeout(40):
            while part := await reader.read(4_096):
                said += part
    except ConnectionError:
        pass  # Who writes on after the last word is reset; what was said before has been read.
    finally:
        dripping.cancel()
        writer.close()
    return time.monotonic() - begun_s, said


async def test_each_hostile_connection_is_closed_in_its_time_and_a_neighbour_notices_nothing(
    stack: RunningStack, grant: Grant, client: GatewayClient
) -> None:
    authorized = b"Authorization: Bearer " + grant.key.encode() + b"\r\n"
    json_head = HEAD + authorized + b"Content-Type: application/json\r\n"
    cases: dict[str, tuple[bytes, bytes, float, bytes]] = {
        "says nothing": (b"", b"", 12.5, b""),
        "half a head": (HEAD, b"", 12.5, b"408"),
        "a head that drips": (HEAD, b"a: b\r\n", 12.5, b"408"),
        "64 KiB of header": (HEAD + b"X: " + b"a" * 65_536, b"", 3.0, b"431"),
        "10 000 headers": (HEAD + b"a: b\r\n" * 10_000, b"", 3.0, b"431"),
        "two hosts": (HEAD + b"Host: b\r\n\r\n", b"", 3.0, b"400"),
        "a body that stops": (json_head + b"Content-Length: 999\r\n\r\n{", b"", 14.0, b"408"),
        "a body that drips": (json_head + b"Content-Length: 999\r\n\r\n{", b" ", 14.0, b"408"),
    }
    slow = [_closed_after(stack, HEAD, b"a: b\r\n") for _ in range(SLOW_HEADS)]
    attack = asyncio.gather(
        *(_closed_after(stack, first, drip) for first, drip, _, _ in cases.values()), *slow
    )
    waits_s: list[float] = []
    while not attack.done():
        begun_s = time.monotonic()
        reply = await client.infer(grant.key, "alpha")
        assert reply.status == 200, reply.body
        waits_s.append(time.monotonic() - begun_s)
        await asyncio.sleep(0.1)
    ended = await attack
    for (name, (_, _, within_s, status)), (took_s, said) in zip(cases.items(), ended, strict=False):
        print(f"{name:20} {took_s:5.1f} s  {said[:12]!r}")
        assert took_s < within_s, name
        assert said[9:12] == status, (name, said)
    print(f"neighbour: {len(waits_s)} requests, slowest {max(waits_s) * 1000:.0f} ms")
    assert max(took_s for took_s, _ in ended) < 15
