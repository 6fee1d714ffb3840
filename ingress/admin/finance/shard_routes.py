"""``/admin/v1/ledger/shards``, ``/admin/v1/ledger/rebuild``: what state each shard is in, and to have one rebuilt.

The control plane rebuilds nothing. It asks in the shard's `meta`, which the owner in accounting reads every second.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any, Final, NotRequired, TypedDict

import msgspec
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from ingress.admin.deps import AdminDeps
from ingress.admin.http.bodies import read_as
from ingress.admin.http.peer import actor_of
from ingress.admin.http.refusal import Refusal, problem_response
from ingress.admin.log.audit_trail import record_audit
from schemas.errors import ErrorCode
from schemas.events import AuditRecorded
from schemas.ledger import rebuild_calls
from schemas.ledger.keys import META, of_shard
from schemas.runtime.ledger.client import LedgerClient
from schemas.runtime.process.clock import random_bytes
from schemas.runtime.valkey.store import text_pairs

__all__ = ["ShardRoutes", "shard_document"]

_ASKED: Final = "asked"
_NUMBERS: Final = ("epoch", "booked", "ready_ms", "records")


class Rebuild(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Body of ``POST /ledger/rebuild``: one shard or all; a trial says what would change, and changes nothing."""

    shard: int | None = None
    dry_run: bool = False


class ShardShown(TypedDict):
    """The state of a shard of the ledger, whether it decides, and how far a rebuild of it is; `found` is a trial's."""

    shard: int
    state: str
    decides: bool
    why: str
    step: str
    epoch: NotRequired[int]
    booked: NotRequired[int]
    ready_ms: NotRequired[int]
    records: NotRequired[int]
    trial: NotRequired[str]
    found: NotRequired[Any]


class StoreServerShown(TypedDict):
    """What a server of the ledger's store says of its memory and its append-only file."""

    port: int
    maxmemory_bytes: int
    policy: str
    appends: bool
    last_write: str


class ShardsAnswer(TypedDict):
    """Every shard, and the servers of the store."""

    items: list[ShardShown]
    servers: list[StoreServerShown]


class RebuildAsked(TypedDict):
    """Which shards were asked, and under which token a trial is found."""

    shards: list[int]
    trial: str | None


def shard_document(shard: int, meta: dict[str, str], announced: int = 0) -> dict[str, Any]:
    """What people are told of a shard, from the fields of its `meta` and the epoch that the log announced. Pure."""
    token, _, text = meta.get("found", "").partition(" ")
    state = _state(meta, announced)
    return {
        "shard": shard,
        "state": state,
        "decides": state in ("whole", "completing"),
        "why": meta.get("why", ""),
        "step": meta.get("step", ""),
        **{name: int(meta[name]) for name in _NUMBERS if meta.get(name, "").isdecimal()},
        **({"trial": token, "found": msgspec.json.decode(text)} if text else {}),
    }


def _state(meta: dict[str, str], announced: int) -> str:
    if not meta:
        return "empty"
    if meta.get("ready") != "1":
        return "rebuilding" if meta.get("building") else "closed"
    if int(meta.get("epoch", 0)) < announced:
        return "behind"
    return "whole" if meta.get("complete") == "1" else "completing"


def server_document(info: bytes) -> StoreServerShown:
    """What a server of the store says of its memory and its append-only file in ``INFO``. Pure."""
    lines = info.decode(errors="replace").splitlines()
    said = dict(line.split(":", 1) for line in lines if ":" in line)
    return {
        "port": int(said.get("tcp_port", 0)),
        "maxmemory_bytes": int(said.get("maxmemory", 0)),
        "policy": said.get("maxmemory_policy", ""),
        "appends": said.get("aof_enabled") == "1",
        "last_write": said.get("aof_last_write_status", ""),
    }


@dataclass(frozen=True, slots=True)
class ShardRoutes:
    """The handlers."""

    deps: AdminDeps

    def routes(self) -> list[Route]:
        """The paths."""
        return [
            Route("/ledger/shards", self.shards, methods=["GET"]),
            Route("/ledger/rebuild", self.rebuild, methods=["POST"]),
        ]

    async def shards(self, _: Request) -> Response:
        """Every shard's state, and how far a rebuild of it is; and the servers of the store."""
        store, epochs = self.deps.ledger_store, self.deps.config.snapshot.ledger_epochs
        numbers = list(self.deps.shards)
        infos, *found = await asyncio.gather(
            store.call_each("INFO"),
            *(store.call("HGETALL", of_shard(number, META)) for number in numbers),
        )
        pairs = zip(numbers, map(text_pairs, found), strict=True)
        items = [shard_document(n, meta, epochs.get(n, 0)) for n, meta in pairs]
        return JSONResponse({"items": items, "servers": list(map(server_document, infos))})

    async def rebuild(self, request: Request) -> Response:
        """Ask for it; the answer says which shards were asked, and under which token a trial is found."""
        body = await read_as(request, Rebuild)
        if isinstance(body, Refusal):
            return problem_response(body)
        numbers = list(self.deps.shards)
        if body.shard is not None and body.shard not in numbers:
            detail = f"there is no shard {body.shard}; they are 0 to {len(numbers) - 1}"
            return problem_response(Refusal(ErrorCode.INVALID_REQUEST, detail))
        asked = numbers if body.shard is None else [body.shard]
        ledger = LedgerClient(self.deps.ledger_store, self.deps.shards)
        trial = random_bytes(8).hex() if body.dry_run else None
        for number in asked:
            if trial is None:
                await ledger.run(rebuild_calls.ask(number, _ASKED))
            else:
                await ledger.run(rebuild_calls.ask_for_trial(number, trial))
        if trial is None:
            await self._audit(asked, actor_of(request.scope))
        return JSONResponse({"shards": asked, "trial": trial})

    async def _audit(self, shards: list[int], actor: str) -> None:
        """Record who closed which shards: they decide nothing until they are whole again."""
        event = AuditRecorded(
            audit_id=f"ledger_rebuild:{random_bytes(8).hex()}",
            org="",
            action="admin.ledger_rebuild",
            actor=actor,
            at_ms=self.deps.clock.now_ms(),
            detail=msgspec.json.encode({"shards": shards}).decode(),
        )
        await record_audit(self.deps.producer, event)
