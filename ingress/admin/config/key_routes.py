"""``/admin/v1/keys``: create, revoke, rotate. They answer once every live ingress obeys.

A secret is in one answer, once; nothing here logs or stores it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from ingress.admin.config import api_keys
from ingress.admin.config.change import Change
from ingress.admin.config.config_writer import ConfigWriter, Written
from ingress.admin.config.entities import not_found
from ingress.admin.deps import AdminDeps
from ingress.admin.http.bodies import read_as
from ingress.admin.http.refusal import Refusal, problem_response
from ingress.admin.log.audit_trail import ACTOR
from schemas.errors import ErrorCode
from schemas.ids import KEY_RANDOM_BYTES
from schemas.runtime.process.clock import random_bytes


@dataclass(frozen=True, slots=True)
class KeyRoutes:
    """The handlers of what only keys have."""

    deps: AdminDeps
    writer: ConfigWriter

    def routes(self) -> list[Route]:
        """The paths, before those of all entities."""
        return [
            Route("/keys", self.create, methods=["POST"]),
            Route("/keys/{id}/revoke", self.revoke, methods=["POST"]),
            Route("/keys/{id}/rotate", self.rotate, methods=["POST"]),
        ]

    async def create(self, request: Request) -> Response:
        """A new key; the only answer that contains its secret."""
        wanted = await read_as(request, api_keys.NewKey)
        if isinstance(wanted, Refusal):
            return problem_response(wanted)
        minted = self._mint(wanted)
        written = await self._add(minted, "admin.key_create")
        if isinstance(written, Refusal):
            return problem_response(written)
        return _answer(written, _shown(minted), status=201)

    async def revoke(self, request: Request) -> Response:
        """The end of a key."""
        key_id = request.path_params["id"]
        edit = api_keys.revocation(key_id, self.deps.clock.now_ms())
        change = Change("key", key_id, edit, ACTOR)
        written = await self.writer.write(change, "admin.key_revoke")
        if isinstance(written, Refusal):
            return problem_response(written)
        return _answer(written, {"key_id": key_id, "version": written.entry.version})

    async def rotate(self, request: Request) -> Response:
        """A new key first, then the end of the old one: between the two, both work."""
        rotation = await read_as(request, api_keys.Rotation)
        if isinstance(rotation, Refusal):
            return problem_response(rotation)
        key_id = request.path_params["id"]
        old = self.deps.config.snapshot.keys.get(key_id)
        if old is None:
            return problem_response(not_found("key", key_id))
        if old.revoked_at_ms is not None:
            refusal = Refusal(ErrorCode.INVALID_REQUEST, f"key/{key_id} is revoked; create a key")
            return problem_response(refusal)
        minted = self._mint(api_keys.successor(old))
        added = await self._add(minted, "admin.key_rotate")
        if isinstance(added, Refusal):
            return problem_response(added)
        written = await self._retire(key_id, rotation)
        if isinstance(written, Refusal):
            return problem_response(written)
        return _answer(written, _shown(minted) | {"replaces": key_id}, status=201)

    def _mint(self, wanted: api_keys.NewKey) -> api_keys.Minted:
        pepper = self.deps.settings.key_pepper.get_secret_value().encode()
        randomness = random_bytes(KEY_RANDOM_BYTES + api_keys.KEY_ID_RANDOM_BYTES)
        return api_keys.mint(wanted, pepper, randomness, self.deps.clock.now_ms())

    async def _add(self, minted: api_keys.Minted, action: str) -> Written | Refusal:
        change = Change("key", minted.key_id, api_keys.creation(minted.entity), ACTOR)
        return await self.writer.write(change, action)

    async def _retire(self, key_id: str, rotation: api_keys.Rotation) -> Written | Refusal:
        expires_at_ms = self.deps.clock.now_ms() + round(rotation.grace_s * 1_000)
        change = Change("key", key_id, api_keys.retirement(key_id, expires_at_ms), ACTOR)
        return await self.writer.write(change, "admin.key_retire")


def _answer(written: Written, body: dict[str, Any], status: int = 200) -> Response:
    """The body as it is when every ingress has applied the entry, else marked as not so."""
    if not written.is_applied:
        return JSONResponse(body | {"applied": False}, 200)
    return JSONResponse(body, status)


def _shown(minted: api_keys.Minted) -> dict[str, Any]:
    return {"key": minted.secret, "key_id": minted.key_id, "org": minted.entity.org}
