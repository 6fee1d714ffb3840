"""S11: every admin route under mutual TLS, for who has no certificate, a wrong one, or too low a role."""

from __future__ import annotations

import json
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.routing import Mount, Route, Router
from starlette.types import ASGIApp

from ingress.admin.http.request_count import RequestCount
from ingress.admin.route_roles import ROUTE_ROLES, RouteRoles
from schemas.admin_roles import Role
from schemas.codec import decode_as
from schemas.events import AuditRecorded
from schemas.outgoing import Outgoing
from schemas.readiness import METRICS
from schemas.runtime.process.server_tls import ServerTls
from schemas.topics import AUDIT
from tests.support.harness.certificates import DAY, Authority, Pair
from tests.unit.admin.admin_api import Feed, admin_app
from tests.unit.admin.tls_admin import World, ask, make_world, serving, shown_until_s

LIMITS = json.dumps({"limits": {"burst": 7}}).encode()


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_world(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="module")
def strangers(world: World, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Pair | None]:
    """Who does not get past the handshake."""
    owner = "URI:spiffe://test/owner"
    theirs = Authority(tmp_path_factory.mktemp("theirs"), "theirs")
    return {
        "no certificate": None,
        "of another authority": theirs.vouch("owner", owner),
        "expired": world.authority.vouch("expired", owner, holds=(-2 * DAY, -DAY / 24)),
        "not yet valid": world.authority.vouch("early", owner, holds=(DAY, 2 * DAY)),
    }


class Api:
    """The whole application, its configuration and what it produced."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, world: World) -> None:
        self.log: list[Outgoing] = []
        self.app: ASGIApp
        self.feed: Feed
        files = world.files
        self.app, self.feed = admin_app(
            monkeypatch,
            log=self.log,
            admin_tls_cert=files.certificate,
            admin_tls_key=files.key,
            admin_tls_client_ca=files.clients,
            admin_roles=world.roles,
        )

    def audited(self) -> list[AuditRecorded]:
        return [decode_as(r.value, AuditRecorded) for r in self.log if r.topic == AUDIT]


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch, world: World) -> Api:
    return Api(monkeypatch, world)


def tls_of(world: World) -> ServerTls:
    return ServerTls(world.files, lambda _: None)


def path_of(row: RouteRoles) -> str:
    return "/admin/v1" + row.path.replace("{id:path}", "x").replace("{id}", "x").replace(
        "{kind}", "pin"
    )


def problem(answer: bytes) -> dict[str, Any]:
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"application/problem+json" in head, answer
    found: dict[str, Any] = json.loads(body)
    return found


def served_routes(app: ASGIApp) -> Iterator[tuple[str, str]]:
    """What the application serves below its prefix."""
    assert isinstance(app, RequestCount)
    assert isinstance(app._app, Starlette)
    (mount,) = (route for route in app._app.routes if isinstance(route, Mount))
    assert isinstance(mount.app, Router)
    for route in mount.app.routes:
        assert isinstance(route, Route)
        yield from ((m, route.path) for m in (route.methods or ()) if m != "HEAD")


def test_every_route_has_a_row_and_every_row_a_route(api: Api) -> None:
    """A new route is nobody's until somebody says whose."""
    rows = [(row.method, row.path) for row in ROUTE_ROLES]

    assert sorted(served_routes(api.app)) == sorted(rows)
    assert all(Role.OWNER in row.roles for row in ROUTE_ROLES)
    assert all(row.with_texts is None or row.with_texts <= row.roles for row in ROUTE_ROLES)


def test_only_reading_is_for_everybody() -> None:
    """What changes anything takes a role that is trusted with it."""
    assert [row for row in ROUTE_ROLES if Role.VIEWER in row.roles and row.method != "GET"] == []


async def test_without_a_certificate_of_ours_no_route_answers(
    api: Api, world: World, strangers: dict[str, Pair | None]
) -> None:
    """S11: none, of another authority, expired, not yet valid; not one byte, and nothing reaches the application."""
    answered = []
    async with serving(api.app, tls_of(world)) as port:
        for name, pair in strangers.items():
            tls = world.tls(pair)
            answered += [
                (name, row)
                for row in ROUTE_ROLES
                if await ask(port, tls, row.method, path_of(row), LIMITS)
            ]
            assert not await ask(port, tls, "GET", METRICS), name
        assert not await ask(port, None, "GET", "/admin/v1/orgs")
        served = await ask(port, world.tls(world.clients[Role.OWNER]), "GET", "/admin/v1/orgs")

    assert answered == []
    assert served.startswith(b"HTTP/1.1 200")
    assert api.log == []


@pytest.mark.parametrize("role", Role)
async def test_a_role_that_is_too_low_is_refused_on_every_route(
    api: Api, world: World, role: Role
) -> None:
    """S11: with the code that says so, and nothing is written but that it was tried."""
    tls = world.tls(world.clients[role])
    async with serving(api.app, tls_of(world)) as port:
        for row in ROUTE_ROLES:
            wanted = [path_of(row)] if role not in row.roles else []
            if row.with_texts is not None and role not in row.with_texts:
                wanted.append(path_of(row) + "?payload=true")
            for path in wanted:
                found = problem(await ask(port, tls, row.method, path, LIMITS))
                assert (found["status"], found["code"]) == (403, "role_not_allowed"), path

    assert api.feed.entries() == []
    assert [r for r in api.log if r.topic != AUDIT] == []


async def test_a_certificate_without_a_role_is_refused_and_audited(api: Api, world: World) -> None:
    """Its authority vouches for it, and nobody wrote it into the file."""
    stranger = world.authority.vouch("mallory", "URI:spiffe://test/mallory")
    nobody = world.authority.vouch("two", "DNS:a.test", "DNS:b.test")
    async with serving(api.app, tls_of(world)) as port:
        first, again = [
            problem(await ask(port, world.tls(stranger), "PUT", "/admin/v1/orgs/x", LIMITS))
            for _ in range(2)
        ]
        unnamed = problem(await ask(port, world.tls(nobody), "GET", "/admin/v1/orgs"))
        status = await ask(port, world.tls(stranger), "GET", METRICS)

    assert (first["status"], first["code"]) == (403, "certificate_unknown")
    assert "uri:spiffe://test/mallory stands in no line" in first["detail"]
    assert again == first
    assert (unnamed["code"], "names nobody" in unnamed["detail"]) == ("certificate_unknown", True)
    assert status.startswith(b"HTTP/1.1 200")
    told = [(e.actor, e.action, json.loads(e.detail)["path"]) for e in api.audited()]
    assert told == [
        ("uri:spiffe://test/mallory", "admin.refused", "/admin/v1/orgs/x"),
        ("unknown", "admin.refused", "/admin/v1/orgs"),
    ]


async def test_the_identity_stands_in_the_entry_and_in_its_audit_record(
    api: Api, world: World
) -> None:
    """Not who the process is, but who asked."""
    owner, operator = (world.tls(world.clients[r]) for r in (Role.OWNER, Role.OPERATOR))
    backend = json.dumps({"url": "http://127.0.0.1:1/v1"}).encode()
    async with serving(api.app, tls_of(world)) as port:
        await ask(port, owner, "PUT", "/admin/v1/orgs/acme", LIMITS)
        made = await ask(port, owner, "POST", "/admin/v1/keys", b'{"org": "acme"}')
        key_id = json.loads(made.partition(b"\r\n\r\n")[2])["key_id"]
        await ask(port, owner, "POST", f"/admin/v1/keys/{key_id}/rotate", b"{}")
        await ask(port, operator, "POST", f"/admin/v1/keys/{key_id}/revoke")
        await ask(port, operator, "PUT", "/admin/v1/backends/b", backend)
        await ask(port, operator, "POST", "/admin/v1/backends/b/drain")

    asked = {e.action: e.actor.rpartition("/")[2] for e in api.audited()}
    assert asked == {
        "admin.put": "operator",
        "admin.key_create": "owner",
        "admin.key_rotate": "owner",
        "admin.key_revoke": "operator",
        "admin.backend_drain": "operator",
    }
    written = {e.id: e.written_by for e in api.feed.entries()}
    assert written["acme"] == "uri:spiffe://test/owner"
    assert written[key_id] == written["b"] == "uri:spiffe://test/operator"


async def test_what_an_old_tls_speaks_is_refused(api: Api, world: World) -> None:
    """1.2 is the least."""
    tls = world.tls(world.clients[Role.OWNER])
    async with serving(api.app, tls_of(world)) as port:
        tls.maximum_version = ssl.TLSVersion.TLSv1_2
        served = await ask(port, tls, "GET", "/admin/v1/orgs")
    server = world.files.context()

    assert served.startswith(b"HTTP/1.1 200")
    assert server.minimum_version == ssl.TLSVersion.TLSv1_2
    assert server.verify_mode == ssl.CERT_REQUIRED


async def test_a_certificate_that_is_replaced_is_used_without_a_restart(
    api: Api, tmp_path: Path
) -> None:
    """And what cannot be used is left alone; the metric follows what is in use."""
    world = make_world(tmp_path)
    told: list[float] = []
    tls = ServerTls(world.files, told.append)
    async with serving(api.app, tls) as port:
        next_one = world.authority.vouch("next", holds=(-DAY, 5 * DAY))
        world.server.certificate.write_bytes(b"no certificate")
        tls.refresh()
        still_s = await shown_until_s(port, world.tls(world.clients[Role.OWNER]))
        world.server.key.write_bytes(next_one.key.read_bytes())
        tls.refresh()
        world.server.certificate.write_bytes(next_one.certificate.read_bytes())
        tls.refresh()
        then_s = await shown_until_s(port, world.tls(world.clients[Role.OWNER]))

    assert [still_s, then_s] == told
    assert then_s - still_s == pytest.approx(3 * 86_400, abs=60)


async def test_a_page_of_another_origin_is_refused_whatever_the_certificate(
    api: Api, world: World
) -> None:
    """A browser shows its user's certificate for any page; one of the port's own origin is served."""
    tls, path = world.tls(world.clients[Role.OWNER]), "/admin/v1/orgs/x"
    async with serving(api.app, tls_of(world)) as port:
        own = f"Origin: https://127.0.0.1:{port}\r\n"
        evil = await ask(port, tls, "PUT", path, LIMITS, "Origin: https://evil.example\r\n")
        served = await ask(port, tls, "GET", "/admin/v1/orgs", more=own)

    assert problem(evil)["status"] == 403
    assert api.log == []
    assert served.startswith(b"HTTP/1.1 200")
