"""Fetches in sessions: whatever is lost on the way, a broker that answers reads exactly what is wanted."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka.errors import KafkaConnectionError
from aiokafka.protocol.fetch import FetchRequest, FetchRequest_v4, FetchRequest_v11
from aiokafka.protocol.metadata import MetadataRequest
from hypothesis import given
from hypothesis import strategies as st

from schemas.runtime.kafka.consume.fetch_sessions import FetchSession, FetchSessions, Step

_ID_NOT_FOUND, _BAD_EPOCH = 70, 71
_WANTED: Any = [("requests", [(0, 10, 100), (1, 5, 100)]), ("background", [(0, 7, 100)])]
_PLACES = [(topic, partition) for topic in ("requests", "dispatch") for partition in range(3)]


@dataclass
class _Broker:
    """Sessions as the protocol states them (KIP-227)."""

    keeps: bool = True
    _made: int = 0
    _sessions: dict[int, tuple[int, dict[tuple[str, int], tuple[int, int]]]] = field(
        default_factory=dict
    )

    def fetch(self, step: Step) -> tuple[int, int, dict[tuple[str, int], tuple[int, int]]]:
        """Error, session id, and what is read."""
        named = {(t, p): (at, size) for t, parts in step.named for p, at, size in parts}
        if step.epoch == 0:
            self._sessions.pop(step.session_id, None)
            if not self.keeps:
                return 0, 0, named
            self._made += 1
            self._sessions[self._made] = 1, named
            return 0, self._made, named
        if step.session_id not in self._sessions:
            return _ID_NOT_FOUND, 0, {}
        epoch, known = self._sessions[step.session_id]
        if epoch != step.epoch:
            return _BAD_EPOCH, 0, {}
        gone = {(t, p) for t, parts in step.forgotten for p in parts}
        known = {place: at for place, at in {**known, **named}.items() if place not in gone}
        self._sessions[step.session_id] = epoch + 1, known
        return 0, step.session_id, known

    def restart(self) -> None:
        """Forget every session, as eviction does."""
        self._sessions.clear()


_FETCHES = st.lists(
    st.tuples(
        st.dictionaries(
            st.sampled_from(_PLACES), st.tuples(st.integers(0, 3), st.just(100)), min_size=1
        ),
        st.sampled_from(["answered", "answered", "request lost", "answer lost", "restart"]),
    ),
    max_size=20,
)


@given(_FETCHES, st.booleans())
def test_a_broker_that_takes_a_step_reads_what_is_wanted_and_nothing_else(
    fetches: list[tuple[dict[tuple[str, int], tuple[int, int]], str]], keeps: bool
) -> None:
    """Through lost requests, lost answers, restarts, and a broker that keeps no sessions."""
    session, broker, refused = FetchSession(), _Broker(keeps), 0
    for wanted, fate in fetches:
        by_topic: dict[str, list[tuple[int, int, int]]] = {}
        for (topic, partition), (at, size) in wanted.items():
            by_topic.setdefault(topic, []).append((partition, at, size))
        step = session.step(list(by_topic.items()))
        if fate == "request lost":
            session.lost()
            continue
        if fate == "restart":
            broker.restart()
        error, session_id, read = broker.fetch(step)
        if fate == "answer lost":
            session.lost()
            continue
        session.answered(error, session_id)
        refused = refused + 1 if error else 0
        assert refused <= 1
        assert error or read == wanted


def test_a_fetch_names_only_what_changed_and_forgets_what_is_not_read_now() -> None:
    """The first one names all of it."""
    session = FetchSession()
    assert session.step(_WANTED) == Step(0, 0, _WANTED, [])
    session.answered(0, 9)
    assert session.step(_WANTED) == Step(9, 1, [], [])
    session.answered(0, 9)
    moved: Any = [("requests", [(0, 11, 100)]), ("background", [(0, 7, 100)])]
    assert session.step(moved) == Step(9, 2, [("requests", [(0, 11, 100)])], [("requests", [1])])


def test_a_wrong_epoch_ends_the_old_session_and_an_unknown_one_is_not_named_again() -> None:
    """The broker frees its place at once instead of after minutes."""
    session = FetchSession()
    session.step(_WANTED)
    session.answered(0, 9)
    session.step(_WANTED)
    session.answered(_BAD_EPOCH, 0)
    assert session.step(_WANTED) == Step(9, 0, _WANTED, [])
    session.answered(0, 10)
    session.step(_WANTED)
    session.answered(_ID_NOT_FOUND, 0)
    assert session.step(_WANTED) == Step(0, 0, _WANTED, [])


class _Client:
    """As much of aiokafka's client as is used: what is sent, as it is written."""

    def __init__(self, version: Any) -> None:
        self.sent: list[Any] = []
        self.fails: BaseException | None = None
        self._version = version

    async def send(self, node_id: int, request: Any, **more: Any) -> Any:
        built = request.build(self._version) if isinstance(request, FetchRequest) else request
        self.sent.append((node_id, built, more))
        if self.fails is not None:
            raise self.fails
        return SimpleNamespace(API_VERSION=self._version.API_VERSION, error_code=0, session_id=9)


def _whole() -> FetchRequest:
    return FetchRequest(1_500, 1, 1_000, 0, _WANTED, rack_id="r")


async def test_a_session_is_written_into_the_request_that_aiokafka_made() -> None:
    """All else is byte for byte what aiokafka writes."""
    client = _Client(FetchRequest_v11)
    sessions = FetchSessions(client, 0.0)
    await sessions.send(1, _whole())
    await sessions.send(1, _whole())
    first, second = (built for _, built, _ in client.sent)

    plain: Any = _whole().build(FetchRequest_v11)
    plain.session_epoch = 0
    assert first.encode() == plain.encode()
    nothing: Any = FetchRequest(1_500, 1, 1_000, 0, [], rack_id="r").build(FetchRequest_v11)
    nothing.session_id, nothing.session_epoch = 9, 1
    assert second.encode() == nothing.encode()


async def test_an_older_broker_gets_the_fetch_as_it_was() -> None:
    """It has no sessions."""
    client = _Client(FetchRequest_v4)
    sessions = FetchSessions(client, 0.0)
    for _ in range(2):
        await sessions.send(1, _whole())
    plain: Any = _whole().build(FetchRequest_v4)
    assert [built.encode() for _, built, _ in client.sent] == [plain.encode()] * 2


@pytest.mark.parametrize("failure", [KafkaConnectionError(), asyncio.CancelledError()])
async def test_a_fetch_that_fails_or_is_given_up_begins_the_session_anew(
    failure: BaseException,
) -> None:
    """The broker may have taken it."""
    client = _Client(FetchRequest_v11)
    sessions = FetchSessions(client, 0.0)
    await sessions.send(1, _whole())
    client.fails = failure
    with pytest.raises(type(failure)):
        await sessions.send(1, _whole())
    client.fails = None
    await sessions.send(1, _whole())
    (_, last, _) = client.sent[-1]
    assert (last.session_id, last.session_epoch) == (9, 0)
    assert [topic for topic, _ in last.topics] == ["requests", "background"]


async def test_brokers_have_sessions_of_their_own_and_other_requests_none() -> None:
    """Each is sent as it came, with what came with it."""
    client = _Client(FetchRequest_v11)
    sessions = FetchSessions(client, 0.0)
    other = MetadataRequest([])
    await sessions.send(1, _whole())
    await sessions.send(2, _whole())
    await sessions.send(1, other, group=1)
    assert [built.session_epoch for _, built, _ in client.sent[:2]] == [0, 0]
    assert client.sent[2] == (1, other, {"group": 1})


async def test_a_pause_holds_fetches_apart_but_not_the_first_nor_other_requests() -> None:
    """What is alone is fetched at once."""
    client = _Client(FetchRequest_v11)
    sessions = FetchSessions(client, 60.0)
    async with asyncio.timeout(1.0):
        await sessions.send(1, _whole())
        await sessions.send(1, MetadataRequest([]))
    waiting = asyncio.create_task(sessions.send(1, _whole()))
    await asyncio.sleep(0.02)
    assert len(client.sent) == 2
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
