"""A rebuild that finds requests open, and their owners that come back, in any order."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import rule
from msgspec.structs import replace

from schemas.ledger import answers, calls
from schemas.ledger.documents import (
    Attach,
    Balance,
    Charge,
    FirstAttempt,
    Lease,
    Readmission,
    Restore,
    RestoredRequest,
)
from tests.integration.ledger_machine import (
    EPOCH,
    LedgerMachine,
    balance_lists,
    choice,
    lease_ms,
    spent,
)
from tests.integration.ledger_state import FLOWS
from tests.support.one_shard import META_KEY, SHARD

EARLIER = (EPOCH - 1) * 2**32
"""Below all fences of the life before."""


class RestoreRules(LedgerMachine):
    """What an earlier life of the ledger admitted."""

    @rule(
        choice=choice,
        balances=balance_lists(),
        is_charged=st.booleans(),
        building=st.sampled_from(("7:b", "7:b", "6:a")),
        is_ready=st.booleans(),
        deadline_in_ms=st.sampled_from((-1, 10_000, 60_000, 60_000)),
    )
    def restore(
        self,
        choice: int,
        balances: tuple[Balance, ...],
        is_charged: bool,
        building: str,
        is_ready: bool,
        deadline_in_ms: int,
    ) -> None:
        """Only what fits twice, so that what is never overspent afterwards is seen."""
        org, req = self.pick_new(choice)
        self.store.hset(META_KEY, "building", "7:b")
        self.model.building = "7:b"
        if is_ready:
            self.model.ready_ms = self.now_us // 1000
            self.store.hset(META_KEY, "ready_ms", self.model.ready_ms)
        timely = self.timely(balances)
        twice = [replace(each, amount=2 * each.amount) for each in timely]
        if self.model.limits.balance_refusal(org, twice, {}):
            return
        charge = Charge(key="r:tpm", cost=33, rate_milli_per_s=FLOWS["r:tpm"])
        entry = RestoredRequest(
            org=org,
            req=req,
            deadline_ms=self.deadline_ms(org, req, deadline_in_ms),
            accepted_ms=self.now_us // 1000,
            balances=timely,
            leases=(Lease(key="c:key"),),
            rates=(charge,) if is_charged else (),
            incarnation_ms=choice % 3,
            terms="{}",
            info="restored",
        )
        doc = Restore(building=building, attempts=(entry, entry), now_us=self.now_us)
        assert self.call(calls.restore(SHARD, doc)) == self.model.restore(doc)

    @rule(
        choice=choice,
        is_new=st.sampled_from((False, False, True)),
        number=st.sampled_from((1, 2)),
        earlier=st.sampled_from((1, 2, 3)),
        is_known=st.booleans(),
        lease_ms=lease_ms,
        streamed=st.booleans(),
        verdict=st.sampled_from(("UNKNOWN", "FAILED", None)),
        actual=st.dictionaries(st.sampled_from(("nano_usd", "tokens")), st.none() | spent),
        other=balance_lists(),
    )
    def attach(
        self,
        choice: int,
        is_new: bool,
        number: int,
        earlier: int,
        is_known: bool,
        lease_ms: int,
        streamed: bool,
        verdict: Any,
        actual: dict[Any, int | None],
        other: tuple[Balance, ...],
    ) -> None:
        """An owner says what it runs; it holds what it held, if that is known."""
        org, req = self.pick_new(choice) if is_new else self.pick(choice, "RESTORED", "RUNNING")
        known = self.model.attempts.get((org, req))
        held = tuple(
            Balance(key=hold.key, unit=hold.unit, amount=hold.amount, start_ms=0)
            for hold in (known.holds if known else ())
        )
        fence = known.fence if known and is_known and known.fence else EARLIER + earlier
        doc = Attach(
            org=org,
            req=req,
            owner="d1",
            lease_ms=lease_ms,
            fence=fence,
            attempt=number,
            streamed=streamed,
            first=verdict and FirstAttempt(verdict=verdict, fence=EARLIER, actual=actual),
            readmit=Readmission(
                balances=held or self.timely(other),
                leases=(Lease(key="c:key"),),
                deadline_ms=self.deadline_ms(org, req, 30_000),
                accepted_ms=self.now_us // 1000,
                info="again",
            ),
            now_us=self.now_us,
        )
        was_spare = known.spare if known else None
        answer = self.call(calls.attach(SHARD, doc))
        assert answer == self.model.attach(doc, self.now_us)
        if isinstance(answer, answers.Ok | answers.Cancelled):
            self.ran.add((org, req))
            if not was_spare:
                for balance in doc.readmit.balances:
                    self.unasked[org, balance.key] += 2 * balance.amount
