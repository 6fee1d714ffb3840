"""Random requests against a provider that bills by itself: the gateway's holds and costs beside its invoices.

The gateway's half is its own code from configuration to booking: entity, price list, terms of admission, ledger
(the model), reader of usage, cost. The provider's half (``provider_bill``) shares nothing with it.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import msgspec

from dispatcher.amounts import as_asked, used
from dispatcher.operations.usage.reading import told
from limiter_worker.admitted_terms import decoded_terms
from limiter_worker.limits import AdmissionRequest, terms_of
from schemas.codec import decode_as, encode
from schemas.config_state import Snapshot, parse_entity
from schemas.entities import Budget, Limits, Model
from schemas.events import RequestAdmitted
from schemas.ledger import answers
from schemas.ledger.documents import Finish, Start
from schemas.ledger.model.ledger import LedgerModel
from schemas.money import nano_usd
from schemas.pricing.tiers import serving
from schemas.stated_limits import Defaults
from tests.support.events import accepted, as_read, configuration
from tests.support.priced_world import DAYS, Ask, random_ask, random_model, serve
from tests.support.provider_bill import in_force, invoice_nano_usd

_DEFAULT = Defaults(requests_per_s=1e6, burst=10**9, in_flight=10**6)
_PER_WORLD = 100
_BUDGETS = ("0.000001", "5", "500", "9000000", "9000000", "9000000")
_IN_FLIGHT = 8


@dataclass
class Sums:
    """What a run came to, in nano-USD and requests."""

    count: Counter[str] = field(default_factory=Counter)
    findings: list[str] = field(default_factory=list)
    """What must not be; none of it should stand here."""

    def expect(self, is_so: bool, what: str) -> None:
        """Note that something is not as it should be."""
        if not is_so:
            self.findings.append(what)


@dataclass
class _World:
    """One organization with one budget, and one model with its prices."""

    rng: random.Random
    sums: Sums
    model: dict[str, Any]
    budget: str
    config: Snapshot
    ledger: LedgerModel = field(default_factory=lambda: LedgerModel(epoch=1))
    running: list[tuple[Ask, AdmissionRequest, int]] = field(default_factory=list)
    invoices: int = 0
    held: int = 0

    def request(self, number: int) -> None:
        """Ask for one, and finish some of those that run."""
        day = DAYS[number % _PER_WORLD * len(DAYS) // _PER_WORLD]
        ask = random_ask(self.rng, day, in_force(self.model, day))
        request = accepted(
            request_id=f"r{number}",
            reach=ask.reach,
            input_tokens_bound=ask.input_bound,
            output_tokens_bound=ask.output_bound,
            accepted_at_ms=_ms(ask.day),
            deadline_ms=_ms(DAYS[-1]) * 2,
        )
        terms = terms_of(as_read(request), self.config, _DEFAULT, _ms(ask.day), "")
        if not isinstance(terms, AdmissionRequest):
            self.sums.count["unpriced"] += 1
            return
        answer = self.ledger.admit(terms.admit, _ms(ask.day) * 1_000)
        if not isinstance(answer, answers.Admitted):
            self.sums.count[f"refused: {type(answer).__name__}"] += 1
            return
        self.running.append((ask, terms, number))
        self.held += _hold(terms)
        self._within_budget()
        while len(self.running) > self.rng.randint(0, _IN_FLIGHT):
            self._finish(*self.running.pop(self.rng.randrange(len(self.running))))

    def end(self) -> None:
        """Finish the rest, and compare the budget with the invoices."""
        while self.running:
            self._finish(*self.running.pop())
        self._within_budget()
        self.sums.expect(self._balance()["settled"] == self.invoices, "settled is not the invoices")
        self.sums.expect(self.invoices <= self.held, "invoices exceed holds")
        self.sums.expect(self.invoices <= nano_usd(self.budget), "invoices exceed the budget")
        self.sums.count["invoices_nano_usd"] += self.invoices
        self.sums.count["holds_nano_usd"] += self.held

    def _finish(self, ask: Ask, terms: AdmissionRequest, number: int) -> None:
        price = _as_read_from_the_log(terms, ask).price
        assert price is not None
        served = serve(self.rng, ask, self.model, in_force(self.model, ask.day))
        invoice = invoice_nano_usd(
            self.model, ask.day, served.billed_tier, served.backend, served.use
        )
        raw = msgspec.Raw(msgspec.json.encode(served.usage))
        counts, tier = told(raw, served.told_tier)
        assert counts is not None
        asked = ask.reach.service_tier if ask.reach else None
        cost = used(price, as_asked(counts, ask.reach), serving(tier, asked), served.backend)
        what = f"{self.model} {ask} {served}: invoice {invoice}, cost {cost}, hold {_hold(terms)}"
        self.sums.expect(cost == invoice, what)
        self.sums.expect(invoice <= _hold(terms), what)
        self.sums.count["finished"] += 1
        self.invoices += invoice
        self._settle(f"r{number}", cost or 0, _ms(ask.day) * 1_000)

    def _settle(self, request_id: str, cost: int, now_us: int) -> None:
        start = Start(org="acme", req=request_id, owner="d1", lease_ms=15_000)
        claimed = self.ledger.start(start, now_us)
        assert isinstance(claimed, answers.Fence)
        finish = Finish(
            org="acme", req=request_id, fence=claimed.fence, actual={"nano_usd": cost, "tokens": 0}
        )
        self.ledger.finish(finish, b"", now_us)

    def _balance(self) -> Mapping[str, int]:
        return self.ledger.limits.balances["acme", "b:org/nano_usd:total"]

    def _within_budget(self) -> None:
        balance = self._balance()
        taken = balance["settled"] + balance["reserved"]
        self.sums.expect(taken <= nano_usd(self.budget), f"{taken} of {self.budget} USD taken")


def compare(seed: int, requests: int) -> Sums:
    """Run so many requests, a hundred for each price list."""
    rng, sums = random.Random(seed), Sums()
    for first in range(0, requests, _PER_WORLD):
        world = _world(rng, sums)
        for number in range(first, min(first + _PER_WORLD, requests)):
            world.request(number)
        world.end()
    sums.count["requests"] = requests
    return sums


def _world(rng: random.Random, sums: Sums) -> _World:
    while True:
        model, budget = random_model(rng), rng.choice(_BUDGETS)
        entity = parse_entity("model", msgspec.json.encode(model))
        if isinstance(entity, Model):
            break
        sums.count["price lists refused"] += 1
    limits = Limits(budgets=(Budget(usd=budget, period="total"),))
    return _World(rng, sums, model, budget, configuration(org=limits, model=entity))


def _as_read_from_the_log(terms: AdmissionRequest, ask: Ask) -> RequestAdmitted:
    """The admission as the dispatcher has it: through the ledger's text and the log's bytes."""
    request = as_read(accepted(reach=ask.reach))
    event = decoded_terms(terms.admit.terms).event(request, answers.Admitted())
    return decode_as(encode(event), RequestAdmitted)


def _hold(terms: AdmissionRequest) -> int:
    return next(each.amount for each in terms.admit.balances if each.key == "b:org/nano_usd:total")


def _ms(day: str) -> int:
    return int(datetime.fromisoformat(day).replace(tzinfo=UTC).timestamp() * 1_000)
