"""What a version before this one left in the store: its keys have no shard, and only a rebuild reads them.

That version wrote neither fingerprints of keys nor facts of jobs into the log. So whoever rebuilds a shard takes from
the old keys what the log lacks: outcomes that nobody booked, claimed keys, jobs, and requests that were cancelled before
they ran. Once every shard is whole the old keys are removed.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import msgspec

from schemas.events import RequestFinished
from schemas.ledger import keys
from schemas.ledger.keys import FINISHED, META
from schemas.ledger.rebuild_calls import RestoredClaim, RestoredJob
from schemas.runtime.ledger.client import LedgerClient
from schemas.runtime.valkey.store import Store

__all__ = ["OldLayout", "OldRequest", "OldRequests", "is_of_old_layout"]

_OLD: Final = re.compile(
    rb"(?:\{[^}|]*\}:.*|meta|exp|inf|fin|forgot|ended:\d+|cfg:\w+|dlq:retried:.*)", re.DOTALL
)
_REQUEST: Final = re.compile(r"\{([^}|]*)\}:([ak]):(.*)", re.DOTALL)
"""Organization, `a` of an attempt or `k` of a claimed key, and its name."""
_KEYS_PER_STEP: Final = 1_000
_OUTCOMES_PER_STEP: Final = 16


class OldRequest(NamedTuple):
    """What the log does not know of a request of that version."""

    claim: RestoredClaim | None = None
    job: RestoredJob | None = None

    def completes(self, event: RequestFinished) -> RequestFinished:
        """Its outcome, with what outcomes say of keys and jobs today."""
        said: dict[str, str] = {}
        if event.fingerprint is None and self.claim is not None:
            said = {"idempotency_hash": self.claim.key_hash, "fingerprint": self.claim.fingerprint}
        if event.job is None and self.job is not None:
            said["job"] = self.job.info
        return msgspec.structs.replace(event, **said)


OldRequests = Mapping[tuple[str, str], OldRequest]
"""By organization and request."""


def is_of_old_layout(key: bytes) -> bool:
    """Whether a version before this one wrote the key. Pure."""
    return _OLD.fullmatch(key) is not None


@dataclass(frozen=True, slots=True)
class OldLayout:
    """The keys of that version; most stores have none."""

    store: Store
    ledger: LedgerClient

    async def exists(self) -> bool:
        """Whether that version used the store, and its keys were not removed since."""
        return bool(await self.store.call("EXISTS", META))

    async def outcomes(self, shard: int) -> AsyncIterator[tuple[bytes, ...]]:
        """Outcomes of the shard that were not booked: nobody else may have them."""
        members = await self.store.call("ZRANGE", FINISHED, "0", "-1")
        owned = [
            org_and_req for each in members if self._is_of(shard, org_and_req := _member(each))
        ]
        for at in range(0, len(owned), _OUTCOMES_PER_STEP):
            piece = owned[at : at + _OUTCOMES_PER_STEP]
            found = await self._each(
                ("HGET", f"{{{org}}}:a:{req}", "outcome") for org, req in piece
            )
            yield tuple(outcome for outcome in found if outcome)

    async def requests(self, shard: int) -> OldRequests:
        """Keys and jobs of the shard. What was cancelled before it ran is copied to where it is looked for."""
        found: dict[tuple[str, str], OldRequest] = {}
        async for page in self._pages():
            named = [
                (org, name, kind, key)
                for key in page
                if (parts := _REQUEST.fullmatch(key.decode(errors="replace"))) is not None
                for org, kind, name in (parts.groups(),)
                if self._is_of(shard, (org, name))
            ]
            await asyncio.gather(
                *(
                    self._take_claim(found, org, name, key)
                    if kind == "k"
                    else self._take_attempt(found, org, name, key)
                    for org, name, kind, key in named
                )
            )
        return found

    async def forget(self) -> int:
        """Remove the keys, `meta` at last, so that whoever is killed meanwhile begins again; how many."""
        if not await self.exists():
            return 0
        gone = 0
        async for page in self._pages():
            old = [key for key in page if is_of_old_layout(key) and key != META.encode()]
            await self._each(("UNLINK", key) for key in old)
            gone += len(old)
        await self.store.call("UNLINK", META)
        return gone + 1

    async def _pages(self) -> AsyncIterator[Sequence[bytes]]:
        cursor = b"0"
        while True:
            cursor, page = await self.store.call("SCAN", cursor, "COUNT", str(_KEYS_PER_STEP))
            yield page
            if cursor == b"0":
                return

    def _is_of(self, shard: int, org_and_name: tuple[str, str]) -> bool:
        return self.ledger.shard_of(org_and_name[0]) == shard

    async def _take_claim(
        self, found: dict[tuple[str, str], OldRequest], org: str, key_hash: str, key: bytes
    ) -> None:
        fields = ("request_id", "fingerprint", "produce_by_ms", "deadline_ms")
        stored, until_ms = await self._each((("HMGET", key, *fields), ("PEXPIRETIME", key)))
        req, fingerprint, produce_by_ms, deadline_ms = map(_text, stored)
        if not deadline_ms:
            return  # It has gone meanwhile.
        claim = RestoredClaim(
            org=org,
            key_hash=key_hash,
            req=req,
            fingerprint=fingerprint,
            produce_by_ms=int(produce_by_ms),
            deadline_ms=int(deadline_ms),
            until_ms=until_ms,
        )
        found[org, req] = found.get((org, req), OldRequest())._replace(claim=claim)

    async def _take_attempt(
        self, found: dict[tuple[str, str], OldRequest], org: str, req: str, key: bytes
    ) -> None:
        stored = await self.store.call("HMGET", key, "state", "booked", "inc", "job", "ends")
        state, booked, cancelled_by, info, ends = map(_text, stored)
        if not booked and (state == "CANCELLED" or (not state and cancelled_by)):
            await self.store.call("COPY", key, keys.attempt(self.ledger.shard_of(org), org, req))
        if not info:
            return
        until_ms, created_ms = await self._each(
            (("PEXPIRETIME", key), ("ZSCORE", f"{{{org}}}:jobs", req))
        )
        if created_ms is None:
            return  # Its time in the list is over.
        job = RestoredJob(
            org=org,
            req=req,
            info=info,
            created_ms=int(created_ms),
            until_ms=until_ms,
            ends=ends or None,
        )
        found[org, req] = found.get((org, req), OldRequest())._replace(job=job)

    async def _each(self, commands: Iterable[Sequence[str | bytes]]) -> list[Any]:
        return await asyncio.gather(*(self.store.call(*command) for command in commands))


def _member(member: bytes) -> tuple[str, str]:
    org, _, req = member.decode(errors="replace").rpartition("|")
    return org, req


def _text(value: bytes | None) -> str:
    return "" if value is None else value.decode(errors="replace")
