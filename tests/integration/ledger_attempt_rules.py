"""Calls on one request, in any order: repeated, late, and with old fences."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import rule

from schemas.ledger import answers, calls
from schemas.ledger.documents import (
    Admit,
    Balance,
    BroughtKey,
    Cancel,
    Decline,
    Finish,
    Lease,
    NextAttempt,
    Rate,
    RateUse,
    Readmission,
    Reap,
    Reaped,
    ReapedRequest,
    Renew,
    Start,
)
from schemas.ledger.states import OPEN
from tests.integration.ledger_machine import (
    balance_lists,
    choice,
    lease_ms,
    owner,
    rate_lists,
    spent,
)
from tests.integration.ledger_restore_rules import RestoreRules
from tests.support.one_shard import SHARD


class AttemptRules(RestoreRules):
    """From admission to its end."""

    @rule(
        choice=choice,
        rates=rate_lists(),
        balances=balance_lists(),
        is_leased=st.booleans(),
        defer=st.booleans(),
        waits_for=st.sampled_from(((), (), ("lease",), ("r:rps", "lease"))),
        decline=st.sampled_from((None, None, None, Decline(why="overloaded"), Decline(why="late"))),
        incarnation_ms=st.integers(0, 3),
        key=st.sampled_from((None, None, None, "k1", "k2")),
        job=st.sampled_from((None, None, "ü{}")),
        deadline_in_ms=st.sampled_from((-1, 100, 10_000, 60_000, 60_000, 60_000)),
    )
    def admit(
        self,
        choice: int,
        rates: tuple[Rate, ...],
        balances: tuple[Balance, ...],
        is_leased: bool,
        defer: bool,
        waits_for: tuple[str, ...],
        decline: Decline | None,
        incarnation_ms: int,
        key: str | None,
        job: str | None,
        deadline_in_ms: int,
    ) -> None:
        org, req = self.pick_new(choice)
        doc = Admit(
            org=org,
            req=req,
            deadline_ms=self.deadline_ms(org, req, deadline_in_ms),
            accepted_ms=self.now_us // 1000,
            rates=rates,
            leases=(Lease(key="c:key", id="lease", limit=2),) if is_leased else (),
            balances=self.timely(balances),
            defer=defer,
            waits_for=waits_for,
            decline=decline,
            incarnation_ms=incarnation_ms,
            terms='{"ü": "\\\\"}',
            info="ü\t|{}",
            key=None if key is None else BroughtKey(key_hash=key, fingerprint="f1"),
            job=job,
            now_us=self.now_us,
        )
        assert self.call(calls.admit(SHARD, doc)) == self.model.admit(doc, self.now_us)

    @rule(
        choice=choice,
        owner=owner,
        lease_ms=lease_ms,
        second=st.none() | balance_lists(),
        again=st.none() | balance_lists(),
        deadline_in_ms=st.sampled_from((0, 30_000)),
        fresh=st.sampled_from((False, False, True)),
        asked=st.booleans(),
    )
    def start(
        self,
        choice: int,
        owner: str,
        lease_ms: int,
        second: tuple[Balance, ...] | None,
        again: tuple[Balance, ...] | None,
        deadline_in_ms: int,
        fresh: bool,
        asked: bool,
    ) -> None:
        org, req = self.pick(choice, *OPEN)
        readmit = None
        if again is not None:
            readmit = Readmission(
                balances=self.timely(again),
                leases=(Lease(key="c:key"),),
                deadline_ms=self.deadline_ms(org, req, deadline_in_ms),
                accepted_ms=self.now_us // 1000,
                info="again",
            )
        doc = Start(
            org=org,
            req=req,
            owner=owner,
            lease_ms=lease_ms,
            second_attempt=None if second is None else self.timely(second),
            readmit=readmit,
            fresh=fresh,
            asked=asked,
            now_us=self.now_us,
        )
        self.compare_start(doc)

    @rule(choice=choice, balances=balance_lists(), lease_ms=lease_ms, streamed=st.booleans())
    def begin(
        self, choice: int, balances: tuple[Balance, ...], lease_ms: int, streamed: bool
    ) -> None:
        """Admits, starts and renews one request, so that deep states are reached often."""
        org, req = self.pick_new(choice)
        now_ms = self.now_us // 1000
        admit = Admit(
            org=org,
            req=req,
            deadline_ms=self.deadline_ms(org, req, 60_000),
            accepted_ms=now_ms,
            balances=self.timely(balances),
            now_us=self.now_us,
        )
        assert self.call(calls.admit(SHARD, admit)) == self.model.admit(admit, self.now_us)
        self.start_now(org, req, "d1", None, lease_ms)
        renew = Renew(
            org=org,
            req=req,
            fence=self.fence(org, req, 0),
            lease_ms=lease_ms,
            streamed=streamed,
            now_us=self.now_us,
        )
        assert self.call(calls.renew(SHARD, renew)) == self.model.renew(renew, self.now_us)

    @rule(choice=choice, second=st.none() | balance_lists())
    def take_over(self, choice: int, second: tuple[Balance, ...] | None) -> None:
        """Somebody else starts a running request at the instant its lease ends."""
        org, req = self.pick(choice, "RUNNING")
        attempt = self.model.attempts.get((org, req))
        if attempt and attempt.lease_until_ms < self.now_us // 1000 + 15_000:
            self.now_us = max(self.now_us, attempt.lease_until_ms * 1000)
        self.start_now(org, req, "d2", second, 10_000)

    def start_now(
        self,
        org: str,
        req: str,
        owner: str,
        second: tuple[Balance, ...] | None,
        lease_ms: int,
    ) -> None:
        doc = Start(
            org=org,
            req=req,
            owner=owner,
            lease_ms=lease_ms,
            second_attempt=None if second is None else self.timely(second),
            now_us=self.now_us,
        )
        self.compare_start(doc)

    def compare_start(self, doc: Start) -> None:
        answer = self.call(calls.start(SHARD, doc))
        assert answer == self.model.start(doc, self.now_us)
        if isinstance(answer, answers.Fence):
            self.ran.add((doc.org, doc.req))

    @rule(
        choice=choice,
        age=st.sampled_from((0, 0, 0, 1, -1)),
        may_have_spent=st.booleans(),
        second=balance_lists(),
        estimate=st.dictionaries(st.sampled_from(("nano_usd", "tokens")), spent),
        times=st.integers(1, 2),
    )
    def next_attempt(
        self,
        choice: int,
        age: int,
        may_have_spent: bool,
        second: tuple[Balance, ...],
        estimate: dict[Any, int],
        times: int,
    ) -> None:
        org, req = self.pick(choice, "RUNNING")
        doc = NextAttempt(
            org=org,
            req=req,
            fence=self.fence(org, req, age),
            may_have_spent=may_have_spent,
            second=self.timely(second),
            estimate=estimate,
            now_us=self.now_us,
        )
        for _ in range(times):
            assert self.call(calls.next_attempt(SHARD, doc)) == self.model.next_attempt(
                doc, self.now_us
            )

    @rule(
        choice=choice,
        age=st.sampled_from((0, 0, 1)),
        lease_ms=lease_ms,
        streamed=st.sampled_from((False, False, True)),
    )
    def renew(self, choice: int, age: int, lease_ms: int, streamed: bool) -> None:
        org, req = self.pick(choice, "RUNNING")
        doc = Renew(
            org=org,
            req=req,
            fence=self.fence(org, req, age),
            lease_ms=lease_ms,
            streamed=streamed,
            now_us=self.now_us,
        )
        assert self.call(calls.renew(SHARD, doc)) == self.model.renew(doc, self.now_us)

    @rule(
        choice=choice,
        age=st.sampled_from((0, 0, 1)),
        actual=st.dictionaries(
            st.sampled_from(("nano_usd", "tokens", "requests")),
            st.none() | spent,
        ),
        units=st.sampled_from((0, 1, 32, 500)),
        outcome=st.binary(max_size=20),
        ends=st.sampled_from((None, "[200]")),
    )
    def finish(
        self,
        choice: int,
        age: int,
        actual: dict[Any, int | None],
        units: int,
        outcome: bytes,
        ends: str | None,
    ) -> None:
        org, req = self.pick(choice, "RUNNING")
        doc = Finish(
            org=org,
            req=req,
            fence=self.fence(org, req, age),
            actual=actual,
            actual_rates=(RateUse(key="r:tpm", units=units),),
            ends=ends,
            now_us=self.now_us,
        )
        assert self.call(calls.finish(SHARD, doc, outcome)) == self.model.finish(
            doc, outcome, self.now_us
        )

    @rule(choice=choice, is_new=st.booleans(), incarnation_ms=st.none() | st.integers(0, 3))
    def cancel(self, choice: int, is_new: bool, incarnation_ms: int | None) -> None:
        org, req = self.pick_new(choice) if is_new else self.pick(choice, *OPEN)
        doc = Cancel(
            org=org,
            req=req,
            deadline_ms=self.deadline_ms(org, req, 1_000),
            incarnation_ms=incarnation_ms,
            now_us=self.now_us,
        )
        assert self.call(calls.cancel(SHARD, doc)) == self.model.cancel(doc, self.now_us)

    @rule(limit=st.integers(1, 4), is_confirmed=st.booleans())
    def reap(self, limit: int, is_confirmed: bool) -> None:
        doc = Reap(limit=limit, now_us=self.now_us)
        listed = self.call(calls.reap(SHARD, doc))
        assert listed == self.model.reap(doc, self.now_us)
        if is_confirmed:
            ended = tuple(ReapedRequest(org=entry.org, req=entry.req) for entry in listed.entries)
            confirmation = Reaped(entries=ended)
            assert self.call(calls.reaped(SHARD, confirmation)) == self.model.reaped(confirmation)
