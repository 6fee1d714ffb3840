"""``/admin/v1/{kinds}``: read, replace, delete."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypedDict

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from ingress.admin.config import entities
from ingress.admin.config.api_keys import KeyFields, fields_change
from ingress.admin.config.change import Change, Edit
from ingress.admin.config.config_writer import ConfigWriter, Written
from ingress.admin.deps import AdminDeps
from ingress.admin.fleet.health import health_of_backends
from ingress.admin.http.bodies import if_match, read_as, read_json
from ingress.admin.http.peer import actor_of
from ingress.admin.http.refusal import Refusal, is_refusal, problem_response
from schemas.entities import Kind
from schemas.events import ConfigEntry
from schemas.overrides import overrides_about
from schemas.routes import is_drained


class WrittenAnswer(TypedDict):
    """What was written: its kind, id and new version, where it stands in the log; its body is null for a deletion."""

    kind: str
    id: str
    version: int
    offset: int
    body: dict[str, Any] | None


@dataclass(frozen=True, slots=True)
class EntityRoutes:
    """The handlers; every write goes through the writer."""

    deps: AdminDeps
    writer: ConfigWriter

    def routes(self) -> list[Route]:
        """The paths. An id may contain slashes, so longer ones come before them."""
        found: list[Route] = []
        for path in entities.KIND_OF_PATH:
            found += [
                Route(f"/{path}", self.list_all, methods=["GET"], name=path),
                Route(f"/{path}/{{id:path}}", self.get_one, methods=["GET"], name=path),
                Route(f"/{path}/{{id:path}}", self.put, methods=["PUT"], name=path),
                Route(f"/{path}/{{id:path}}", self.delete, methods=["DELETE"], name=path),
            ]
        return found

    async def list_all(self, request: Request) -> Response:
        """All that are not deleted, by id; backends with their health."""
        kind = _kind(request)
        entries = (e for e in self.deps.config.entries() if e.kind == kind)
        views = filter(None, map(self._view, entries))
        items = sorted(views, key=lambda item: item["id"])
        if kind == "backend":
            config, now_ms = self.deps.config.snapshot, self.deps.clock.now_ms()
            health = await health_of_backends(self.deps.ledger_store, now_ms)
            items = [
                item
                | {
                    "drained": is_drained(item["id"], config, now_ms),
                    "health": health.get(item["id"], []),
                }
                for item in items
            ]
        return JSONResponse({"items": items})

    async def get_one(self, request: Request) -> Response:
        """One entity; its version is also the ETag."""
        kind, entity_id = _kind(request), request.path_params["id"]
        entry = self.deps.config.entry(kind, entity_id)
        seen = None if entry is None else self._view(entry)
        if seen is None:
            return problem_response(entities.not_found(kind, entity_id))
        return JSONResponse(seen, headers={"etag": f'"{seen["version"]}"'})

    def _view(self, entry: ConfigEntry) -> dict[str, Any] | None:
        seen = entities.view(entry)
        if seen is None or entry.kind != "key":
            return seen
        settings = self.deps.settings
        return entities.with_pepper_ages(seen, settings.key_peppers, settings.signing_peppers)

    async def put(self, request: Request) -> Response:
        """Create or replace; with ``If-Match``, only at that version (0: only create)."""
        kind = _kind(request)
        edit = await self._put_edit(request, kind)
        if isinstance(edit, Refusal):
            return problem_response(edit)
        return await self._write(request, kind, edit, "admin.put")

    async def delete(self, request: Request) -> Response:
        """Delete, unless something refers to it; overrides of it go with it."""
        kind, name = _kind(request), request.path_params["id"]
        answer = await self._write(request, kind, entities.removal(kind, name), "admin.delete")
        for about in () if is_refusal(answer) else overrides_about(kind):
            entry = self.deps.config.entry(about, name)
            if entry is not None and entry.body is not None:
                edit = entities.removal(about, name)
                change = Change(about, name, edit, actor_of(request.scope))
                await self.writer.write(change, "admin.delete")
        return answer

    async def _put_edit(self, request: Request, kind: Kind) -> Edit | Refusal:
        if kind == "key":
            fields = await read_as(request, KeyFields)
            if isinstance(fields, Refusal):
                return fields
            return fields_change(request.path_params["id"], fields)
        body = await read_json(request)
        if isinstance(body, Refusal):
            return body
        peppers = self.deps.settings.webhook_peppers
        return entities.refuse_unsigned(kind, body, peppers) or entities.replacement(kind, body)

    async def _write(self, request: Request, kind: Kind, edit: Edit, action: str) -> Response:
        version = if_match(request)
        if isinstance(version, Refusal):
            return problem_response(version)
        actor = actor_of(request.scope)
        change = Change(kind, request.path_params["id"], edit, actor, version)
        written = await self.writer.write(change, action)
        if isinstance(written, Refusal):
            return problem_response(written)
        return written_response(written)


def written_response(written: Written) -> Response:
    """What was written, and its version."""
    return JSONResponse(written_body(written), headers={"etag": f'"{written.entry.version}"'})


def written_body(written: Written) -> WrittenAnswer:
    """What was written; its body is null for a deletion."""
    seen = entities.view(written.entry)
    body = None if seen is None else {k: v for k, v in seen.items() if k not in ("id", "version")}
    return {
        "kind": written.entry.kind,
        "id": written.entry.id,
        "version": written.entry.version,
        "offset": written.offset,
        "body": body,
    }


def _kind(request: Request) -> Kind:
    # Not of ``request.url``, which is put together from headers as well.
    path = str(request.scope["path"]).removeprefix("/admin/v1/").partition("/")[0]
    return entities.KIND_OF_PATH[path]
