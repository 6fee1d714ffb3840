"""A body that does not travel with its request: from the bus, else from the log, else not at all."""

from __future__ import annotations

import pytest
from aiohttp import web

from schemas.runtime.valkey import bodies
from schemas.runtime.valkey.bodies import Bodies, body_key
from schemas.runtime.valkey.bus import Bus
from tests.integration.dispatch_bench import bench
from tests.support.events import NOW_MS, accepted
from tests.support.harness.ledger_server import LedgerServer

_BODY = (
    b'{"choices":[{"message":{"content":"hi"}}],"usage":{"prompt_tokens":1,"completion_tokens":1}}'
)


class _Backend:
    def __init__(self) -> None:
        self.bodies: list[bytes] = []

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.bodies.append(await request.read())
        return web.Response(body=_BODY)


@pytest.mark.parametrize(("on_bus", "reads"), [(True, 0), (False, 1)])
async def test_a_large_body_reaches_the_backend_whole(
    server: LedgerServer, on_bus: bool, reads: int
) -> None:
    backend = _Backend()
    async with bench(server, well=backend.answer) as scene:
        request = await scene.admit_large(on_bus=on_bus, in_log=True)
        outcome = await scene.dispatch(request)
        assert outcome.status == "completed"
        assert [len(body) for body in backend.bodies] == [100_043]
        assert scene.requests.reads == reads
        assert await scene.bus.store.call("EXISTS", body_key(request.request_id)) == 0
        assert await scene.bus.store.call("EXISTS", "counted:bytes") == 0


async def test_a_body_that_nobody_has_ends_its_request_with_nothing_booked(
    server: LedgerServer,
) -> None:
    backend = _Backend()
    async with bench(server, well=backend.answer) as scene:
        request = await scene.admit_large(on_bus=False, in_log=False)
        outcome = await scene.dispatch(request)
        assert (outcome.status, outcome.error_code) == ("failed", "body_lost")
        assert outcome.attempts == []
        assert backend.bodies == []
        assert await scene.balance(request, "nano_usd") == (0, 0)


@pytest.fixture
async def bus(server: LedgerServer) -> Bus:
    bus = Bus(f"redis://127.0.0.1:{server.port}/1")
    await bus.start()
    await bus.store.call("FLUSHALL")
    return bus


async def test_an_organization_has_its_share_of_the_bus_and_no_more(
    bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bodies, "_BYTES_PER_ORG_MAX", 250)
    monkeypatch.setattr(bodies, "_BYTES_MAX", 350)
    shelf = Bodies(bus)

    async def put(name: str, org: str) -> bool:
        return await shelf.put(accepted(request_id=name, org=org, payload=b"x" * 100), NOW_MS)

    assert [await put(name, "a") for name in ("1", "2", "3")] == [True, True, False]
    assert [await put(name, "b") for name in ("4", "5")] == [True, False]
    await shelf.drop("1")
    assert await put("6", "b")
    assert await shelf.get("1") is None
    assert await shelf.get("2") == b"x" * 100
    await bus.stop()


async def test_a_body_that_expired_counts_no_longer(
    bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bodies, "_BYTES_PER_ORG_MAX", 150)
    monkeypatch.setattr(bodies, "KEPT_AFTER_DEADLINE_MS", 50)
    shelf = Bodies(bus)
    late = accepted(request_id="1", payload=b"x" * 100)
    assert await shelf.put(late, late.deadline_ms)
    assert not await shelf.put(accepted(request_id="2", payload=b"x" * 100), NOW_MS)
    await bus.store.call("BLPOP", "nothing", "1")
    assert await shelf.put(accepted(request_id="3", payload=b"x" * 100), NOW_MS)
    await bus.stop()
