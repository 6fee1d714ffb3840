"""A cluster of servers as one store: each key's slot has a primary, and each primary a connection.

Who serves what is read at the start, and again when a server says that a key has moved, when a connection is
lost, and now and then: by one task, one reading at a time and at most one a second, however many commands
found out. A server gets no command of a slot before what runs on new connections has run there for that slot.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final

from schemas.log_events import LogEvent
from schemas.readiness import DEGRADED
from schemas.runtime.process.event_log import EventLog
from schemas.runtime.process.telemetry import Metrics
from schemas.runtime.valkey.address import Endpoint, StoreAddress
from schemas.runtime.valkey.node import NodeConnection
from schemas.runtime.valkey.pipe import Pending, Sent, failed
from schemas.runtime.valkey.replies import BrokenProtocol
from schemas.runtime.valkey.slots import SLOTS, key_of, slot_of
from schemas.runtime.valkey.store import Argument, OnConnect, StoreUnavailable
from schemas.runtime.valkey.topology import read_topology
from schemas.runtime.valkey.wire import CONNECT_DEADLINE_S

_LOG = EventLog(__name__)

REDIRECTS_MAX: Final = 5
_READ_EVERY_S: Final = 1.0
"""As often as it may be read."""
_LOOK_EVERY_S: Final = 10.0
"""As often as it is read at least."""
_MOVED_MAX: Final = 20_000
_IMPORTING_MAX: Final = 16
_FUNCTION: Final = b"\nFCALL\r"
_HEAD_BYTES: Final = 24
"""As far as a packed command says which it is."""
_UNSERVED: Final = "nobody is known to serve the key"


@dataclass(slots=True)
class _Member:
    """A primary: our connection to it, and the slots for which it was met."""

    slots: frozenset[int]
    connection: NodeConnection = field(init=False)

    def serves(self, key: str) -> bool:
        """Whether a key is looked for here."""
        return slot_of(key) in self.slots


class ClusterStore:
    """``Store`` over the primaries of a cluster."""

    def __init__(self, address: StoreAddress, on_connect: OnConnect | None = None) -> None:
        self._address = address
        self._on_connect = on_connect
        self._members: dict[Endpoint, _Member] = {}
        self._by_slot: list[NodeConnection | None] = [None] * SLOTS
        self._importing: dict[Endpoint, NodeConnection] = {}
        """Servers that have no slot yet, to which one is on its way."""
        self._moved: deque[tuple[int, Pending]] = deque()
        """Commands that wait for the next reading, because their slot has moved."""
        self._stale = asyncio.Event()
        self._changed = asyncio.Event()
        self._ending = asyncio.Event()
        self._keeper: asyncio.Task[None] | None = None
        self._sent = Sent()
        self._ended = 0
        """Connections that were made to servers that are members no longer."""
        self._why = "not connected"

    @property
    def connected(self) -> bool:
        """Whether every slot has a primary that answers."""
        return None not in self._by_slot and not self._away()

    @property
    def trouble(self) -> str:
        """Who is away, and why; what the others serve works all the same."""
        away = self._away()
        named = ", ".join(f"{at}: {self._members[at].connection.trouble}" for at in away)
        if len(away) == len(self._members):
            return named or self._why
        return f"{DEGRADED}{named or _UNSERVED}"

    @property
    def connections(self) -> int:
        """How many were made, to all servers together."""
        return self._ended + sum(each.connection.connections for each in self._members.values())

    def expose(self, metrics: Metrics, kind: str) -> None:
        """Export how many commands went out, and in how many writes."""
        metrics.total("tallygate_store_commands_total", lambda: self._sent.commands, kind)
        metrics.total("tallygate_store_flushes_total", lambda: self._sent.flushes, kind)

    async def start(self) -> None:
        """Connect, waiting a few seconds for all servers; one is enough then.

        Raises ``StoreUnavailable`` when no server tells who serves what, or none lets us in.
        """
        await self._read()
        with suppress(TimeoutError):
            async with asyncio.timeout(CONNECT_DEADLINE_S):
                while not self.connected:
                    self._changed.clear()
                    await self._changed.wait()
        if len(self._away()) == len(self._members):
            why = self.trouble
            await self._end()
            raise StoreUnavailable(why)
        self._keeper = asyncio.create_task(self._keep())

    async def stop(self) -> None:
        """Disconnect for good."""
        if self._keeper is not None:
            # Not cancelled, because redis-py may lose a cancellation and its connection; a reading ends soon.
            self._ending.set()
            self._stale.set()
            await asyncio.wait([self._keeper])
        await self._end()

    def call(self, *command: Argument) -> asyncio.Future[Any]:
        """Send the command to the primary of its key's slot; one without a key to whoever answers."""
        key = key_of(command)
        connection = self._anyone() if key is None else self._by_slot[slot_of(key)]
        if connection is None:
            self._stale.set()
            return failed(_UNSERVED)
        return connection.call(*command)

    async def call_each(self, *command: Argument) -> list[Any]:
        """The replies of those that answer; raises the first failure when none does."""
        replies = await asyncio.gather(
            *(member.connection.call(*command) for member in self._members.values()),
            return_exceptions=True,
        )
        answered = [reply for reply in replies if not isinstance(reply, BaseException)]
        if not answered:
            raise next(iter(replies), StoreUnavailable(_UNSERVED))
        return answered

    def _anyone(self) -> NodeConnection | None:
        connections = (member.connection for member in self._members.values())
        return next((connection for connection in connections if connection.connected), None)

    def _away(self) -> list[Endpoint]:
        return [at for at, member in self._members.items() if not member.connection.connected]

    async def _keep(self) -> None:
        """Read who serves what: when something says that it changed, and now and then."""
        while not self._ending.is_set():
            if self.connected:
                await _wait(self._stale, _LOOK_EVERY_S)
            try:
                await self._read()
            except StoreUnavailable as error:
                self._why = str(error)
                _LOG.event(LogEvent.CLUSTER_UNREAD, error=error)
            self._send_moved()
            # Jitter, because all processes learn of a change in the same moment.
            await _wait(self._ending, _READ_EVERY_S * random.uniform(1.0, 1.5))  # noqa: S311  # no secret

    async def _read(self) -> None:
        """Learn who serves what, and have them serve it. Raises ``StoreUnavailable``."""
        self._stale.clear()
        topology = await read_topology(self._address, list(self._members))
        for at in self._members.keys() - topology.keys():
            # Also one that was demoted and lives on: it is met anew if it comes back.
            self._drop(at)
        for at, connection in list(self._importing.items()):
            if at in topology or not connection.connected:
                self._importing.pop(at).end()
        for at, member in self._members.items():
            member.slots &= topology[at]
        self._route()
        await asyncio.gather(*(self._gain(at, slots) for at, slots in topology.items()))
        self._route()

    def _route(self) -> None:
        self._by_slot = [None] * SLOTS
        for member in self._members.values():
            for slot in member.slots:
                self._by_slot[slot] = member.connection

    async def _gain(self, at: Endpoint, slots: frozenset[int]) -> None:
        """Have the server serve these slots once it was met for them; what it had goes on meanwhile."""
        member = self._members.get(at)
        if member is not None and member.slots == slots:
            return
        if member is None or not member.connection.connected:
            self._drop(at)
            member = self._members[at] = _Member(slots)
            member.connection = self._connection(at, member.serves)
            member.connection.begin()
            return
        made, gained = member.connection.connections, _Member(slots - member.slots)
        # Not on the connection that others use: what runs there may be a transaction.
        meeting = self._connection(at, gained.serves)
        try:
            await meeting.start()
        except StoreUnavailable as error:
            _LOG.event(LogEvent.CLUSTER_UNREAD, error=error)
        else:
            # Where it is made anew meanwhile, whom we met may be gone.
            if member.connection.connected and member.connection.connections == made:
                member.slots = slots
        finally:
            meeting.end()
        if member.slots != slots:
            self._stale.set()

    def _connection(self, at: Endpoint, serves: Callable[[str], bool]) -> NodeConnection:
        async def find() -> Endpoint:
            return at

        return NodeConnection(
            self._address,
            find,
            self._on_connect,
            serves=serves,
            on_elsewhere=self._elsewhere,
            on_change=self._on_change,
            sent=self._sent,
        )

    def _drop(self, at: Endpoint) -> None:
        member = self._members.pop(at, None)
        if member is not None:
            self._ended += member.connection.connections
            member.connection.end()

    async def _end(self) -> None:
        connections = [member.connection for member in self._members.values()]
        await asyncio.gather(*(each.stop() for each in (*connections, *self._importing.values())))
        self._members.clear()
        self._importing.clear()
        self._route()
        self._send_moved()

    def _on_change(self) -> None:
        self._changed.set()
        if self._keeper is not None and self._away():
            self._stale.set()

    def _elsewhere(self, pending: Pending, told: str) -> None:
        """Take over a command that a server sent elsewhere: ``MOVED`` or ``ASK``, a slot, host:port."""
        pending.redirects += 1
        try:
            word, slot, at = _read_elsewhere(told)
        except BrokenProtocol:
            pending.answer.set_exception(StoreUnavailable(told))
            raise
        if word == "MOVED":
            self._stale.set()
        # A function may touch keys that it does not name. Where half of a slot has come, it would find some of them
        # missing, and decide: it waits until the slot is where it goes to.
        is_too_early = word == "ASK" and _FUNCTION in pending.packed[:_HEAD_BYTES]
        is_too_often = pending.redirects > REDIRECTS_MAX or len(self._moved) >= _MOVED_MAX
        if is_too_early or is_too_often:
            pending.answer.set_exception(StoreUnavailable(told))
        elif word == "MOVED":
            self._moved.append((slot, pending))
        else:
            self._importer(at).take_over(pending, asking=True)

    def _importer(self, at: Endpoint) -> NodeConnection:
        """The server to which a slot is on its way; one that is no member is connected to meanwhile."""
        if at in self._members:
            return self._members[at].connection
        if at not in self._importing:
            if len(self._importing) >= _IMPORTING_MAX:
                self._importing.pop(next(iter(self._importing))).end()
            self._importing[at] = self._connection(at, _Member(frozenset()).serves)
            self._importing[at].begin()
        return self._importing[at]

    def _send_moved(self) -> None:
        """Send what waited to who serves its slot now."""
        moved, self._moved = self._moved, deque()
        for slot, pending in moved:
            if (connection := self._by_slot[slot]) is not None:
                connection.take_over(pending)
            elif not pending.answer.done():
                pending.answer.set_exception(StoreUnavailable(_UNSERVED))


async def _wait(event: asyncio.Event, within_s: float) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(within_s):
            await event.wait()


def _read_elsewhere(told: str) -> tuple[str, int, Endpoint]:
    """The words of a redirection: which, the slot, and where to."""
    try:
        word, slot, place = told.split()
        host, _, port = place.rpartition(":")
        if not 0 <= int(slot) < SLOTS:
            raise BrokenProtocol(told)
        return word, int(slot), Endpoint(host, int(port))
    except ValueError as error:
        raise BrokenProtocol(told) from error
