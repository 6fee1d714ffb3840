"""What drives the ledger in a store and its model side by side: requests, clocks, and what always holds."""

from __future__ import annotations

from collections import Counter
from typing import TypeVar

import msgspec
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from schemas.ledger import calls
from schemas.ledger.calls import Call
from schemas.ledger.documents import Balance, Cancel, Rate
from schemas.ledger.errors import LedgerNotReady
from schemas.ledger.model.ledger import LedgerModel
from schemas.ledger.states import OPEN
from tests.integration.ledger_state import FLOWS, Store, modelled_state, stored_state
from tests.support.one_shard import META_KEY, SHARD

A = TypeVar("A")

# Far ahead of real time, so that no expiry strikes while a test runs.
BASE_MS = 4_000_000_000_000
PERIOD_MS = 60_000
EPOCH = 7
BY_PERIOD = "b:org"
"""A balance of the period that runs; its start says how many periods off its caller is."""
SCOPES = [("acme", f"r{n}") for n in range(8)] + [("a|b", f"r{n}") for n in range(2)]
LIMITS = {"b:org": 1_000, "b:key": 60, "b:model": None}
"""By the scope of a balance; that of the organization has a period, and so many keys."""
BURSTS = {"r:rps": 3, "r:tpm": 400}

# Which request a call is about: mostly one in the state that the call is meant for.
choice = st.integers(0, 15)
owner = st.sampled_from(("d1", "d2"))
lease_ms = st.sampled_from((100, 10_000))
amount = st.sampled_from((0, 10, 20, 30))
spent = st.sampled_from((0, 10, 11, 29, 250, 501))


@st.composite
def balance_lists(draw: st.DrawFn) -> tuple[Balance, ...]:
    """Up to three balances, of different units, limits and periods."""
    usd = Balance(
        key=BY_PERIOD,
        id="month",
        unit="nano_usd",
        amount=draw(st.sampled_from((0, 100, 250, 500, 501))),
        limit=LIMITS["b:org"],
        start_ms=draw(st.sampled_from((0, 0, 0, 0, -1, 1))),
    )
    tokens = Balance(
        key="b:key:total",
        id="total",
        unit="tokens",
        amount=draw(amount),
        limit=LIMITS["b:key"],
        start_ms=0,
    )
    tracked = Balance(
        key="b:model:month", unit="requests", amount=1, start_ms=0, end_ms=BASE_MS + 10**9
    )
    return draw(st.sampled_from(((usd, tokens, tracked), (tokens, tracked), (usd,), ())))


@st.composite
def rate_lists(draw: st.DrawFn) -> tuple[Rate, ...]:
    """None, one or both of two buckets, sometimes with a cost above the capacity."""
    costs = {"r:rps": draw(st.integers(1, 2)), "r:tpm": draw(st.sampled_from((0, 1, 33, 100, 401)))}
    names = draw(st.sampled_from(((), (), ("r:rps",), ("r:tpm",), ("r:rps", "r:tpm"))))
    return tuple(
        Rate(key=n, id=n, cost=costs[n], burst=BURSTS[n], rate_milli_per_s=FLOWS[n]) for n in names
    )


class LedgerMachine(RuleBasedStateMachine):
    """One example: the same calls on both ledgers, each at a time that the example chooses."""

    store: Store

    def __init__(self) -> None:
        super().__init__()
        self.store.flushdb()
        self.store.hset(META_KEY, mapping={"epoch": EPOCH, "ready": 1, "test_clock": 1})
        self.model = LedgerModel(EPOCH)
        self.now_us = BASE_MS * 1000
        self.log_ms = BASE_MS
        self.offset = 0
        self.deadlines: dict[tuple[str, str], int] = {}
        self.ran: set[tuple[str, str]] = set()
        self.unasked: Counter[tuple[str, str]] = Counter()
        """By balance, what was held although it was not asked: of owners that nobody knew of."""

    def call(self, call: Call[A], announced: int = EPOCH) -> A:
        return call.decode(self.store.execute_command(*call.command, announced))

    def pick(self, choice: int, *states: str) -> tuple[str, str]:
        """A request in one of the states if there is one, but any request now and then."""
        fitting = [
            scope
            for scope in SCOPES
            if (attempt := self.model.attempts.get(scope)) and attempt.state in states
        ]
        among = fitting if fitting and choice < 13 else SCOPES
        return among[choice % len(among)]

    def pick_new(self, choice: int) -> tuple[str, str]:
        """A request that was never seen, or any when all were, and now and then."""
        unseen = [scope for scope in SCOPES if scope not in self.model.attempts]
        among = unseen if unseen and choice < 13 else SCOPES
        return among[choice % len(among)]

    def fence(self, org: str, req: str, age: int) -> int:
        """The current fence of a request, or an older or later one."""
        attempt = self.model.attempts.get((org, req))
        return (attempt.fence if attempt else 1) - age

    def deadline_ms(self, org: str, req: str, in_ms: int) -> int:
        """The deadline of a request: its first copy says it."""
        return self.deadlines.setdefault((org, req), self.now_us // 1000 + in_ms)

    def timely(self, balances: tuple[Balance, ...]) -> tuple[Balance, ...]:
        """The balances in the period that their caller takes for the current one."""
        return tuple(self._timely(each) if each.key == BY_PERIOD else each for each in balances)

    def _timely(self, balance: Balance) -> Balance:
        period = (self.now_us // 1000 - BASE_MS) // PERIOD_MS + balance.start_ms
        start_ms = BASE_MS + period * PERIOD_MS
        return msgspec.structs.replace(
            balance, key=f"{BY_PERIOD}:{period}", start_ms=start_ms, end_ms=start_ms + PERIOD_MS
        )

    @rule(
        ms=st.sampled_from((0, 0, 1, 1, 100, 333, 9_900, 31_000, 1_000_000, 31_000_000)),
        us=st.integers(0, 999),
    )
    def time_passes(self, ms: int, us: int) -> None:
        """For the ledger and for the log; if nobody reaps meanwhile it is an outage."""
        self.now_us += ms * 1000 + us
        self.log_ms += ms

    @rule(seconds=st.sampled_from((2, 11, 600, 1_300)), is_back=st.booleans())
    def clock_moves(self, seconds: int, is_back: bool) -> None:
        """The store's clock was wrong, and is put right, or the other way round; the log's is not."""
        self.now_us += (-seconds if is_back else seconds) * 1_000_000

    @rule(choice=choice)
    def somebody_knows_a_later_epoch(self, choice: int) -> None:
        """Then another store has the shard: nothing is decided here, and nothing changes."""
        org, req = self.pick(choice, *OPEN)
        call = calls.cancel(SHARD, Cancel(org=org, req=req, deadline_ms=0, now_us=self.now_us))
        assert not self.model.life.is_open(EPOCH + 1)
        with pytest.raises(LedgerNotReady):
            self.call(call, EPOCH + 1)

    @invariant()
    def states_agree(self) -> None:
        """Every key of the store is what the model says, and there are no others."""
        assert stored_state(self.store, self.now_us) == modelled_state(self.model, self.now_us)

    @invariant()
    def nothing_is_overspent(self) -> None:
        """I2: settled + reserved never passes the limit but by counted late and over amounts."""
        for (org, key), balance in self.model.limits.balances.items():
            limit = LIMITS[key.rpartition(":")[0]]
            if limit is not None:
                spent = balance["settled"] + balance["reserved"] + balance["spare"]
                unasked = self.unasked[org, key]
                assert spent <= limit + balance["over"] + balance["late"] + unasked

    @invariant()
    def reserved_is_the_sum_of_open_holds(self) -> None:
        """I3: no hold is lost, none is kept."""
        for (org, key), balance in self.model.limits.balances.items():
            held = sum(
                hold.amount
                for (owner, _), attempt in self.model.attempts.items()
                for hold in attempt.holds
                if owner == org and hold.key == key and attempt.state in OPEN
            )
            assert balance["reserved"] == held

    @invariant()
    def spare_is_what_restored_requests_hold_once_more(self) -> None:
        """None outlives its request."""
        for (org, key), balance in self.model.limits.balances.items():
            held = sum(
                spare.amount
                for (owner, _), attempt in self.model.attempts.items()
                for spare in attempt.spare or ()
                if owner == org and spare.key == key
            )
            assert balance["spare"] == held
