"""``/admin/v1/overrides``: put over a route or a backend, list, restore; and draining backends by their own path.

A write answers once every live ingress and dispatcher obeys, or says that not all of them do yet.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, TypedDict, cast

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from ingress.admin.config import entities
from ingress.admin.config.change import Change, Edit
from ingress.admin.config.config_writer import ConfigWriter, Written
from ingress.admin.config.entity_routes import WrittenAnswer, written_body
from ingress.admin.config.override_edit import override_edit
from ingress.admin.deps import AdminDeps
from ingress.admin.fleet.overrides import OverrideShown, overrides_shown, warnings
from ingress.admin.fleet.propagation import wait_until_applied
from ingress.admin.http.bodies import if_match, read_json
from ingress.admin.http.peer import actor_of
from ingress.admin.http.refusal import Refusal, is_refusal, problem_response
from schemas.entities import Kind
from schemas.errors import ErrorCode
from schemas.overrides import OVERRIDES, OverrideKind
from schemas.runtime.valkey.store import StoreError, StoreUnavailable

_APPLIED_WITHIN_S: Final = 10.0
"""As long as a process counts as living after its last report."""


class OverridesAnswer(TypedDict):
    """All overrides that nobody restored, and the time that they are told by."""

    items: list[OverrideShown]
    now_ms: int


class OverrideWritten(WrittenAnswer):
    """What was written, whether every live process has it, and which models it leaves without a backend."""

    applied: bool
    applied_after_ms: int | None
    warnings: list[str]


@dataclass(frozen=True, slots=True)
class OverrideRoutes:
    """The handlers; every write goes through the writer."""

    deps: AdminDeps
    writer: ConfigWriter

    def routes(self) -> list[Route]:
        """The paths, before those of all entities."""
        one = "/overrides/{kind}/{id:path}"
        return [
            Route("/overrides", self.list_all, methods=["GET"]),
            Route(one, self.put, methods=["PUT"]),
            Route(one, self.restore, methods=["DELETE"]),
            Route("/backends/{id:path}/drain", self.drain_backend, methods=["POST"]),
            Route("/backends/{id:path}/restore", self.restore_backend, methods=["POST"]),
        ]

    async def list_all(self, _: Request) -> Response:
        """All that nobody restored, those that ended or are out of force included."""
        config, now_ms = self.deps.config, self.deps.clock.now_ms()
        items = overrides_shown(config.entries(), config.snapshot.problems, now_ms)
        return JSONResponse({"items": items, "now_ms": now_ms})

    async def put(self, request: Request) -> Response:
        """Put one in force, in place of an earlier one of its kind; with ``If-Match`` as every entity."""
        kind = _kind(request)
        if isinstance(kind, Refusal):
            return problem_response(kind)
        body = await read_json(request)
        return await self._put(request, kind, body)

    async def restore(self, request: Request) -> Response:
        """End one: what was declared is in force again."""
        kind = _kind(request)
        if isinstance(kind, Refusal):
            return problem_response(kind)
        edit = entities.removal(kind, request.path_params["id"])
        return await self._write(request, kind, edit, _action(kind, "restore"))

    async def drain_backend(self, request: Request) -> Response:
        """Take a backend out of use; the body may say until when and why, and may be absent."""
        is_empty = request.headers.get("content-length", "0") == "0"
        has_body = not is_empty or "transfer-encoding" in request.headers
        body = await read_json(request) if has_body else b"{}"
        return await self._put(request, "drain", body)

    async def restore_backend(self, request: Request) -> Response:
        """Use a backend again, by whichever way it was drained."""
        name, action = request.path_params["id"], _action("drain", "restore")
        drain = self.deps.config.entry("drain", name)
        declared = self.deps.config.snapshot.backends.get(name)
        if drain is not None and drain.body is not None:
            answer = await self._write(request, "drain", entities.removal("drain", name), action)
            if declared is None or declared.state == "active" or is_refusal(answer):
                return answer
        return await self._write(request, "backend", entities.activation(name), action)

    async def _put(self, request: Request, kind: OverrideKind, body: bytes | Refusal) -> Response:
        edit = body if isinstance(body, Refusal) else override_edit(kind, body, self._now_ms())
        if isinstance(edit, Refusal):
            return problem_response(edit)
        return await self._write(request, kind, edit, _action(kind, kind))

    async def _write(self, request: Request, kind: Kind, edit: Edit, action: str) -> Response:
        version, name = if_match(request), request.path_params["id"]
        if isinstance(version, Refusal):
            return problem_response(version)
        began_s = self.deps.clock.monotonic_s()
        change = Change(kind, name, edit, actor_of(request.scope), version)
        written = await self.writer.write(change, action)
        if isinstance(written, Refusal):
            return problem_response(written)
        is_applied = await self._is_applied(written)
        took_ms = round((self.deps.clock.monotonic_s() - began_s) * 1_000)
        config, is_of_backend = self.deps.config.snapshot, kind in ("backend", "drain")
        answer: OverrideWritten = {
            **written_body(written),
            "applied": is_applied,
            "applied_after_ms": took_ms if is_applied else None,
            "warnings": warnings(config, name, self._now_ms(), is_of_backend=is_of_backend),
        }
        etag = {"etag": f'"{written.entry.version}"'}
        return JSONResponse(answer, headers=etag)

    async def _is_applied(self, written: Written) -> bool:
        """Whether every live ingress and dispatcher has it within some seconds; what is not known is not so."""
        store, clock, offset = self.deps.ledger_store, self.deps.clock, written.offset
        try:
            return written.is_applied and await wait_until_applied(
                store, clock, "dispatcher", offset, _APPLIED_WITHIN_S
            )
        except (StoreUnavailable, StoreError):
            return False

    def _now_ms(self) -> int:
        return self.deps.clock.now_ms()


def _kind(request: Request) -> OverrideKind | Refusal:
    kind = request.path_params["kind"]
    if kind in OVERRIDES:
        return cast("OverrideKind", kind)
    what = f"{kind!r} is no override; one of {', '.join(OVERRIDES)}"
    return Refusal(ErrorCode.NOT_FOUND, what)


def _action(kind: OverrideKind, verb: str) -> str:
    """The name of what was done, in audit events."""
    return f"admin.{'backend' if kind == 'drain' else 'route'}_{verb}"
