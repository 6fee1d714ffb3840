"""A store that answers calls of the ledger with its model, behind the real client of the ledger.

What crosses is what crosses to a real store: encoded documents and encoded answers. Snapshots and the
listing of what is not booked are read from a real store only.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final, cast

import msgspec

from schemas.ledger import answers, documents, shard_documents
from schemas.ledger.model.ledger import LedgerModel
from schemas.runtime.ledger.client import LedgerClient
from schemas.runtime.process.clock import Clock
from schemas.runtime.valkey.store import Store, StoreError, StoreUnavailable
from tests.support.one_shard import ONE_SHARD

_Answer = Callable[[LedgerModel, Any, int, bytes], Any]

_FUNCTIONS: Final[dict[str, tuple[type[msgspec.Struct], _Answer]]] = {
    "tg1_admit": (documents.Admit, lambda m, doc, now_us, _: m.admit(doc, now_us)),
    "tg1_start": (documents.Start, lambda m, doc, now_us, _: m.start(doc, now_us)),
    "tg1_readmit": (documents.Start, lambda m, doc, now_us, _: m.start(doc, now_us)),
    "tg1_next_attempt": (
        documents.NextAttempt,
        lambda m, doc, now_us, _: m.next_attempt(doc, now_us),
    ),
    "tg1_renew": (documents.Renew, lambda m, doc, now_us, _: m.renew(doc, now_us)),
    "tg1_attach": (documents.Attach, lambda m, doc, now_us, _: m.attach(doc, now_us)),
    "tg1_restore": (documents.Restore, lambda m, doc, _, __: m.restore(doc)),
    "tg1_finish": (documents.Finish, lambda m, doc, now_us, end: m.finish(doc, end, now_us)),
    "tg1_cancel": (documents.Cancel, lambda m, doc, now_us, _: m.cancel(doc, now_us)),
    "tg1_claim": (documents.Claim, lambda m, doc, now_us, _: m.claim(doc, now_us)),
    "tg1_release": (documents.Release, lambda m, doc, _, __: m.claims.release(doc)),
    "tg1_job": (documents.Job, lambda m, doc, now_us, _: m.jobs.add(doc, now_us)),
    "tg1_jobs": (documents.ListJobs, lambda m, doc, _, __: m.list_jobs(doc)),
    "tg1_look": (documents.Look, lambda m, doc, _, __: m.look(doc)),
    "tg1_reap": (documents.Reap, lambda m, doc, now_us, _: m.reap(doc, now_us)),
    "tg1_reaped": (documents.Reaped, lambda m, doc, _, __: m.reaped(doc)),
    "tg1_book": (documents.Book, lambda m, doc, _, __: m.book(doc)),
}


@dataclass
class ModelStore:
    """Takes the place of the connection to a ledger; it can be away, and can forget everything."""

    clock: Clock = field(default_factory=Clock)
    model: LedgerModel = field(default_factory=lambda: LedgerModel(epoch=1))
    is_away: bool = False
    loses: set[str] = field(default_factory=set)
    """Functions whose next answer is lost on its way; they have had their effect."""
    run_id: str = "first"
    """Of the process that it stands for: another one has restored what the first had."""
    called: list[str] = field(default_factory=list)
    """Functions, in the order of their calls."""

    async def call(self, *command: Any) -> Any:
        await asyncio.sleep(0)
        if self.is_away:
            raise StoreUnavailable("away")
        _, function, count, *rest = command
        self.called.append(function)
        if function == "tg1_meet":
            return _reply(self.model.life.meet(self.run_id))
        if function == "tg1_identify":
            log = msgspec.json.decode(rest[int(count)], type=shard_documents.Identify)
            return _reply(self.model.life.identify(log))
        announced = rest[-1]
        if not self.model.life.is_open(announced):
            return _reply(answers.NotReady(behind=self.model.life.ready))
        if function not in _FUNCTIONS:
            raise StoreError(f"ERR {function} is not the model's")
        kind, run = _FUNCTIONS[function]
        encoded, *outcome = rest[int(count) : -1]
        document = msgspec.json.decode(encoded, type=kind)
        now_us = getattr(document, "now_us", None) or self.clock.now_ms() * 1_000
        answer = run(self.model, document, now_us, outcome[0] if outcome else b"")
        if function in self.loses:
            self.loses.remove(function)
            raise StoreUnavailable("the answer was lost")
        return _reply(answer)

    def wipe(self) -> None:
        """Forget everything, as a store that was rebuilt without some of its requests."""
        self.model = LedgerModel(epoch=1)

    def state_of(self, request_id: str, org: str = "acme") -> str:
        attempt = self.model.attempts.get((org, request_id))
        return attempt.state if attempt else ""

    def balance(self, key: str, org: str = "acme") -> tuple[int, int]:
        """What is settled and what is reserved."""
        found = self.model.limits.balances[org, key]
        return found.get("settled", 0), found.get("reserved", 0)

    def client(self) -> LedgerClient:
        """The real client on this store."""
        return LedgerClient(cast("Store", self), ONE_SHARD)


def _reply(answer: Any) -> bytes | list[bytes]:
    """As the functions reply: JSON, or JSON and the bytes of an outcome."""
    outcome = getattr(answer, "outcome", None)
    if outcome is None:
        return msgspec.json.encode(answer)
    return [msgspec.json.encode(msgspec.structs.replace(answer, outcome=b"")), outcome]
