"""Calls on keys, jobs and the books, beside those on requests."""

from __future__ import annotations

from hypothesis import strategies as st
from hypothesis.stateful import rule

from schemas.ledger import answers, calls
from schemas.ledger.documents import (
    Book,
    Booking,
    Claim,
    Job,
    KeptKey,
    ListJobs,
    ListUnbooked,
    Look,
    OutcomeRow,
    Release,
    UsageLine,
)
from tests.integration.ledger_attempt_rules import AttemptRules
from tests.integration.ledger_machine import BASE_MS, amount, choice
from tests.support.one_shard import SHARD


def _kept(org: str, number: int, step: int) -> tuple[KeptKey, ...]:
    """Every second is kept; some for ever, some longer than another of the same key."""
    if number % 2:
        return ()
    return (KeptKey(key=f"{org}|j:r{number}", until_ms=None if number else BASE_MS + step),)


class BookRules(AttemptRules):
    """What is remembered of requests."""

    @rule(
        choice=choice,
        key_hash=st.sampled_from(("k1", "k2")),
        fingerprint=st.sampled_from(("f1", "f1", "f2")),
        produce_in_ms=st.sampled_from((0, 1_000)),
        deadline_in_ms=st.sampled_from((-900_000, -899_900, 60_000)),
        keys_max=st.sampled_from((1, 2, 100)),
        joins=st.booleans(),
    )
    def claim(
        self,
        choice: int,
        key_hash: str,
        fingerprint: str,
        produce_in_ms: int,
        deadline_in_ms: int,
        keys_max: int,
        joins: bool,
    ) -> None:
        org, req = self.pick_new(choice)
        now_ms = self.now_us // 1000
        doc = Claim(
            org=org,
            req=req,
            key_hash=key_hash,
            fingerprint=fingerprint,
            produce_by_ms=now_ms + produce_in_ms,
            deadline_ms=self.deadline_ms(org, req, deadline_in_ms),
            limit=keys_max,
            joins=joins,
            now_us=self.now_us,
        )
        held = self.model.claims.held.get((org, key_hash))
        answer = self.call(calls.claim(SHARD, doc))
        assert answer == self.model.claim(doc, self.now_us)
        if (
            held
            and held.req != req
            and answer == answers.Claimed(req=req, deadline_ms=doc.deadline_ms)
        ):
            assert (org, held.req) not in self.ran, "the same key executes again"

    @rule(choice=choice, key_hash=st.sampled_from(("k1", "k2")), is_holder=st.booleans())
    def release(self, choice: int, key_hash: str, is_holder: bool) -> None:
        org, req = self.pick(choice)
        held = self.model.claims.held.get((org, key_hash))
        req = held.req if held and is_holder else req
        doc = Release(org=org, req=req, key_hash=key_hash)
        assert self.call(calls.release(SHARD, doc)) == self.model.claims.release(doc)

    @rule(
        choice=choice,
        is_new=st.booleans(),
        limit=st.integers(1, 3),
        age_ms=st.sampled_from((0, 0, 5)),
        jobs_max=st.sampled_from((2, 4, 100)),
    )
    def make_and_list_jobs(
        self, choice: int, is_new: bool, limit: int, age_ms: int, jobs_max: int
    ) -> None:
        """Adds one, lists the pages before and after it, and looks at it."""
        org, req = self.pick_new(choice) if is_new else self.pick(choice, "FINISHED", "BOOKED")
        created_ms = self.now_us // 1000 - age_ms
        job = Job(
            org=org,
            req=req,
            created_ms=created_ms,
            info="ü{}",
            limit=jobs_max,
            now_us=self.now_us,
        )
        assert self.call(calls.job(SHARD, job)) == self.model.jobs.add(job, self.now_us)
        for after in (None, req, "r99"):
            page = ListJobs(org=org, limit=limit, after=after)
            assert self.call(calls.jobs(SHARD, page)) == self.model.list_jobs(page)
        look = Look(org=org, req=req)
        assert self.call(calls.look(SHARD, look)) == self.model.look(look)

    @rule(
        org=st.sampled_from(("acme", "a|b")),
        rows=st.lists(
            st.tuples(
                choice,
                st.none() | st.sampled_from(("1", "2")),
                st.integers(1, 2),
                amount,
                st.sampled_from((False, False, True)),
            ),
            max_size=4,
        ),
        is_replayed=st.booleans(),
        is_first=st.sampled_from((None, None, None, True, False)),
        behind_ms=st.sampled_from((0, 0, 1_200_000)),
    )
    def book(
        self,
        org: str,
        rows: list[tuple[int, str | None, int, int, bool]],
        is_replayed: bool,
        is_first: bool | None,
        behind_ms: int,
    ) -> None:
        """Books at the end of the log or again; the log's clock is not that of the ledger."""
        offset = 0 if is_replayed else self.offset
        records = []
        for number, ref, step, spend, unsettled in rows:
            offset += step
            usage = UsageLine(
                hour="2026-11-21T12", row="k\tu\tm\tb", measures={"requests": 1, "cost": spend}
            )
            booking = Booking(key="b:key:total", unit="tokens", amount=spend)
            records.append(
                OutcomeRow(
                    offset=offset,
                    at_ms=self.log_ms - behind_ms,
                    req=f"r{number}",
                    ran=bool(spend),
                    unsettled=unsettled,
                    is_first=is_first,
                    ref=ref,
                    ends=None if spend else "[402]",
                    deadline_ms=self.deadlines.get((org, f"r{number}"), BASE_MS),
                    usage=(usage,),
                    bookings=(booking,),
                    kept=_kept(org, number, step),
                )
            )
        self.offset = max(offset, self.offset)
        doc = Book(org=org, partition=3, rows=tuple(records), now_us=self.now_us)
        assert self.call(calls.book(SHARD, doc)) == self.model.book(doc)
        listing = ListUnbooked(until_ms=self.now_us // 1000 - behind_ms, skip=len(rows) % 2)
        assert self.call(calls.unbooked(SHARD, listing)) == self.model.books.unbooked(listing)
