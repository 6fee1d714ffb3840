"""A backend that dies costs no client an error while another serves, and no request is read more than twice.

A process that is killed closes its connections before it stops to listen: the next call still gets a connection,
which ends as well.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import msgspec
from aiohttp import web

from dispatcher.attempts.history import AttemptHistory
from schemas.ledger import answers
from tests.support.scripted_backend import answering
from tests.unit.dispatcher.dispatch_scene import DispatchScene, dispatch_scene

_BODY = b'{"choices":[{"message":{"content":"hi"}}],"usage":{"prompt_tokens":12,"completion_tokens":34}}'


@dataclass
class _Backend:
    """Answers well, until it is told otherwise."""

    calls: list[int] = field(default_factory=list)
    """Number on its connection of each request that it read."""
    is_dying: bool = False
    """Whether it ends all connections at once."""
    closes_kept: bool = False
    """Whether it ends those that it had kept."""
    status: int = 200
    _seen: dict[object, int] = field(default_factory=dict)

    async def answer(self, request: web.Request) -> web.StreamResponse:
        await request.read()
        connection = request.transport
        assert connection is not None
        number = self._seen[connection] = self._seen.get(connection, 0) + 1
        self.calls.append(number)
        if self.is_dying or (self.closes_kept and number > 1):
            connection.abort()
        return await answering(self.status, _BODY)(request)


async def _end(scene: DispatchScene, request_id: str) -> AttemptHistory:
    return await scene.end(await scene.admitted(request_id=request_id))


def _statuses(history: AttemptHistory) -> list[tuple[str, str]]:
    return [(each.backend, each.status) for each in history.attempts]


async def test_what_meets_a_closed_connection_goes_to_a_backend_that_lives() -> None:
    """What it may have spent there is booked as an estimate."""
    dying, well = _Backend(), _Backend()
    async with dispatch_scene(first=dying.answer, second=well.answer) as scene:
        await _end(scene, "r1")
        dying.is_dying = True
        history = await _end(scene, "r2")

    assert _statuses(history) == [("first", "failed"), ("second", "succeeded")]
    assert (dying.calls, well.calls) == ([1, 2], [1])
    assert [each.estimated for each in history.attempts] == [True, False]


async def test_with_nobody_else_the_same_one_is_called_on_a_fresh_connection() -> None:
    """A server may close what is idle."""
    alone = _Backend()
    async with dispatch_scene(first=alone.answer) as scene:
        await _end(scene, "r1")
        alone.closes_kept = True
        history = await _end(scene, "r2")

    assert _statuses(history) == [("first", "failed"), ("first", "succeeded")]
    assert alone.calls == [1, 2, 1]


async def test_the_second_backend_is_called_on_a_fresh_connection() -> None:
    """It may have closed the one it had, and nothing could be sent a third time."""
    first, second = _Backend(status=503), _Backend()
    async with dispatch_scene(first=first.answer, second=second.answer) as scene:
        await _end(scene, "r1")
        first.is_dying = second.closes_kept = True
        history = await _end(scene, "r2")

    assert _statuses(history) == [("first", "failed"), ("second", "succeeded")]
    assert (first.calls, second.calls) == ([1, 2], [1, 1])


async def test_backends_that_end_all_connections_read_a_request_twice_in_all() -> None:
    """Whoever they are; a third is not asked."""
    first, second, third = _Backend(status=503), _Backend(), _Backend()
    async with dispatch_scene(
        first=first.answer, second=second.answer, third=third.answer
    ) as scene:
        await _end(scene, "r1")
        before = len(first.calls + second.calls + third.calls)
        for each in (first, second, third):
            each.is_dying = True
        history = await _end(scene, "r2")

    assert len(first.calls + second.calls + third.calls) == before + 2
    assert [status for _, status in _statuses(history)] == ["failed", "failed"]


async def test_what_another_process_may_have_sent_is_sent_once_more() -> None:
    """On a fresh connection: its first attempt vanished with that process."""
    closing = _Backend()
    async with dispatch_scene(first=closing.answer) as scene:
        await _end(scene, "r1")
        closing.closes_kept = True
        job = await scene.admitted(request_id="r2")
        claim = await scene.claim(job)
        assert isinstance(claim, answers.Fence)
        with scene.leases.held(job, msgspec.structs.replace(claim, attempt=2)) as running:
            replies = scene.closing.answering.replies(job, claim.fence)
            history = AttemptHistory.after(job, running.attempt)
            await scene.failover.run(job, running, replies, history)

    assert (history.ending.code, closing.calls) == (None, [1, 1])
