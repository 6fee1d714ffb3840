"""``/admin/v1/config/sign``: write again, signed, all that is in force, into a log that has entries without a signature, or
has lost some to forged ones. ``/admin/v1/config/adopt``: accept a config log that ends below what was in force.

Such a log was restored from an older copy or made anew. Until somebody accepts it, every process keeps
the configuration that it knows, and nothing can be written.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TypedDict

import msgspec
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from ingress.admin.config.config_writer import ConfigWriter
from ingress.admin.deps import AdminDeps
from ingress.admin.fleet.propagation import instances_of
from ingress.admin.http.bodies import read_as
from ingress.admin.http.peer import actor_of
from ingress.admin.http.refusal import Refusal, problem_response
from ingress.admin.log.audit_trail import record_audit
from schemas.errors import ErrorCode
from schemas.events import AuditRecorded

_ADOPTED_WITHIN_S = 5.0
_POLL_S = 0.05


class Adoption(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Body of ``POST /config/adopt``: nothing to say yet."""


class Signing(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Body of ``POST /config/sign``: nothing to say yet."""


class SignedAnswer(TypedDict):
    """How many entries were written again, signed."""

    signed: int


class AdoptedAnswer(TypedDict):
    """Below which offset the log ended, where its acceptance stands, and whether this process has followed."""

    ended_below: int
    offset: int
    adopted: bool


@dataclass(frozen=True, slots=True)
class ConfigRoutes:
    """The handlers of what concerns the whole log."""

    deps: AdminDeps
    writer: ConfigWriter

    def routes(self) -> list[Route]:
        """The paths."""
        return [
            Route("/config/adopt", self.adopt, methods=["POST"]),
            Route("/config/sign", self.sign, methods=["POST"]),
        ]

    async def sign(self, request: Request) -> Response:
        """Write again, signed, all that is in force."""
        body = await read_as(request, Signing)
        if isinstance(body, Refusal):
            return problem_response(body)
        if self.deps.signer is None:
            detail = "this process has no key to sign with: TALLYGATE_CONFIG_SIGNING_KEY"
            return problem_response(Refusal(ErrorCode.INVALID_REQUEST, detail))
        written = await self.writer.sign()
        if isinstance(written, Refusal):
            return problem_response(written)
        at_ms = self.deps.clock.now_ms()
        event = AuditRecorded(
            audit_id=f"config:signed:{at_ms}",
            org="",
            action="admin.config_sign",
            actor=actor_of(request.scope),
            at_ms=at_ms,
            detail=msgspec.json.encode({"entries": written}).decode(),
        )
        await record_audit(self.deps.producer, event)
        return JSONResponse({"signed": written})

    async def adopt(self, request: Request) -> Response:
        """Write the acceptance, for all processes; it says whether this one has followed."""
        body = await read_as(request, Adoption)
        if isinstance(body, Refusal):
            return problem_response(body)
        config = self.deps.config
        if config.alarm is None:
            detail = "nothing to accept: the config log contains all that is in force here"
            return problem_response(Refusal(ErrorCode.INVALID_REQUEST, detail))
        instances = await instances_of(self.deps.ledger_store, self.deps.clock)
        offsets = [i.offset for i in instances if i.is_live]
        ends_below = max([config.snapshot.offset, *offsets])
        written = await self.writer.adopt(ends_below, actor_of(request.scope))
        if isinstance(written, Refusal):
            return problem_response(written)
        is_adopted = await self._is_adopted()
        answer: AdoptedAnswer = {
            "ended_below": int(written.entry.body or -1),
            "offset": written.offset,
            "adopted": is_adopted,
        }
        return JSONResponse(answer)

    async def _is_adopted(self) -> bool:
        give_up_s = self.deps.clock.monotonic_s() + _ADOPTED_WITHIN_S
        while self.deps.config.alarm is not None:
            if self.deps.clock.monotonic_s() >= give_up_s:
                return False
            await asyncio.sleep(_POLL_S)
        return True
