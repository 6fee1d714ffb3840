"""Hostile connections: how long each lives, and what another tenant sees meanwhile."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from time import perf_counter
from urllib.parse import urlsplit

from deploy.bench.requests import prepare_mix
from tests.load.offer import offer, ratio_of_pairs
from tests.load.scenarios.neighbours import line, p99_ms
from tests.support.harness.scene import HEALTHY_MODEL, Scene

_PAIRS = 3
_WINDOW_S = 20.0
_SETTLED_S = 1.0
_RATE_PER_S = 50.0
_LIVES_AT_MOST_S = 100.0
_IDLE = 500
_MIB = 1 << 20

Run = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@dataclass(frozen=True)
class Attack:
    """What a hostile client does with its connection, and whether it reads what it is sent."""

    run: Run
    reads: bool = True


async def _nothing(_: asyncio.StreamReader, __: asyncio.StreamWriter) -> None:
    """Connects and says nothing."""


async def _slow_head(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A head that never ends, one byte each half second."""
    writer.write(b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\n")
    while True:
        writer.write(b"a")
        await writer.drain()
        await asyncio.sleep(0.5)


async def _header_bomb(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """One header of 64 MiB."""
    writer.write(b"GET /v1/models HTTP/1.1\r\nHost: x\r\nX-A: ")
    for _n in range(64):
        writer.write(b"a" * _MIB)
        await writer.drain()


async def _many_headers(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """200 000 headers."""
    writer.write(b"GET /v1/models HTTP/1.1\r\nHost: x\r\n")
    for number in range(200_000):
        writer.write(b"x%d: y\r\n" % number)
        if number % 1_000 == 0:
            await writer.drain()


async def _two_hosts(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Two Host headers."""
    writer.write(b"GET /v1/models HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n")


def _slow_body(key: str) -> Run:
    async def attack(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(
            b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
            b"Authorization: Bearer " + key.encode() + b"\r\nContent-Length: 100000\r\n\r\n"
        )
        while True:
            writer.write(b" ")
            await writer.drain()
            await asyncio.sleep(0.5)

    return attack


def _never_reads(key: str) -> Run:
    async def attack(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        reader._transport.pause_reading()  # type: ignore[attr-defined]
        request = (
            b"GET /v1/models HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer "
            + key.encode()
            + b"\r\n\r\n"
        )
        for _n in range(20_000):
            writer.write(request)
            await writer.drain()

    return attack


def _attacks(key: str) -> dict[str, Attack]:
    """Every attack by what it does."""
    return {
        "connects and says nothing": Attack(_nothing),
        "head that never ends": Attack(_slow_head),
        "header of 64 MiB": Attack(_header_bomb),
        "200 000 headers": Attack(_many_headers),
        "two Host headers": Attack(_two_hosts),
        "body of one byte each 0.5 s": Attack(_slow_body(key)),
        "never reads its answers": Attack(_never_reads(key), reads=False),
    }


async def hostile_sockets(scene: Scene) -> list[str]:
    """Each attack alone, for its life; then all of them beside a tenant that does nothing wrong."""
    other, attacker = await scene.tenant("decent"), await scene.tenant("attacker")
    attacks = _attacks(attacker.key)
    lives = await asyncio.gather(*(_life_s(scene.url, attack) for attack in attacks.values()))
    lines = [
        f"{name:<32} {'closed after ' + format(life, '.1f') + ' s' if life is not None else 'lived on'}"
        for name, life in zip(attacks, lives, strict=True)
    ]
    requests = prepare_mix(scene.url, other.key, HEALTHY_MODEL, 0.0)
    pairs = []
    for number in range(1, _PAIRS + 1):
        without = await offer([scene.url], requests, _RATE_PER_S, _WINDOW_S)
        crowd = await _crowd(scene.url, attacker.key)
        await asyncio.sleep(_SETTLED_S)
        with_it = await offer([scene.url], requests, _RATE_PER_S, _WINDOW_S)
        if crowd.returncode is None:
            crowd.terminate()
        await crowd.wait()
        lines += [
            line(f"{number} without", without),
            line(f"{number} beside 570 attackers", with_it),
        ]
        pairs.append((p99_ms(without), p99_ms(with_it)))
    return [*lines, f"p99 with / without: {ratio_of_pairs(pairs)}"]


async def _life_s(url: str, attack: Attack) -> float | None:
    """Seconds until the server had closed the connection; ``None`` when it never did."""
    address = urlsplit(url)
    began_s = perf_counter()
    try:
        reader, writer = await asyncio.open_connection(
            address.hostname, address.port, limit=1 << 16
        )
    except OSError:
        return 0.0
    attacking = asyncio.create_task(_quietly(attack, reader, writer))
    try:
        async with asyncio.timeout(_LIVES_AT_MOST_S):
            while not writer.transport.is_closing():
                if not attack.reads:
                    await asyncio.sleep(0.1)
                elif not await reader.read(1 << 16):
                    break
        return perf_counter() - began_s
    except TimeoutError:
        return None
    except OSError:
        return perf_counter() - began_s
    finally:
        attacking.cancel()
        writer.transport.abort()


async def _quietly(
    attack: Attack, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    try:
        await attack.run(reader, writer)
    except OSError:
        return


async def _crowd(url: str, key: str) -> asyncio.subprocess.Process:
    """All attackers in a process of their own, so that the driver is none of their victims."""
    module = "tests.load.scenarios.sockets"
    return await asyncio.create_subprocess_exec(sys.executable, "-m", module, url, key)


async def _attack_all(url: str, key: str) -> None:
    crowd = [*([Attack(_nothing)] * _IDLE), *list(_attacks(key).values()) * 10]
    async with asyncio.timeout(2 * _WINDOW_S):
        await asyncio.gather(*(_life_s(url, attack) for attack in crowd), return_exceptions=True)


if __name__ == "__main__":
    asyncio.run(_attack_all(*sys.argv[1:3]))
