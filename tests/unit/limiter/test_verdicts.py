"""From a verdict of the budget service to a term of admission, and from its refusal to what a client is told."""

from __future__ import annotations

import pytest

from limiter_worker.external_budget.verdicts import (
    POLICY_DENIED,
    Verdict,
    balance_of,
    by_policy,
    denial_of,
    is_of_service,
    scope_of,
    verdict_of,
)
from schemas.budget_service import Allow, Deny
from schemas.entities import BudgetService
from schemas.money import MAX_NANO_USD

USD = 10**9


def test_a_remainder_stands_beside_what_the_service_has_counted() -> None:
    """Ten left of twenty, seven of which the gateway spent: seventeen may be on its balance."""
    answer = Allow(limit_type="budget", current_usage="10", limit="20", remaining_usd="10")
    verdict = verdict_of(answer, "org", 7 * USD)
    term = balance_of(verdict, 5)

    assert (term.key, term.limit, term.amount) == ("b:service/org/nano_usd:total", 17 * USD, 5)
    assert (term.start_ms, term.end_ms) == (0, None)
    assert verdict.decision == "allow"


def test_a_refusal_by_a_remainder_is_told_in_the_figures_of_the_service() -> None:
    """Of seventeen on the balance the service counts twenty, of which it had counted ten when seven were told."""
    answer = Allow(limit_type="budget", current_usage="10", limit="20", remaining_usd="10")
    term = balance_of(verdict_of(answer, "org", 7 * USD), 1)
    denial = denial_of(term.id, 16 * USD, 17 * USD, 250)

    assert (denial.limit_type, denial.unit) == ("budget", "nano_usd")
    assert (denial.current_usage, denial.limit) == (19 * USD, 20 * USD)
    assert denial.limit_id == "budget_service:remainder:asked"
    assert denial.retry_after_ms == 250


def test_without_a_limit_the_remainder_is_the_limit_that_is_told() -> None:
    term = balance_of(verdict_of(Allow(remaining_usd="3"), "org", 7 * USD), 1)
    denial = denial_of(term.id, 9 * USD, 10 * USD, None)

    assert (denial.current_usage, denial.limit) == (2 * USD, 3 * USD)


def test_an_allowed_request_without_a_bound_is_held_all_the_same() -> None:
    """So that a remainder that comes later has it."""
    term = balance_of(verdict_of(Allow(), "key/k1", 0), 9)

    assert (term.key, term.limit, term.id) == ("b:service/key/k1/nano_usd:total", None, "")
    assert term.amount == 9


def test_a_denial_is_a_limit_that_nothing_meets() -> None:
    """Also not what costs nothing; and it is told as the service said it."""
    answer = Deny(limit_type="quota", current_usage="99", limit="100", retry_after=30)
    term = balance_of(verdict_of(answer, "org", 0).again("cached"), 0)
    denial = denial_of(term.id, 5, term.limit or 0, None)

    assert term.limit == -MAX_NANO_USD
    assert is_of_service(term.id)
    assert (denial.limit_id, denial.limit_type) == ("budget_service:deny:cached", "quota")
    assert (denial.unit, denial.current_usage, denial.limit) == ("requests", 99, 100)
    assert denial.retry_after_ms == 30_000


@pytest.mark.parametrize("said", ["-3", "-" + "9" * 24])
def test_a_remainder_that_is_overdrawn_lets_nothing_through(said: str) -> None:
    term = balance_of(verdict_of(Allow(remaining_usd=said), "org", 3 * USD), 1)

    assert term.limit is not None
    assert term.limit <= 0


def test_a_huge_remainder_is_what_the_ledger_can_count() -> None:
    term = balance_of(verdict_of(Allow(remaining_usd="9" * 24), "org", 3 * USD), 1)

    assert term.limit == MAX_NANO_USD


LAST = Verdict("cached", "org", ceiling_nano_usd=5)


@pytest.mark.parametrize(
    ("while_down", "last", "decision", "source"),
    [
        ("allow", None, "allow", "policy"),
        ("allow", LAST, "allow", "policy"),
        ("deny", LAST, "deny", "policy"),
        ("last_known", LAST, "allow", "last_known"),
        ("last_known", None, "deny", "policy"),
    ],
)
def test_while_the_service_is_silent_the_policy_holds(
    while_down: str, last: Verdict | None, decision: str, source: str
) -> None:
    """Of whom nothing is known, nothing is guessed."""
    stated = BudgetService(while_down=while_down)  # type: ignore[arg-type]
    verdict = by_policy(stated, "k1", last)

    assert (verdict.decision, verdict.source) == (decision, source)
    assert verdict.ceiling_nano_usd == (5 if source == "last_known" else None)


def test_a_policy_that_denies_has_a_name_of_its_own() -> None:
    """It is no spent budget, so nobody is told that it were one."""
    term = balance_of(by_policy(BudgetService(while_down="deny"), "k1", None), 1)

    assert denial_of(term.id, 0, 0, None).limit_id == POLICY_DENIED


def test_whose_spend_counts_is_stated() -> None:
    per_key = BudgetService(while_down="deny", remainder_of="key")

    assert scope_of(BudgetService(while_down="deny"), "k1") == "org"
    assert scope_of(per_key, "k1") == "key/k1"
