"""The user-org service as it is asked: how long its word holds, and what becomes of its being slow, odd or away."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest

from ingress.auth.bounded_get import bounded_client
from ingress.auth.callers_file import Issuer, UserOrgService
from ingress.auth.identity import Identity
from ingress.auth.user_org.directory import Directory
from ingress.http.refusals import Refusal
from schemas.errors import ErrorCode
from schemas.runtime.process.telemetry import Metrics
from tests.support.scripted_service import ScriptedService, answered, scripted_service
from tests.support.waiting import until

_ADA = {"org": "acme", "project": "search", "user": "ada", "models": ["echo"]}
_ISSUER = Issuer(name="corp", issuer="https://login.example.com", audience="a", user_org=True)


class _Service:
    """What the service knows, and how it is when it is not itself."""

    def __init__(self) -> None:
        self.known: dict[str, Any] = _ADA
        self.odd: bytes | None = None
        self.is_odd = False

    def answer(self, path: str, headers: dict[str, str]) -> bytes | None:
        assert path == "/v1/caller"
        if self.is_odd:
            return self.odd
        if headers.get("x-caller-credential", "corp_ada") != "corp_ada":
            return answered(status=404)
        if headers.get("if-none-match") == '"1"':
            return answered(status=304, etag='"1"')
        return answered(self.known, etag='"1"')


class _Rig:
    """A directory, its service, and time that a test moves on."""

    def __init__(self, service: ScriptedService, scene: _Service) -> None:
        self.service, self.scene = service, scene
        self.now_s = 100.0
        self.metrics = Metrics()

    async def tell(self, secret: str = "corp_ada") -> Identity | Refusal | None:
        return await self.directory.credential(secret)

    directory: Directory


@asynccontextmanager
async def _rig(**more: Any) -> AsyncIterator[_Rig]:
    scene = _Service()
    async with scripted_service(scene.answer) as service:
        fields: dict[str, Any] = {"url": service.url, "timeout_s": 0.3}
        said = UserOrgService(**(fields | more))
        client = bounded_client(None, 64)
        rig = _Rig(service, scene)
        rig.directory = Directory(said, "its-token", client, lambda: rig.now_s, rig.metrics)
        try:
            yield rig
        finally:
            await client.aclose()


async def _settled(rig: _Rig) -> None:
    """Until no question is under way in the background."""
    await until(lambda: not rig.directory._asking)


async def test_a_credential_belongs_where_the_service_says() -> None:
    """It is asked by its contract, and by the name that it knows us by."""
    async with _rig() as rig:
        assert await rig.tell() == Identity("user-org", "acme", "search", "ada", ("echo",))
        path, headers = rig.service.asked[0]

    assert path == "/v1/caller"
    assert headers["authorization"] == "Bearer its-token"
    assert headers["x-caller-credential"] == "corp_ada"
    assert "if-none-match" not in headers


async def test_a_user_of_an_identity_provider_is_asked_about_by_issuer_and_subject() -> None:
    """Whatever stands in the subject; nobody of that name is 403, since who calls is known."""
    async with _rig() as rig:
        rig.scene.known = {"org": "acme"}
        told = await rig.directory.subject("auth0|7 é\r\nx: y", _ISSUER)
        _, headers = rig.service.asked[0]

        assert isinstance(told, Identity)
        assert (told.key_id, told.org) == ("oidc:corp", "acme")
        assert told.user is not None
        assert told.user.startswith("sub:")
        assert headers["x-caller-issuer"] == "https://login.example.com"
        assert headers["x-caller-subject"] == "auth0%7C7%20%C3%A9%0D%0Ax%3A%20y"
        rig.scene.is_odd, rig.scene.odd = True, answered(status=404)
        refused = await rig.directory.subject("nobody", _ISSUER)

    assert isinstance(refused, Refusal)
    assert refused.code == ErrorCode.CALLER_NOT_ALLOWED


async def test_an_answer_is_taken_for_its_time_and_renewed_by_its_etag_before_that_ends() -> None:
    """Who calls often never waits for the service."""
    async with _rig(fresh_s=30) as rig:
        for now_s in (100.0, 101.0, 114.0):
            rig.now_s = now_s
            await rig.tell()
        assert len(rig.service.asked) == 1

        rig.now_s = 116.0
        rig.service.delay_s = 0.1
        told = await rig.tell()
        assert isinstance(told, Identity)
        await _settled(rig)
        assert rig.service.asked[1][1]["if-none-match"] == '"1"'

        rig.now_s = 144.0
        await rig.tell()
        assert len(rig.service.asked) == 2


async def test_what_changed_is_known_within_its_time() -> None:
    """A caller whom the service forgot is refused; one who moved is elsewhere."""
    async with _rig(fresh_s=30) as rig:
        await rig.tell()
        rig.scene.is_odd, rig.scene.odd = True, answered({"org": "globex"}, etag='"2"')
        rig.now_s += 30.0
        moved = await rig.tell()
        assert isinstance(moved, Identity)
        assert moved.org == "globex"

        rig.scene.odd = answered(status=404)
        rig.now_s += 30.0
        assert await rig.tell() is None


async def test_nobody_is_asked_about_again_at_once() -> None:
    """That a credential is unknown is remembered, too, for a shorter time; a new one is known after that."""
    async with _rig(unknown_s=10) as rig:
        for _ in range(5):
            assert await rig.tell("corp_x") is None
        assert len(rig.service.asked) == 1
        rig.now_s += 10.0
        await rig.tell("corp_x")

    assert len(rig.service.asked) == 2


@pytest.mark.parametrize(
    "odd",
    [
        answered(status=500),
        answered(status=401),
        answered(status=302, location="http://127.0.0.1:1/"),
        answered(b"\xff\xfe"),
        answered(b"[]"),
        answered(b"{}"),
        answered({"org": 7}),
        answered({"org": "a\tb"}),
        answered({"org": "acme", "user": "../x"}),
        answered({"org": "acme", "models": "echo"}),
        answered({"org": "acme", "models": ["m"] * 2_000}),
        answered({"org": "acme", "key": "a:b"}),
        answered(b"[" * 60_000),
        answered(b'{"org": "acme"' + b" " * 70_000 + b"}"),
        answered(b"x", content_encoding="gzip"),
        b"\x00\x01\x02",
    ],
)
async def test_an_odd_answer_is_none(odd: bytes) -> None:
    """503 where nothing better is known, and else what was said last, for its stated time; never a guess."""
    async with _rig(fresh_s=30, stale_s=60) as rig:
        rig.scene.is_odd, rig.scene.odd = True, odd
        refused = await rig.tell()
        assert isinstance(refused, Refusal)
        assert refused.status == 503

        rig.scene.is_odd = False
        rig.now_s += 5.0
        assert isinstance(await rig.tell(), Identity)
        rig.scene.is_odd = True
        rig.now_s += 31.0
        assert isinstance(await rig.tell(), Identity)
        assert rig.directory.trouble is not None
        rig.now_s += 60.0
        assert isinstance(await rig.tell(), Refusal)


async def test_that_nothing_changed_is_no_answer_about_a_stranger() -> None:
    """Nothing was said before that could still hold."""
    async with _rig() as rig:
        rig.scene.is_odd, rig.scene.odd = True, answered(status=304)

        assert isinstance(await rig.tell(), Refusal)


async def test_a_service_that_hangs_costs_its_timeout_once() -> None:
    """Who is known is served from memory at once; who is not waits, until the breaker opens; then nobody does."""
    async with _rig(fresh_s=30, timeout_s=0.2) as rig:
        await rig.tell()
        rig.scene.is_odd = True
        rig.now_s += 31.0
        loop = asyncio.get_running_loop()

        began_s = loop.time()
        assert isinstance(await rig.tell(), Identity)
        assert 0.15 < loop.time() - began_s < 0.6
        began_s = loop.time()
        for _ in range(50):
            assert isinstance(await rig.tell(), Identity)
        assert loop.time() - began_s < 0.15

        strangers = [rig.tell(f"corp_{n}") for n in range(5)]
        assert {type(told) for told in await asyncio.gather(*strangers)} == {Refusal}
        began_s, asked = loop.time(), len(rig.service.asked)
        assert isinstance(await rig.tell("corp_late"), Refusal)
        assert loop.time() - began_s < 0.1
        assert len(rig.service.asked) == asked


async def test_it_is_tried_again_and_found_well() -> None:
    """One trial every two seconds; the first answer closes the breaker."""
    async with _rig() as rig:
        rig.scene.is_odd, rig.scene.odd = True, answered(status=503)
        for n in range(8):
            await rig.tell(f"corp_{n}")
        assert len(rig.service.asked) == 5
        rig.scene.is_odd = False
        rig.now_s += 2.0

        assert isinstance(await rig.tell(), Identity)
        assert rig.directory.trouble is None
        assert await rig.tell("corp_9") is None


async def test_a_question_about_somebody_is_asked_once_for_all_who_wait() -> None:
    """However many requests bring the same credential at once; one that leaves takes it from nobody."""
    async with _rig() as rig:
        rig.service.delay_s = 0.1
        first = asyncio.create_task(rig.tell())
        others = [asyncio.create_task(rig.tell()) for _ in range(100)]
        await asyncio.sleep(0.05)
        first.cancel()
        told = await asyncio.gather(*others)

    assert {type(each) for each in told} == {Identity}
    assert len(rig.service.asked) == 1


async def test_a_flood_of_invented_credentials_keeps_nobody_out_who_is_known() -> None:
    """The flood is bounded, and refused beyond that; who is known has places of their own, and is not forgotten."""
    async with _rig(concurrency=2, fresh_s=30, entries_max=16) as rig:
        await rig.tell()
        rig.service.delay_s = 0.2
        flood = [asyncio.create_task(rig.tell(f"invented-{n}")) for n in range(100)]
        await asyncio.sleep(0.05)
        assert sum(each.done() for each in flood) == 90
        rig.now_s += 31.0
        assert isinstance(await rig.tell(), Identity)
        told = await asyncio.gather(*flood)

        assert rig.service.under_way_max <= 3
        assert sum(isinstance(each, Refusal) for each in told) >= 90
        rig.service.delay_s = 0.0
        rig.now_s += 10.0
        for n in range(40):
            await rig.tell(f"invented-again-{n}")
        asked = len(rig.service.asked)
        assert isinstance(await rig.tell(), Identity)
        assert len(rig.service.asked) == asked


async def test_what_a_caller_may_do_is_what_everybody_says_that_it_may() -> None:
    """The service alone for a credential; it and the issuer's table for a user of a provider."""
    limited = msgspec.structs.replace(_ISSUER, scopes=("jobs", "inference"))
    async with _rig() as rig:
        rig.scene.known = {"org": "acme", "scopes": ["inference", "models:read"]}
        credential = await rig.tell()
        open_one = await rig.directory.subject("ada", _ISSUER)
        both = await rig.directory.subject("ada", limited)
    async with _rig() as rig:
        rig.scene.known = {"org": "acme"}
        only_issuer = await rig.directory.subject("ada", limited)

    told = [credential, open_one, both, only_issuer]
    assert [each.scopes for each in told if isinstance(each, Identity)] == [
        ("inference", "models:read"),
        ("inference", "models:read"),
        ("inference",),
        ("inference", "jobs"),
    ]


async def test_a_service_speaks_for_its_organizations_only() -> None:
    """Where they are listed; 403 for what it says of another."""
    async with _rig(orgs=("globex",)) as rig:
        told = await rig.tell()

    assert isinstance(told, Refusal)
    assert told.code == ErrorCode.CALLER_NOT_ALLOWED
