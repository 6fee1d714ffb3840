"""Fetch sessions of Kafka (KIP-227), which aiokafka does not have: a fetch names only what changed since the last one.

A whole fetch names every partition that is read, and its answer every one of them again, whether it brings records
or not: the limiter reads twenty for one that has some. In a session the broker keeps what was named, and answers with
partitions that have something to say.
"""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from aiokafka.protocol.fetch import FetchRequest

__all__ = ["FetchSession", "FetchSessions", "Step"]

_FIRST_VERSION: Final = 7
"""Of the Fetch request, that has sessions."""
_NONE: Final = 0
_FIRST_EPOCH: Final = 0
"""Asks for a new session, and ends the one that is named."""
_EPOCH_MAX: Final = 2**31 - 1
_SESSION_ID_NOT_FOUND: Final = 70

Wanted = tuple[int, int]
"""Where a partition is read from, and how many bytes of it at most."""
Named = list[tuple[str, list[tuple[int, int, int]]]]
"""Topics with (partition, offset, bytes), as aiokafka has them."""


@dataclass(frozen=True, slots=True)
class Step:
    """What one fetch says to the broker."""

    session_id: int
    epoch: int
    named: Named
    """What is new or was changed; all of it when a session begins."""
    forgotten: list[tuple[str, list[int]]]
    """What is not read any more, or not now."""


@dataclass(slots=True)
class FetchSession:
    """What one broker was told. Pure; one fetch after the other."""

    _session_id: int = _NONE
    _epoch: int = _FIRST_EPOCH
    _told: dict[tuple[str, int], Wanted] = field(default_factory=dict)

    def step(self, wanted: Named) -> Step:
        """The next fetch, which wants exactly these partitions."""
        told = {} if self._epoch == _FIRST_EPOCH else self._told
        now = dict(_each(wanted))
        self._told = now
        changed: dict[str, list[tuple[int, int, int]]] = defaultdict(list)
        for (topic, partition), at in now.items():
            if told.get((topic, partition)) != at:
                changed[topic].append((partition, *at))
        forgotten: dict[str, list[int]] = defaultdict(list)
        for topic, partition in told:
            if (topic, partition) not in now:
                forgotten[topic].append(partition)
        return Step(self._session_id, self._epoch, list(changed.items()), list(forgotten.items()))

    def answered(self, error_code: int, session_id: int) -> None:
        """The broker took the step, or did not: then, and where it keeps no session, the next one begins anew."""
        if error_code == _SESSION_ID_NOT_FOUND:
            session_id = _NONE
        elif error_code:
            session_id = self._session_id
        self._session_id = session_id
        if error_code or session_id == _NONE:
            self._epoch = _FIRST_EPOCH
        else:
            self._epoch = self._epoch % _EPOCH_MAX + 1

    def lost(self) -> None:
        """Nobody knows whether the broker took the step."""
        self._epoch = _FIRST_EPOCH


class FetchSessions:
    """Sends the fetches of one aiokafka client in sessions, one for each broker.

    aiokafka has one fetch under way to a broker, and takes a partition that an answer leaves out for one without
    news. ``pause_s`` is waited after an answer, so that fewer fetches bring more each, where nobody waits for the
    effect.
    """

    def __init__(self, client: Any, pause_s: float) -> None:
        self._send_whole = client.send
        self._pause_s = pause_s
        self._sessions: dict[int, FetchSession] = defaultdict(FetchSession)
        self._not_before_s: dict[int, float] = {}

    async def send(self, node_id: int, request: Any, **more: Any) -> Any:
        """Send the request in place of the client, which calls it for all kinds; raises what that raises."""
        if not isinstance(request, FetchRequest):
            return await self._send_whole(node_id, request, **more)
        if (left_s := self._not_before_s.get(node_id, 0.0) - time.monotonic()) > 0:
            await asyncio.sleep(left_s)
        session = self._sessions[node_id]
        try:
            response = await self._send_whole(node_id, _SessionRequest(request, session), **more)
        except BaseException:
            session.lost()
            raise
        if response.API_VERSION >= _FIRST_VERSION:
            session.answered(response.error_code, response.session_id)
        self._not_before_s[node_id] = time.monotonic() + self._pause_s
        return response


class _SessionRequest(FetchRequest):
    """A fetch that is written when the connection's version of it is known."""

    def __init__(self, whole: FetchRequest, session: FetchSession) -> None:
        self.__dict__.update(whole.__dict__)
        self._topics: Named = whole.topics
        self._session = session

    def build(self, request_struct_class: Any) -> Any:
        """The session's next step; the whole fetch for a broker that has none."""
        if request_struct_class.API_VERSION < _FIRST_VERSION:
            return super().build(request_struct_class)
        step = self._session.step(self._topics)
        self._topics = step.named
        struct: Any = super().build(request_struct_class)
        struct.session_id, struct.session_epoch = step.session_id, step.epoch
        struct.forgotten_topics_data = step.forgotten
        return struct


def _each(wanted: Named) -> Iterator[tuple[tuple[str, int], Wanted]]:
    for topic, partitions in wanted:
        for partition, offset, size_bytes in partitions:
            yield (topic, partition), (offset, size_bytes)
