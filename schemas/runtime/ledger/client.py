"""The ledger as typed calls. Calls made concurrently share round trips.

Expected verdicts are return values. LedgerUnavailable (and LedgerNotReady, one kind of it) is
transient: every call may be repeated. It fails closed: no answer is never an admission.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from schemas.failures import Failure
from schemas.ledger import answers, calls, documents, shard_documents, table_calls
from schemas.ledger.calls import Call
from schemas.ledger.errors import LedgerFault, LedgerNotReady, LedgerUnavailable
from schemas.ledger.limit_readings import LimitReadings
from schemas.ledger.shards import Shards
from schemas.ledger.signatures import SignatureUse
from schemas.ledger.usage_cells import UsageCells
from schemas.runtime.ledger import limits_script, usage_script
from schemas.runtime.ledger.functions import load_functions
from schemas.runtime.ledger.meetings import Meetings
from schemas.runtime.ledger.script import library
from schemas.runtime.ledger.signature_script import command_of, use_in
from schemas.runtime.ledger.store_errors import error_of
from schemas.runtime.process.tracing import Tracer
from schemas.runtime.valkey.opening import open_store
from schemas.runtime.valkey.spans import calling
from schemas.runtime.valkey.store import NodeView, Store, StoreError, StoreUnavailable
from schemas.times import FULL, LedgerTimes

A = TypeVar("A")

Epochs = Callable[[], Mapping[int, int]]


def ledger_store(
    url: str, times: LedgerTimes = FULL.ledger, meetings: Meetings | None = None
) -> Store:
    """A connection to a ledger that finds its functions loaded, and its shards met.

    Both on every new connection: functions vanish with the data of a store, and another process may
    answer there now.
    """
    source, met = library(times), meetings or Meetings()

    async def introduce(node: NodeView) -> None:
        await load_functions(node.send, source)
        await met.greet(node)

    return open_store(url, on_connect=introduce)


class LedgerClient:
    """The ledger behind a connection of ``ledger_store``; it finds the shard of each organization.

    How many shards there are, the broker says. Until that is known every call fails as
    ``LedgerUnavailable``. ``meetings`` are those of the connection; without them a store is believed
    whatever became of it. ``epochs`` are those that the log announced, by shard: a store that is behind them
    decides nothing, though nobody ever cut the connection to it.
    """

    def __init__(
        self,
        store: Store,
        known: Shards | None = None,
        meetings: Meetings | None = None,
        epochs: Epochs = dict,
        tracer: Tracer | None = None,
    ) -> None:
        self._store = store
        self._tracer = tracer
        self._meetings = meetings
        self._epochs = epochs
        self.known = known

    @property
    def shards(self) -> Shards:
        """All shards; raises ``LedgerUnavailable`` while nobody has said how many there are."""
        if self.known is None:
            raise LedgerUnavailable("how many shards the ledger has is not known yet")
        return self.known

    async def learn(self, shards: Shards) -> None:
        """How many shards there are, as the broker said; they are met before anything is asked of them.

        Raises ``LedgerFault`` for a store that refuses that.
        """
        if self._meetings is not None:
            self._meetings.shards = shards
            for met in await self.run_each([calls.meet(shard) for shard in shards]):
                # Whoever does not answer is met on its next connection.
                if isinstance(met, LedgerFault):
                    raise met
        self.known = shards

    def shard_of(self, org: str) -> int:
        """The shard of an organization; raises as ``shards`` does."""
        return self.shards.of(org)

    def epoch_of(self, org: str) -> int:
        """The epoch that was announced of an organization's shard, 0 if none was; raises as ``shards`` does."""
        return self._epochs().get(self.shards.of(org), 0)

    def _of(self, document: documents.Document) -> int:
        return self.shards.of(document.org)

    async def run_each(self, group: Sequence[Call[A]]) -> list[A | Failure]:
        """For each call of a group that travels together its answer, or why it has none.

        They are not one transaction: a call that fails leaves its neighbours alone.
        """
        answers = [self._sent(call) for call in group]
        try:
            # One after the other: those of a batch come together, and each that is there costs no turn.
            return [
                await _settled(call, answer) for call, answer in zip(group, answers, strict=True)
            ]
        except BaseException:
            for answer in answers:
                answer.cancel()
            raise

    def _sent(self, call: Call[Any]) -> asyncio.Future[Any]:
        answer = self._store.call(*call.command, self._epochs().get(call.shard, 0))
        if self._tracer is not None and (request_id := call.request_id) is not None:
            calling(self._tracer, request_id, str(call.command[1]), answer)
        return answer

    async def run(self, call: Call[A]) -> A:
        """The answer of one call that somebody else put together."""
        return await self._one(call)

    async def _one(self, call: Call[A]) -> A:
        try:
            return call.decode(await self._sent(call))
        except (StoreUnavailable, StoreError) as error:
            raise error_of(error) from error

    async def init(self, shard: int, epoch: int = 1) -> answers.Meta:
        """Make a shard usable that never was; never call it to mend one that lost data."""
        return await self._one(calls.init(shard, shard_documents.Init(epoch=epoch)))

    async def meet(self, shard: int) -> answers.Meta:
        """Which life of a shard this is, and whether it is open; closes one whose store is another by now."""
        return await self._one(calls.meet(shard))

    async def identify(self, shard: int, document: shard_documents.Identify) -> answers.Meta:
        """Close a shard that is the fold of another log than the one here."""
        return await self._one(calls.identify(shard, document))

    async def admit(self, document: documents.Admit) -> answers.AdmitAnswer:
        """Decide all limits of a request at once and take its hold."""
        return await self._one(calls.admit(self._of(document), document))

    async def admit_many(
        self, batch: Sequence[documents.Admit]
    ) -> list[answers.AdmitAnswer | Failure]:
        """`admit` for each, in one round trip; a failure is that of its own call."""
        return await self.run_each(
            [calls.admit(self._of(document), document) for document in batch]
        )

    async def start(self, document: documents.Start) -> answers.StartAnswer:
        """Claim a request."""
        return await self._one(calls.start(self._of(document), document))

    async def next_attempt(self, document: documents.NextAttempt) -> answers.NextAttemptAnswer:
        """Fail over to attempt 2 under the next fence."""
        return await self._one(calls.next_attempt(self._of(document), document))

    async def renew(self, document: documents.Renew) -> answers.RenewAnswer:
        """Extend the lease of a running attempt."""
        return await self._one(calls.renew(self._of(document), document))

    async def renew_many(
        self, batch: Sequence[documents.Renew]
    ) -> list[answers.RenewAnswer | Failure]:
        """`renew` for each, in one round trip; a failure is that of its own call."""
        return await self.run_each(
            [calls.renew(self._of(document), document) for document in batch]
        )

    async def attach(self, document: documents.Attach) -> answers.AttachAnswer:
        """Say who runs a request that the ledger does not know to run."""
        return await self._one(calls.attach(self._of(document), document))

    async def attach_many(
        self, batch: Sequence[documents.Attach]
    ) -> list[answers.AttachAnswer | Failure]:
        """For each owner that was told GONE, whether the request is his again; in one round trip."""
        return await self.run_each(
            [calls.attach(self._of(document), document) for document in batch]
        )

    async def finish(self, document: documents.Finish, outcome: bytes) -> answers.FinishAnswer:
        """Book the real cost, return the hold, keep the encoded outcome."""
        return await self._one(calls.finish(self._of(document), document, outcome))

    async def cancel(self, document: documents.Cancel) -> answers.CancelAnswer:
        """Leave a tombstone, or flag a running attempt."""
        return await self._one(calls.cancel(self._of(document), document))

    async def claim(self, document: documents.Claim) -> answers.ClaimAnswer:
        """Claim an idempotency key for a request."""
        return await self._one(calls.claim(self._of(document), document))

    async def release(self, document: documents.Release) -> answers.ReleaseAnswer:
        """Give an idempotency key back."""
        return await self._one(calls.release(self._of(document), document))

    async def job(self, document: documents.Job) -> answers.JobAnswer:
        """Remember that a request is a job."""
        return await self._one(calls.job(self._of(document), document))

    async def jobs(self, document: documents.ListJobs) -> answers.Jobs:
        """Read a page of jobs."""
        return await self._one(calls.jobs(self._of(document), document))

    async def look(self, document: documents.Look) -> answers.Look:
        """Read what is known of a request."""
        return await self._one(calls.look(self._of(document), document))

    async def look_many(self, batch: Sequence[documents.Look]) -> list[answers.Look | Failure]:
        """`look` for each, in one round trip; a failure is that of its own call."""
        return await self.run_each([calls.look(self._of(document), document) for document in batch])

    async def use_signature(
        self, org: str, signature: str, signed_at_ms: int, kept_ms: int
    ) -> SignatureUse:
        """Use the signature of a request, once across all processes."""
        shard = self.shards.of(org)
        epoch = self._epochs().get(shard, 0)
        command = command_of(shard, org, signature, signed_at_ms, kept_ms, epoch)
        try:
            return use_in(await self._store.call(*command))
        except (StoreUnavailable, StoreError) as error:
            raise error_of(error) from error

    async def limits(
        self,
        org: str,
        rates: Sequence[documents.Rate],
        leases: Sequence[documents.Lease],
        balances: Sequence[documents.Balance],
    ) -> LimitReadings:
        """Read what is used of limits, in one round trip and without changing them."""
        shard = self.shards.of(org)
        epoch = self._epochs().get(shard, 0)
        command = limits_script.command_of(shard, org, rates, leases, balances, epoch)
        try:
            reply = await self._store.call(*command)
            return limits_script.readings_in(reply, len(rates), len(leases))
        except (StoreUnavailable, StoreError) as error:
            raise error_of(error) from error

    async def usage(self, org: str, hour: str, cursor: int, count: int) -> UsageCells:
        """Read about so many cells of a usage hour, from a cursor on that an earlier reading gave; 0 begins."""
        shard = self.shards.of(org)
        epoch = self._epochs().get(shard, 0)
        command = usage_script.command_of(shard, org, hour, epoch, cursor, count)
        try:
            return usage_script.cells_in(await self._store.call(*command))
        except (StoreUnavailable, StoreError) as error:
            raise error_of(error) from error

    async def reap(self, shard: int, document: documents.Reap) -> answers.ReapedAttempts:
        """End what nobody ends in a shard; listed again every 30 s until confirmed."""
        return await self._one(calls.reap(shard, document))

    async def reaped(self, shard: int, document: documents.Reaped) -> answers.Ok:
        """Confirm that the outcomes of a shard's reaped attempts are in Kafka."""
        return await self._one(calls.reaped(shard, document))

    async def book(self, document: documents.Book) -> answers.Booked:
        """Add outcomes and corrections to the books of their organization."""
        return await self._one(calls.book(self._of(document), document))

    async def unbooked(self, shard: int, document: documents.ListUnbooked) -> answers.Unbooked:
        """Read what is finished and not booked in a shard."""
        return await self._one(calls.unbooked(shard, document))

    async def snapshot(self, document: documents.TakeSnapshot) -> answers.Snapshot:
        """Read tables of one organization at one instant."""
        return await self._one(calls.snapshot(self._of(document), document))

    async def changed(self, shard: int, document: table_calls.Page) -> table_calls.Changed:
        """Read some of the tables that have to be written to the log."""
        return await self._one(table_calls.changed(shard, document))

    async def written(self, shard: int, document: table_calls.Written) -> answers.Ok:
        """Note what is in the log now."""
        return await self._one(table_calls.written(shard, document))

    async def sweep(self, shard: int, document: table_calls.Page) -> table_calls.Swept:
        """Note some tables to be written anew."""
        return await self._one(table_calls.sweep(shard, document))

    async def outlived(
        self, shard: int, document: table_calls.ListOutlived
    ) -> table_calls.Outlived:
        """Read what the log is to forget."""
        return await self._one(table_calls.outlived(shard, document))

    async def forgotten(self, shard: int, document: table_calls.Forgotten) -> answers.Ok:
        """Note what the log has forgotten."""
        return await self._one(table_calls.forgotten(shard, document))


def answered(found: Sequence[A | Failure]) -> list[A]:
    """The answers of a group; raises the first failure among them."""
    for answer in found:
        if isinstance(answer, Failure):
            raise answer
    return [answer for answer in found if not isinstance(answer, Failure)]


async def _settled(call: Call[A], answer: asyncio.Future[Any]) -> A | Failure:
    """The answer in a reply, or the ledger's error for what came instead."""
    try:
        return call.decode(await answer)
    except (StoreUnavailable, StoreError) as error:
        failure = error_of(error)
        failure.__cause__ = error
        return failure
    except (LedgerNotReady, LedgerFault) as failure:
        return failure
