"""``/admin/v1/keys``: create, revoke, rotate. They answer once every live ingress obeys.

A secret is in one answer, once; nothing here logs or stores it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NotRequired, TypedDict

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from ingress.admin.config import api_keys
from ingress.admin.config.change import Change
from ingress.admin.config.config_writer import ConfigWriter, Written
from ingress.admin.deps import AdminDeps
from ingress.admin.http.bodies import read_as
from ingress.admin.http.peer import actor_of
from ingress.admin.http.refusal import Refusal, problem_response
from schemas.config_state import parse_entity
from schemas.entities import Key
from schemas.ids import KEY_RANDOM_BYTES
from schemas.runtime.process.clock import random_bytes


class EarlierShown(TypedDict):
    """An earlier secret of a key, and until when it works."""

    display: str
    expires_at_ms: int


class KeySecret(TypedDict):
    """A new secret of a key, told once. `applied` is false where not every ingress is known to have it."""

    key: str
    key_id: str
    org: str
    signing_secret: NotRequired[str]
    generation: int
    earlier: list[EarlierShown]
    applied: NotRequired[bool]


class KeyRevoked(TypedDict):
    """The end of a key. `applied` is false where not every ingress is known to have it."""

    key_id: str
    version: int
    applied: NotRequired[bool]


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
        settings = self.deps.settings
        signing = api_keys.signing_name(wanted, settings.signing_peppers)
        if isinstance(signing, Refusal):
            return problem_response(signing)
        minted = api_keys.mint(
            wanted,
            settings.key_peppers.current,
            signing,
            random_bytes(KEY_RANDOM_BYTES + api_keys.KEY_ID_RANDOM_BYTES),
            self.deps.clock.now_ms(),
        )
        edit = api_keys.creation(minted.entity)
        change = Change("key", minted.key_id, edit, actor_of(request.scope))
        written = await self.writer.write(change, "admin.key_create")
        if isinstance(written, Refusal):
            return problem_response(written)
        return _answer(written, self._shown(written, minted.secret), status=201)

    async def revoke(self, request: Request) -> Response:
        """The end of a key."""
        key_id = request.path_params["id"]
        edit = api_keys.revocation(key_id, self.deps.clock.now_ms())
        change = Change("key", key_id, edit, actor_of(request.scope))
        written = await self.writer.write(change, "admin.key_revoke")
        if isinstance(written, Refusal):
            return problem_response(written)
        return _answer(written, {"key_id": key_id, "version": written.entry.version})

    async def rotate(self, request: Request) -> Response:
        """Another secret of a key; those before it work until the grace ends."""
        rotation = await read_as(request, api_keys.Rotation)
        if isinstance(rotation, Refusal):
            return problem_response(rotation)
        key_id, randomness = request.path_params["id"], random_bytes(KEY_RANDOM_BYTES)
        settings, now_ms = self.deps.settings, self.deps.clock.now_ms()
        secret = api_keys.new_secret(settings.key_peppers.current, randomness)
        edit = api_keys.rotation(key_id, secret, settings.signing_peppers, rotation.grace_s, now_ms)
        change = Change("key", key_id, edit, actor_of(request.scope))
        written = await self.writer.write(change, "admin.key_rotate")
        if isinstance(written, Refusal):
            return problem_response(written)
        return _answer(written, self._shown(written, secret))

    def _shown(self, written: Written, secret: api_keys.Secret) -> KeySecret:
        """The new secrets, and how long those before them work."""
        key = parse_entity("key", written.entry.body or "")
        assert isinstance(key, Key), "it was just written"
        signing = api_keys.signing_secret_of(
            written.entry.id, key, self.deps.settings.signing_peppers
        )
        told: KeySecret = {
            "key": secret.text,
            "key_id": written.entry.id,
            "org": key.org,
            "generation": key.generation,
            "earlier": [
                {"display": old.display, "expires_at_ms": old.expires_at_ms} for old in key.earlier
            ],
        }
        if signing is not None:
            told["signing_secret"] = signing
        return told


def _answer(written: Written, body: KeySecret | KeyRevoked, status: int = 200) -> Response:
    """The body as it is when every ingress has applied the entry, else marked as not so."""
    if not written.is_applied:
        body["applied"] = False
        return JSONResponse(body, 200)
    return JSONResponse(body, status)
