"""Time without the store, and clocks that move, end nobody's lease and keep nothing that never ran."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from schemas.ledger import answers
from schemas.ledger.documents import Admit, Balance, Cancel, Rate, Reap, Renew, Start
from schemas.ledger.model.ledger import LedgerModel

T0_MS = 100_000_000
LEASE_MS = 10_000
RATE = Rate(key="r:x", id="rps", cost=2, burst=3, rate_milli_per_s=1_000)
REQUESTS = Balance(key="b:n", id="n", unit="requests", amount=1, limit=10, start_ms=0)


@dataclass
class Ledger:
    """The model with a clock that can be moved, and requests in few words."""

    model: LedgerModel = field(default_factory=lambda: LedgerModel(epoch=1))
    now_ms: int = T0_MS

    def admit(self, req: str) -> answers.AdmitAnswer:
        document = Admit(
            org="acme",
            req=req,
            deadline_ms=T0_MS + 600_000,
            accepted_ms=T0_MS,
            rates=(RATE,),
            balances=(REQUESTS,),
        )
        return self.model.admit(document, self.now_ms * 1000)

    def start(self, req: str, owner: str = "d1") -> answers.StartAnswer:
        document = Start(
            org="acme", req=req, owner=owner, lease_ms=LEASE_MS, second_attempt=(REQUESTS,)
        )
        return self.model.start(document, self.now_ms * 1000)

    def reap(self, grace_ms: int = 0) -> list[str]:
        listed = self.model.reap(Reap(limit=9, grace_ms=grace_ms), self.now_ms * 1000)
        return [entry.verdict for entry in listed.entries]

    def reap_for(self, seconds: int) -> list[str]:
        """What a limiter finds that looks every second."""
        found: list[str] = []
        for _ in range(seconds):
            self.now_ms += 1_000
            found += self.reap()
        return found


@pytest.fixture
def ledger() -> Ledger:
    """A ledger that was looked at a moment ago, with one running request."""
    ledger = Ledger()
    ledger.reap()
    ledger.admit("r1")
    ledger.start("r1")
    return ledger


@pytest.mark.parametrize("gap_ms", [40_000, 3_600_000])
def test_no_lease_ends_while_the_store_was_away(ledger: Ledger, gap_ms: int) -> None:
    """Its owner has two leases to come back; without it, the attempt is over then."""
    ledger.now_ms += gap_ms
    assert ledger.reap() == []
    assert isinstance(ledger.start("r1", "d2"), answers.Busy)
    assert ledger.reap_for(19) == []
    assert ledger.reap_for(2) == ["UNKNOWN"]


def test_a_claim_that_comes_before_the_reaper_obeys_the_outage_too(ledger: Ledger) -> None:
    """Whoever is first after the outage."""
    ledger.now_ms += 40_000
    busy = ledger.start("r1", "d2")
    assert isinstance(busy, answers.Busy)
    assert 0 < busy.ms <= LEASE_MS


def test_without_any_reaper_a_lost_owner_is_succeeded_after_the_grace(ledger: Ledger) -> None:
    """The claims that wait are those who look."""
    ledger.now_ms += 40_000
    for _ in range(5):
        claimed = ledger.start("r1", "d2")
        if isinstance(claimed, answers.Busy):
            ledger.now_ms += claimed.ms
    assert isinstance(claimed, answers.Fence)


def test_an_owner_that_renews_in_the_grace_runs_on(ledger: Ledger) -> None:
    """Nothing of its attempt was given up."""
    ledger.now_ms += 40_000
    ledger.reap()
    fence = ledger.model.attempts["acme", "r1"].fence
    renew = Renew(org="acme", req="r1", fence=fence, lease_ms=LEASE_MS)
    assert ledger.model.renew(renew, ledger.now_ms * 1000) == answers.Ok()
    ledger.now_ms += 9_000
    assert ledger.reap() == []


@pytest.mark.parametrize("back_ms", [11_000, 600_000])
def test_a_clock_that_is_put_back_keeps_no_lost_owner_alive(ledger: Ledger, back_ms: int) -> None:
    """No lease ends later than two leases from now."""
    ledger.now_ms -= back_ms
    assert ledger.reap() == []
    assert ledger.reap_for(21) == ["UNKNOWN"]


def test_a_clock_that_is_put_back_empties_no_bucket_below_empty(ledger: Ledger) -> None:
    """It fills in its own time, not in that by which the clock was moved."""
    ledger.now_ms -= 600_000
    limited = ledger.admit("r2")
    assert isinstance(limited, answers.Limited)
    assert limited.retry_after_ms == 2_000


def test_a_request_that_never_ran_returns_its_rate_units() -> None:
    """Whether it was cancelled or expired."""
    ledger = Ledger()
    ledger.admit("r1")
    ledger.model.cancel(Cancel(org="acme", req="r1", deadline_ms=0), T0_MS * 1000)
    assert isinstance(ledger.admit("r2"), answers.Admitted)


def test_a_request_that_lost_two_owners_is_counted_once(ledger: Ledger) -> None:
    """With its first attempt; both are booked whole otherwise."""
    for expected in (answers.Fence, answers.Unknown):
        for _ in range(11):
            ledger.now_ms += 1_000
            ledger.reap(grace_ms=60_000)
        assert isinstance(ledger.start("r1", "d2"), expected)
    assert ledger.model.limits.balances["acme", "b:n"]["settled"] == 1
