"""Decides who may use the admin API under mutual TLS: the file of roles as it stands, and the roles that a route takes.

The file is looked at with each request, so that a line that is taken out is obeyed at once. While it cannot be
read nobody is let in: an older text of it may name who was just put out. What is refused is audited, at most once a
minute of the same certificate.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Scope

from ingress.admin.http.peer import peer_of
from ingress.admin.http.refusal import Refusal, problem_response
from ingress.admin.http.turns import Handler
from ingress.admin.log.audit_trail import Sender, record_audit
from ingress.admin.route_roles import roles_of
from schemas.admin_roles import Role, read_roles
from schemas.errors import ErrorCode
from schemas.events import AuditRecorded
from schemas.runtime.process.clock import Clock

__all__ = ["Access", "guarded"]

_AUDITED_EVERY_S: Final = 60.0
_AUDITED_WITHIN_S: Final = 1.0
_CERTIFICATES_MAX: Final = 1_000
"""So many are remembered as audited; then all are forgotten, and audited anew."""
_TEXT_CHARS_MAX: Final = 200


@dataclass(slots=True)
class Access:
    """The door of one process."""

    file: Path
    clock: Clock
    auditors: Sender
    _roles: Mapping[str, Role] = field(default_factory=dict)
    _state: tuple[int, int, int] | None = None
    _audited_s: dict[tuple[str, str], float] = field(default_factory=dict)

    async def refusal(self, scope: Scope) -> Refusal | None:
        """Why the certificate of a request opens nothing at all; ``None`` when it has a role."""
        found = self._role(scope)
        return await self._audited(scope, found) if isinstance(found, Refusal) else None

    async def refusal_of_role(self, scope: Scope, allowed: frozenset[Role]) -> Refusal | None:
        """Why the certificate's role is not enough; ``None`` when it is one of those that may."""
        found = self._role(scope)
        if isinstance(found, Refusal):
            return await self._audited(scope, found)
        if found in allowed:
            return None
        named = " or ".join(role for role in Role if role in allowed)
        return await self._audited(
            scope, Refusal(ErrorCode.ROLE_NOT_ALLOWED, f"{found} may not do this, {named} may")
        )

    def _role(self, scope: Scope) -> Role | Refusal:
        peer = peer_of(scope)
        if peer is None or peer.identity is None:
            detail = "it names nobody: one URI, else one DNS name, else one common name is needed"
            return Refusal(ErrorCode.CERTIFICATE_UNKNOWN, detail)
        if self.clock.local_ms() > peer.expires_at_s * 1_000:
            return Refusal(ErrorCode.CERTIFICATE_UNKNOWN, f"that of {peer.identity} has expired")
        try:
            self._read_if_changed()
        except (OSError, ValueError) as error:
            detail = f"the file of roles cannot be read: {error}"
            return Refusal(ErrorCode.SERVICE_UNAVAILABLE, detail)
        role = self._roles.get(peer.identity)
        if role is None:
            detail = f"{peer.identity} stands in no line of the file of roles"
            return Refusal(ErrorCode.CERTIFICATE_UNKNOWN, detail)
        return role

    def _read_if_changed(self) -> None:
        stat = self.file.stat()
        state = stat.st_ino, stat.st_mtime_ns, stat.st_size
        if state != self._state:
            self._state = None
            self._roles = read_roles(self.file.read_text(encoding="utf-8"))
            self._state = state

    async def _audited(self, scope: Scope, refusal: Refusal) -> Refusal:
        peer = peer_of(scope)
        actor = (peer.identity if peer else None) or "unknown"
        told, now_s = (actor, refusal.code.value), self.clock.monotonic_s()
        if now_s - self._audited_s.get(told, -_AUDITED_EVERY_S) < _AUDITED_EVERY_S:
            return refusal
        if len(self._audited_s) >= _CERTIFICATES_MAX:
            self._audited_s.clear()
        self._audited_s[told] = now_s
        at_ms = self.clock.now_ms()
        facts = {
            "code": refusal.code.value,
            "method": str(scope["method"])[:_TEXT_CHARS_MAX],
            "path": str(scope["path"])[:_TEXT_CHARS_MAX].encode(errors="replace").decode(),
        }
        event = AuditRecorded(
            audit_id=f"admin_refused:{actor}:{refusal.code.value}:{at_ms}",
            org="",
            action="admin.refused",
            actor=actor,
            at_ms=at_ms,
            detail=msgspec.json.encode(facts).decode(),
        )
        await record_audit(self.auditors, event, _AUDITED_WITHIN_S)
        return refusal


def guarded(routes: Iterable[Route], access: Access | None) -> list[Route]:
    """The routes, each for the roles that its row names; without ``access``, for whoever got so far.

    Raises ``KeyError`` for a route that has no row.
    """
    found = []
    for route in routes:
        rows = {method: roles_of(method, route.path) for method in _stated(route)}
        endpoint = route.endpoint if access is None else _checked(route.endpoint, rows, access)
        found.append(Route(route.path, endpoint, methods=list(rows), name=route.name))
    return found


def _stated(route: Route) -> set[str]:
    return (route.methods or set()) - {"HEAD"}


def _checked(
    handler: Handler, rows: Mapping[str, tuple[frozenset[Role], frozenset[Role]]], access: Access
) -> Handler:
    async def check(request: Request) -> Response:
        usual, with_texts = rows["GET" if request.method == "HEAD" else request.method]
        wants_texts = request.query_params.get("payload") == "true"
        allowed = with_texts if wants_texts else usual
        refusal = await access.refusal_of_role(request.scope, allowed)
        return await handler(request) if refusal is None else problem_response(refusal)

    return check
