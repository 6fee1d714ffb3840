"""Some tiny Redis servers that are one cluster: who serves what, and what they say of it, is the test's."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from schemas.runtime.valkey.slots import SLOTS, slot_of
from tests.unit.runtime.resp_server import RespServer, resp_server

_UNKEYED = (b"ASKING", b"CLIENT", b"PING", b"HOOK", b"INFO")


def _bulk(text: str) -> bytes:
    return b"$%d\r\n%b\r\n" % (len(text), text.encode())


class RespCluster:
    """Shares of slots among servers. ``told`` is what all of them say, ``owners`` what is true."""

    def __init__(self, servers: list[RespServer]) -> None:
        self.servers = servers
        self.owners = [slot * len(servers) // SLOTS for slot in range(SLOTS)]
        self.told = list(self.owners)
        self.asking: dict[int, int] = {}
        """Slots on their way, and to whom."""
        self.read_at_s: list[float] = []
        """When it was asked who serves what."""
        self.silent: set[int] = set()
        for number, server in enumerate(servers):
            server.answer = lambda command, number=number: self._answer(number, command)  # type: ignore[misc]
        self._was_asked = False

    @property
    def url(self) -> str:
        """All of them."""
        return "redis+cluster://" + ",".join(f"127.0.0.1:{each.port}" for each in self.servers)

    def move(self, key: str, to: int, *, is_told: bool = True) -> None:
        """Give the key's slot to another server."""
        self.owners[slot_of(key)] = to
        if is_told:
            self.told[slot_of(key)] = to

    def key_of(self, number: int, nth: int = 0) -> str:
        """A key that the server has."""
        keys = (f"key-{n}" for n in range(10_000))
        return [key for key in keys if self.owners[slot_of(key)] == number][nth]

    def heard(self, number: int) -> list[bytes]:
        """What the server was asked for, beside what clients ask of themselves."""
        commands = self.servers[number].commands
        return [command[0] for command in commands if command[0] not in (b"CLIENT", b"CLUSTER")]

    def _answer(self, number: int, command: list[bytes]) -> bytes:
        if command[0] == b"CLUSTER":
            self.read_at_s.append(time.monotonic())
            return self._slots()
        if number in self.silent:
            return b""
        was_asked, self._was_asked = self._was_asked, command[0] == b"ASKING"
        if command[0] in _UNKEYED:
            return b"+OK\r\n"
        slot = slot_of(command[3] if command[0] == b"FCALL" else command[1])
        if self.asking.get(slot) == number and was_asked:
            return _bulk(f"asked {number}")
        if self.owners[slot] != number:
            return self._elsewhere("MOVED", slot, self.owners[slot])
        if slot in self.asking:
            return self._elsewhere("ASK", slot, self.asking[slot])
        return _bulk(f"from {number}")

    def _elsewhere(self, word: str, slot: int, number: int) -> bytes:
        return f"-{word} {slot} 127.0.0.1:{self.servers[number].port}\r\n".encode()

    def _slots(self) -> bytes:
        starts = [n for n in range(SLOTS) if n == 0 or self.told[n] != self.told[n - 1]]
        entries = []
        for first, end in zip(starts, [*starts[1:], SLOTS], strict=True):
            port = self.servers[self.told[first]].port
            node = b"*3\r\n" + _bulk("127.0.0.1") + b":%d\r\n" % port + _bulk(f"id-{port}")
            entries.append(b"*3\r\n:%d\r\n:%d\r\n" % (first, end - 1) + node)
        return b"*%d\r\n" % len(entries) + b"".join(entries)


@asynccontextmanager
async def resp_cluster(size: int = 3) -> AsyncIterator[RespCluster]:
    """Servers that listen until the block is left."""
    async with AsyncExitStack() as running:
        yield RespCluster([await running.enter_async_context(resp_server()) for _ in range(size)])
