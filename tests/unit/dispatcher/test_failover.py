"""Failover on the ledger's model: when a second attempt is made, and what each attempt is booked at."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any, cast

import pytest
from aiohttp import web

from schemas.errors import ErrorCode
from schemas.ledger import documents
from schemas.overrides import Drain, Pin, Retries, RouteOverrides, Timeout
from tests.support.scripted_backend import answering
from tests.unit.dispatcher.dispatch_scene import HELD_NANO_USD, DispatchScene, dispatch_scene

_BODY = b'{"choices":[{"message":{"content":"hi"}}],"usage":{"prompt_tokens":12,"completion_tokens":34}}'
_WELL = answering(200, _BODY)
_UNAVAILABLE = answering(503, b"{}")
_COST_NANO_USD = 228_000


async def _breaks_off(request: web.Request) -> web.StreamResponse:
    """Takes the request and says nothing: what it spent nobody knows."""
    assert request.transport is not None
    await request.read()
    request.transport.abort()
    return web.Response()


async def test_a_backend_that_refuses_leaves_its_hold_to_the_next() -> None:
    """It cannot have spent, so room for one hold is enough."""
    async with dispatch_scene(first=_UNAVAILABLE, second=_WELL) as scene:
        job = await scene.admitted(limit=HELD_NANO_USD)
        history = await scene.end(job)

    assert [(each.backend, each.status) for each in history.attempts] == [
        ("first", "failed"),
        ("second", "succeeded"),
    ]
    assert scene.balance() == (_COST_NANO_USD, 0)
    assert scene.bus.end.body == _BODY


async def test_a_backend_that_may_have_spent_needs_a_second_hold() -> None:
    """Where there is no room for it, there is no second attempt, and the first is paid for."""
    async with dispatch_scene(first=_breaks_off, second=_WELL) as scene:
        job = await scene.admitted(limit=HELD_NANO_USD)
        history = await scene.end(job)

    assert [each.backend for each in history.attempts] == ["first"]
    assert scene.bus.end.error_code is not None
    settled, held = scene.balance()
    assert (0 < settled <= HELD_NANO_USD, held) == (True, 0)


async def test_with_room_both_attempts_are_paid_for() -> None:
    """The first at its estimate, the second at its real use."""
    async with dispatch_scene(first=_breaks_off, second=_WELL) as scene:
        job = await scene.admitted()
        history = await scene.end(job)

    first, second = history.attempts
    assert (first.estimated, second.cost_nano_usd) == (True, _COST_NANO_USD)
    assert scene.balance() == ((first.cost_nano_usd or 0) + _COST_NANO_USD, 0)


async def test_a_verdict_that_was_lost_moves_the_hold_once() -> None:
    """Asked again, the ledger gives the same fence."""
    async with dispatch_scene(first=_UNAVAILABLE, second=_WELL) as scene:
        scene.store.loses = {"tg1_next_attempt"}
        job = await scene.admitted(limit=HELD_NANO_USD)
        history = await scene.end(job)

    assert scene.store.called.count("tg1_next_attempt") == 2
    assert len(history.attempts) == 2
    assert scene.balance() == (_COST_NANO_USD, 0)


async def test_a_cancelled_request_is_not_tried_again() -> None:
    """The ledger says so when it is asked for the second attempt."""
    cancelling: list[Callable[[], Awaitable[object]]] = []

    async def cancels(asked: web.Request) -> web.StreamResponse:
        await cancelling[0]()
        return await _UNAVAILABLE(asked)

    async with dispatch_scene(first=cancels, second=_WELL) as scene:
        job = await scene.admitted()
        cancel = documents.Cancel(
            org=job.request.org, req=job.request.request_id, deadline_ms=job.request.deadline_ms
        )
        cancelling.append(lambda: scene.store.client().cancel(cancel))
        history = await scene.end(job)

    assert [each.backend for each in history.attempts] == ["first"]
    assert scene.bus.end.error_code == ErrorCode.REQUEST_CANCELLED


async def test_two_attempts_are_the_most() -> None:
    """A third backend is not asked."""
    async with dispatch_scene(first=_UNAVAILABLE, second=_UNAVAILABLE, third=_UNAVAILABLE) as scene:
        job = await scene.admitted()
        history = await scene.end(job)

    assert len(history.attempts) == 2
    assert scene.balance() == (0, 0)


async def _limited(_: web.Request) -> web.StreamResponse:
    return web.Response(status=429, headers={"Retry-After": "7"}, text="{}")


async def test_a_rate_limit_outlives_a_second_attempt_that_merely_failed() -> None:
    """Of two that did not serve it, the client is told of the one that says when it will."""
    async with dispatch_scene(first=_limited, second=_UNAVAILABLE) as scene:
        history = await scene.end(await scene.admitted())

    end = scene.bus.end
    assert [each.upstream_status for each in history.attempts] == [429, 503]
    assert (end.http_status, end.error_code) == (429, ErrorCode.UPSTREAM_RATE_LIMITED)
    assert end.retry_after_ms == 7_000
    assert scene.log.outcomes[0].error_code == ErrorCode.UPSTREAM_RATE_LIMITED


async def test_a_second_attempt_that_decided_the_request_outlives_a_rate_limit() -> None:
    """What nobody else may try again is the answer."""
    refused = answering(422, b'{"error":{"message":"no","code":"bad_field"}}')
    async with dispatch_scene(first=_limited, second=refused) as scene:
        await scene.end(await scene.admitted())

    assert (scene.bus.end.http_status, scene.bus.end.error_code) == (
        422,
        ErrorCode.UPSTREAM_REJECTED,
    )


@pytest.mark.parametrize(
    "asked",
    [{"route": "audio.dreams"}, {"route": ""}, {"route": "jobs", "stream": True}],
    ids=["newer", "none", "a stream of what makes none"],
)
async def test_an_unknown_operation_ends_its_request_at_once(asked: dict[str, Any]) -> None:
    """503, since a newer process may know it; no backend is called, and the hold returns."""
    async with dispatch_scene(first=_WELL) as scene:
        job = await scene.admitted(**asked)
        history = await scene.end(job)

    assert history.attempts == []
    assert scene.balance() == (0, 0)
    assert (scene.bus.end.http_status, scene.bus.end.error_code) == (503, "service_unavailable")
    assert "operation" in (scene.bus.end.error_message or "")
    assert [(each.route, each.status) for each in scene.log.outcomes] == [
        (asked["route"], "failed")
    ]


def _override(scene: DispatchScene, **overrides: Any) -> None:
    config = cast("Any", scene.failover.slots.backends.config)
    config.snapshot = replace(config.snapshot, overrides={"echo": RouteOverrides(**overrides)})


async def test_a_route_without_retries_calls_nobody_else() -> None:
    """The client gets the failure of the first."""
    async with dispatch_scene(first=_UNAVAILABLE, second=_WELL) as scene:
        _override(scene, retries=Retries(retries=0))
        history = await scene.end(await scene.admitted())

    assert [each.backend for each in history.attempts] == ["first"]
    assert scene.bus.end.error_code is not None


async def test_a_pinned_backend_that_fails_is_followed_by_nobody() -> None:
    """Its failure is the answer, and not that there is no other."""
    async with dispatch_scene(first=_UNAVAILABLE, second=_WELL) as scene:
        _override(scene, pin=Pin(backend="first"))
        history = await scene.end(await scene.admitted())

    assert [each.backend for each in history.attempts] == ["first"]
    assert scene.bus.end.error_code != ErrorCode.NO_BACKEND


async def test_the_timeout_of_a_route_ends_a_call() -> None:
    """Long before the backend's own would."""

    async def hangs(request: web.Request) -> web.Response:
        await asyncio.sleep(3)
        return web.Response()

    async with dispatch_scene(first=hangs) as scene:
        _override(scene, timeout=Timeout(timeout_s=0.2))
        began_s = asyncio.get_running_loop().time()
        await scene.end(await scene.admitted())

    assert asyncio.get_running_loop().time() - began_s < 2
    assert scene.bus.end.error_code is not None


async def test_a_client_hears_that_all_backends_are_drained() -> None:
    """503, with a text that says whose decision it was."""
    async with dispatch_scene(first=_WELL) as scene:
        config = cast("Any", scene.failover.slots.backends.config)
        config.snapshot = replace(config.snapshot, drains={"first": Drain()})
        history = await scene.end(await scene.admitted())

    assert history.attempts == []
    assert scene.bus.end.error_code == ErrorCode.NO_BACKEND
    assert b"drained" in scene.bus.end.body or "drained" in str(scene.bus.end)
