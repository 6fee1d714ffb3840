"""All connections of one server: how many there may be, and which of them have had their time.

One look a second at all of them replaces a timer for each. A connection that only keeps a place,
because its head is not complete or nothing was asked for a while, gives it up when another needs it;
beyond the bound there is room for some that ask for health, or are refused. Pure: times are arguments, seconds of
the loop's clock.
"""

from __future__ import annotations

import resource
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, Literal, Protocol

from schemas.errors import ErrorCode

HEAD_WITHIN_S: Final = 10.0
"""From the first byte, or from the connection on, to the end of the head."""
IDLE_FOR_S: Final = 75.0
DRAINED_WITHIN_S: Final = 5.0
"""How long the rest of a body is read whose answer is out."""
CLOSED_WITHIN_S: Final = 1.0
"""How long a refused client may take to read its refusal."""
WRITTEN_WITHIN_S: Final = 30.0
"""How long a client may leave its answer unread."""
SPARE_CONNECTIONS: Final = 128
"""Beyond the bound: for health, and for telling a burst of others that it is full. Who finds none hears nothing."""
SPARE_HEAD_WITHIN_S: Final = 2.0
_GRACE_S: Final = 1.0
"""A head is slow, and a connection idle, only after that."""
RESERVED_FILES: Final = 304
"""Files and connections of the process beside those of the clients."""
_CONNECTIONS_MIN: Final = 16

Phase = Literal["head", "idle", "busy", "draining", "closing"]
"""Reading a head; waiting for one; answering; reading the rest of a body; about to be closed."""
_PHASE_WITHIN_S: Final[dict[Phase, float]] = {
    "head": HEAD_WITHIN_S,
    "idle": IDLE_FOR_S,
    "draining": DRAINED_WITHIN_S,
    "closing": CLOSED_WITHIN_S,
}


class Connection(Protocol):
    """What the register needs of a connection."""

    is_spare: bool

    def unwritten_bytes(self) -> int | None:
        """Bytes that the client has yet to take; ``None`` while more may follow by themselves."""

    def too_late(self, phase: Phase) -> None:
        """Its time in the phase is over."""

    def abort(self) -> None:
        """End it at once."""


@dataclass(slots=True)
class _Place:
    phase: Phase
    since_s: float
    unwritten_bytes: int = 0
    stuck_since_s: float | None = None


def connections_max(wanted: int) -> int:
    """The bound, as far as the limit of open files allows; raises that limit where it may."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = wanted + RESERVED_FILES
    if soft < needed and soft != resource.RLIM_INFINITY:
        soft = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return max(_CONNECTIONS_MIN, min(wanted, soft - RESERVED_FILES))


@dataclass(slots=True)
class Connections:
    """The register of a server's connections."""

    most: int
    on_refused: Callable[[int, ErrorCode], None]
    """Told the status and code of every answer that no route gave."""
    _places: dict[Connection, _Place] = field(default_factory=dict)
    _idle: dict[Connection, None] = field(default_factory=dict)
    """Waiting for a request, longest first."""
    _heads: dict[Connection, None] = field(default_factory=dict)
    """Without a complete head, longest first."""
    _spare: int = 0

    def __len__(self) -> int:
        return len(self._places)

    @property
    def is_full(self) -> bool:
        """Whether clients are turned away."""
        return len(self._places) >= self.most

    def enter(self, connection: Connection, now_s: float) -> bool:
        """Give the connection a place, at the cost of one that waits; False when there is none.

        One beyond the bound is spare: it may ask for health.
        """
        if len(self._places) - self._spare >= self.most and not self._make_room(now_s):
            if self._spare >= SPARE_CONNECTIONS:
                return False
            connection.is_spare = True
            self._spare += 1
        self._places[connection] = _Place("head", now_s)
        self._heads[connection] = None
        return True

    def leave(self, connection: Connection) -> None:
        """The connection is gone."""
        if self._places.pop(connection, None) is None:
            return
        self._idle.pop(connection, None)
        self._heads.pop(connection, None)
        self._spare -= connection.is_spare

    def turn(self, connection: Connection, phase: Phase, now_s: float) -> None:
        """The connection enters a phase."""
        place = self._places.get(connection)
        if place is None:
            return
        if place.phase == "idle":
            del self._idle[connection]
        elif place.phase == "head":
            del self._heads[connection]
        place.phase, place.since_s = phase, now_s
        if phase == "idle":
            self._idle[connection] = None
        elif phase == "head":
            self._heads[connection] = None

    def sweep(self, now_s: float) -> None:
        """End the connections whose time is over."""
        for connection, place in list(self._places.items()):
            if self._is_stuck(connection, place, now_s):
                connection.abort()
            elif place.phase != "busy":
                within_s = _PHASE_WITHIN_S[place.phase]
                if connection.is_spare and place.phase == "head":
                    within_s = SPARE_HEAD_WITHIN_S
                if now_s - place.since_s >= within_s:
                    connection.too_late(place.phase)

    def _is_stuck(self, connection: Connection, place: _Place, now_s: float) -> bool:
        """Whether the client has taken nothing of its answer for too long."""
        unwritten = connection.unwritten_bytes()
        before, place.unwritten_bytes = place.unwritten_bytes, unwritten or 0
        if not unwritten or unwritten < before or place.stuck_since_s is None:
            place.stuck_since_s = now_s if unwritten else None
            return False
        return now_s - place.stuck_since_s >= WRITTEN_WITHIN_S

    def _make_room(self, now_s: float) -> bool:
        """End the connection that has kept its place for longest without using it."""
        for waiting in (self._heads, self._idle):
            for oldest in waiting:
                if oldest.is_spare:
                    continue
                if now_s - self._places[oldest].since_s < _GRACE_S:
                    break
                oldest.abort()
                self.leave(oldest)
                return True
        return False
