"""Who is let in by certificate: the file of roles as it stands, and what each route takes."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any, cast

import httpx
import pytest
from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from ingress.admin import access as access_module
from ingress.admin.access import Access, guarded
from ingress.admin.http.guard import is_of_this_site
from ingress.admin.http.peer import PEER, Peer, actor_of
from ingress.admin.route_roles import ROUTE_ROLES
from schemas.admin_roles import Role
from schemas.errors import ErrorCode
from schemas.events import RecordRef
from schemas.outgoing import Outgoing
from schemas.runtime.process.clock import Clock

LATER_S = 4_000_000_000.0


class Auditors:
    """Keeps what it is sent, or is away."""

    def __init__(self) -> None:
        self.sent: list[Outgoing] = []

    def send(self, record: Outgoing) -> asyncio.Future[RecordRef]:
        self.sent.append(record)
        taken: asyncio.Future[RecordRef] = asyncio.get_running_loop().create_future()
        taken.set_result(RecordRef(topic=record.topic, partition=0, offset=0))
        return taken


class Time:
    """A clock that stands."""

    at_s = 1_000.0

    def local_ms(self) -> int:
        return 1_800_000_000_000

    now_ms = local_ms

    def monotonic_s(self) -> float:
        return self.at_s


@pytest.fixture
def roles(tmp_path: Path) -> Path:
    file = tmp_path / "roles"
    file.write_text("".join(f"{role} cn:{role}\n" for role in Role))
    return file


@pytest.fixture
def access(roles: Path) -> Access:
    return Access(roles, cast(Clock, Time()), Auditors())


def scope(peer: Peer | None) -> dict[str, Any]:
    return {"type": "http", "method": "PUT", "path": "/admin/v1/orgs/x", "state": {PEER: peer}}


def put(file: Path, text: str | None) -> None:
    """Another text in the file, or no file."""
    file.unlink(missing_ok=True)
    if text is not None:
        file.write_text(text)


def code(refusal: Any) -> ErrorCode | None:
    return None if refusal is None else refusal.code


async def test_a_line_that_is_taken_out_is_obeyed_at_once(access: Access, roles: Path) -> None:
    """On the next request, also of a connection that stands."""
    owner = scope(Peer("cn:owner", LATER_S))
    before = await access.refusal(owner)
    put(roles, "viewer cn:owner\n")
    lowered = await access.refusal_of_role(owner, frozenset({Role.OWNER}))
    put(roles, "owner cn:somebody.else\n")

    assert before is None
    assert code(lowered) == ErrorCode.ROLE_NOT_ALLOWED
    assert code(await access.refusal(owner)) == ErrorCode.CERTIFICATE_UNKNOWN


@pytest.mark.parametrize("text", ["owner cn:owner\nnonsense", None])
async def test_while_the_file_cannot_be_read_nobody_is_let_in(
    access: Access, roles: Path, text: str | None
) -> None:
    """What it said before may name who was just put out. Mended, it counts."""
    owner = scope(Peer("cn:owner", LATER_S))
    assert await access.refusal(owner) is None
    put(roles, text)
    away = [code(await access.refusal(owner)) for _ in range(2)]
    put(roles, "owner cn:owner\n")

    assert away == [ErrorCode.SERVICE_UNAVAILABLE] * 2
    assert await access.refusal(owner) is None


async def test_a_connection_does_not_outlive_its_certificate(access: Access) -> None:
    """The handshake was before it ended."""
    ended = await access.refusal(scope(Peer("cn:owner", 1_799_999_999.0)))

    assert code(ended) == ErrorCode.CERTIFICATE_UNKNOWN


async def test_a_request_without_a_peer_is_refused(access: Access) -> None:
    """Whatever went wrong below."""
    assert code(await access.refusal(scope(None))) == ErrorCode.CERTIFICATE_UNKNOWN
    assert code(await access.refusal({"type": "http", "method": "GET", "path": "/"})) is not None


async def test_the_same_refusal_is_audited_once_a_minute(
    access: Access, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A flood of tries is no flood of records, and what is remembered is bounded."""
    stranger, auditors, time = scope(Peer("cn:x", LATER_S)), access.auditors, access.clock
    assert isinstance(auditors, Auditors)
    assert isinstance(time, Time)
    for at_s in (1_000.0, 1_001.0, 1_059.0, 1_061.0):
        time.at_s = at_s
        await access.refusal(stranger)
    assert len(auditors.sent) == 2

    monkeypatch.setattr(access_module, "_CERTIFICATES_MAX", 3)
    for number in range(10):
        await access.refusal(scope(Peer(f"cn:{number}", LATER_S)))
    assert len(access._audited_s) <= 3


async def test_each_route_serves_the_roles_of_its_row_and_no_other(access: Access) -> None:
    """All rows, all roles, with and without the texts of requests."""

    async def serve(_: Request) -> Response:
        return Response(status_code=204)

    app = Starlette(
        routes=guarded([Route(r.path, serve, methods=[r.method]) for r in ROUTE_ROLES], access)
    )
    for role in Role:

        async def as_role(scope: Scope, receive: Receive, send: Send, role: Role = role) -> None:
            scope["state"] = {PEER: Peer(f"cn:{role}", LATER_S)}
            await app(scope, receive, send)

        transport = httpx.ASGITransport(as_role)
        async with httpx.AsyncClient(transport=transport, base_url="https://a") as client:
            for row in ROUTE_ROLES:
                path = (
                    row.path.replace("{id:path}", "a/b")
                    .replace("{id}", "a")
                    .replace("{kind}", "pin")
                )
                usual = await client.request(row.method, path)
                texts = await client.request(row.method, path, params={"payload": "true"})
                with_texts = row.roles if row.with_texts is None else row.with_texts
                assert usual.status_code == (204 if role in row.roles else 403), (role, row)
                assert texts.status_code == (204 if role in with_texts else 403), (role, row)
                if row.method == "GET":
                    head = await client.head(path)
                    assert head.status_code == usual.status_code


def test_a_route_without_a_row_cannot_be_served() -> None:
    """With or without TLS, so that nobody finds out in production."""
    with pytest.raises(KeyError):
        guarded([Route("/new", Response, methods=["GET"])], None)


def test_without_tls_the_actor_is_the_administrator_of_the_machine() -> None:
    """Who that is, nobody can know."""
    assert actor_of({"type": "http"}) == actor_of(scope(None)) == "admin"
    assert actor_of(scope(Peer("dns:a.test", LATER_S))) == "dns:a.test"


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ([("host", "admin.internal:8443")], True),
        ([("host", "admin.internal"), ("origin", "https://admin.internal")], True),
        ([("host", "admin.internal"), ("origin", "https://evil.example")], False),
        ([("host", "admin.internal"), ("origin", "null")], False),
        ([("host", "a"), ("origin", "https://a"), ("origin", "https://b")], False),
        ([("host", "a"), ("host", "b")], False),
        ([], False),
    ],
)
def test_a_page_of_another_origin_is_kept_out_under_tls_too(
    headers: list[tuple[str, str]], expected: bool
) -> None:
    """A browser shows its user's certificate for any page."""
    raw = [(name.encode(), value.encode()) for name, value in headers]

    assert is_of_this_site(Headers(raw=raw)) is expected
